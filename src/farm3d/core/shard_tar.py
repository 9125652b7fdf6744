"""The tar inside a shard: members ``KEY.EXT``, those of one key side by side, as WebDataset has them, and nothing else that tars can hold.

Written by hand from headers, so that equal samples are equal bytes; read header by header, so that links, folders, devices, long names and
compression are refused before anything is done with them.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from farm3d.core.errors import InputError

__all__ = ["EXTENSIONS", "MAX_MEMBER_BYTES", "Member", "contents_of", "end_of_tar", "sample_bytes", "samples_in"]

EXTENSIONS = frozenset(
    {"json", "txt", "rgb.png", "rgb.jpg", "mask.png", "depth.png", "normals.png", "albedo.png", "mesh.safetensors", "features.safetensors"}
)
"""What a member of a sample may be; reading them runs no code."""

MAX_MEMBER_BYTES = 256 << 20

_MEMBER = re.compile(r"([A-Za-z0-9_-]+)\.([a-z0-9]+(?:\.[a-z0-9]+)*)")
"""A member's name: the key, which has no dot, and the extension, which may. No folders, so nothing can lie elsewhere."""


class Member(NamedTuple):
    """One file in a tar: its data are ``size`` bytes from ``offset`` on."""

    extension: str
    offset: int
    size: int


def sample_bytes(key: str, members: Mapping[str, bytes], where: str) -> bytes:
    """Return a sample as it lies in the tar: headers, members in the order of their extensions, and padding to blocks of 512 bytes.

    Headers are POSIX ustar, owned by nobody, from 1970 and ``rw-r--r--``. ``where`` is for messages.

    Raises:
        ValueError: no members, a key or an extension that no shard may have, or a member above 256 MiB.
    """
    if not members:
        raise ValueError(f"{where}: no members")
    pieces = []
    for extension, data in sorted(members.items()):
        header = tarfile.TarInfo(f"{key}.{extension}")
        header.size = len(data)
        found = _MEMBER.fullmatch(header.name)
        if not found or found[1] != key or extension not in EXTENSIONS or len(header.name) > tarfile.LENGTH_NAME:
            raise ValueError(f"{where}: member {header.name!r}: expected KEY.EXT with letters, digits, - and _, and a known extension")
        if header.size > MAX_MEMBER_BYTES:
            raise ValueError(f"{where}: member {header.name!r}: {header.size} bytes are more than {MAX_MEMBER_BYTES}")
        pieces += [header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
    return b"".join(pieces)


def end_of_tar(offset: int) -> bytes:
    """Return what ends a tar whose members end at ``offset``: two blocks of zeros, and zeros up to a whole record of 10240 bytes."""
    least = 2 * tarfile.BLOCKSIZE
    return bytes(least + -(offset + least) % tarfile.RECORDSIZE)


def samples_in(
    file: BinaryIO,
    path: Path,
    *,
    extensions: Collection[str] = EXTENSIONS,
    strict: bool = True,
    seen: set[str] | None = None,
    begin: int = 0,
    end: int | None = None,
) -> Iterator[tuple[str, list[Member], int, int]]:
    """Yield key, members, first byte and end of each sample of an open tar, or of its part from ``begin`` to ``end``.

    Keys go into ``seen``, and none may be there already. ``path`` is for messages. The position of ``file`` is free between samples.

    Raises:
        InputError: as in :func:`farm3d.core.shard_reader.read_shards`.
    """
    seen = set() if seen is None else seen
    key, members, key_begin, key_end = None, [], begin, begin
    for name, member, member_begin, member_end in _members(file, path, begin, end):
        found = _MEMBER.fullmatch(name)
        if not found:
            raise InputError(f"{path}: member {name!r}: not a name of the form KEY.EXT without folders")
        if found[1] != key:
            if key is not None:
                yield key, members, key_begin, key_end
            key, members, key_begin = found[1], [], member_begin
            if key in seen:
                raise InputError(f"{path}: member {name!r}: its key came before: a sample twice, or its members not side by side")
            seen.add(key)
        if any(member.extension == found[2] for member in members):
            raise InputError(f"{path}: member {name!r}: there twice")
        key_end = member_end
        if found[2] in extensions:
            members.append(member._replace(extension=found[2]))
        elif strict:
            raise InputError(f"{path}: member {name!r}: not one of the extensions {', '.join(sorted(extensions))}")
    if key is not None:
        yield key, members, key_begin, key_end


def _members(file: BinaryIO, path: Path, begin: int, end: int | None) -> Iterator[tuple[str, Member, int, int]]:
    """Yield name, member, first byte of its header and end of its padding; a whole tar (no ``end``) has to end as tars do."""
    size = os.fstat(file.fileno()).st_size
    offset = begin
    while end is None or offset < end:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            raise InputError(f"{path}: truncated at byte {offset}: the end mark is missing")
        if not any(block):
            _require_end(file, path, offset)
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: no tar header at byte {offset}: damaged, or no plain tar") from error
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise InputError(f"{path}: member {header.name!r}: a link, folder, device or extended header, not a plain file")
        if not 0 <= header.size <= MAX_MEMBER_BYTES:
            raise InputError(f"{path}: member {header.name!r}: {header.size} bytes are not between 0 and {MAX_MEMBER_BYTES}")
        data = offset + tarfile.BLOCKSIZE
        following = data + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if following > size:
            raise InputError(f"{path}: member {header.name!r}: truncated")
        yield header.name, Member("", data, header.size), offset, following
        offset = following


def _require_end(file: BinaryIO, path: Path, offset: int) -> None:
    """Check that after a first block of zeros (already read) at least one more comes, and nothing else."""
    rest = 0
    while block := file.read(1 << 20):
        if any(block):
            raise InputError(f"{path}: something stands behind the end mark at byte {offset}")
        rest += len(block)
    if rest < tarfile.BLOCKSIZE:
        raise InputError(f"{path}: truncated at byte {offset}: the end mark is incomplete")


def contents_of(file: BinaryIO, members: list[Member], path: Path) -> dict[str, bytes]:
    """Read members that :func:`samples_in` found, by extension.

    Raises:
        InputError: the file became shorter meanwhile.
    """
    contents = {}
    for member in members:
        file.seek(member.offset)
        contents[member.extension] = file.read(member.size)
        if len(contents[member.extension]) < member.size:
            raise InputError(f"{path}: truncated while it was read")
    return contents
