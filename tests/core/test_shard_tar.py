"""The tar that we write is one that others read, always of the same bytes; and of the tars that others write only such are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.testing.samples import draw

from farm3d.core import shard_tar
from farm3d.core.errors import InputError
from farm3d.core.shard_tar import EXTENSIONS, contents_of, end_of_tar, sample_bytes, samples_in

Samples = dict[str, dict[str, bytes]]


def tar_of(samples: Samples) -> bytes:
    data = b"".join(sample_bytes(key, members, "test") for key, members in samples.items())
    return data + end_of_tar(len(data))


def read(path: Path, **options) -> Samples:
    with path.open("rb") as file:
        return {key: contents_of(file, members, path) for key, members, _, _ in samples_in(file, path, **options)}


KEYS = st.text("abcXYZ019_-", min_size=1, max_size=60)
MEMBERS = st.dictionaries(st.sampled_from(sorted(EXTENSIONS)), st.binary(max_size=1200), min_size=1)


@settings(deadline=None)
@given(st.dictionaries(KEYS, MEMBERS, max_size=4))
def test_what_is_written_is_read_by_us_and_by_tarfile(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(tar_of(samples))
    assert path.stat().st_size % tarfile.RECORDSIZE == 0
    assert read(path) == samples
    with tarfile.open(path, "r:") as tar:
        entries = tar.getmembers()
        assert {(e.mode, e.uid, e.gid, e.uname, e.gname, e.mtime, e.type) for e in entries} <= {(0o644, 0, 0, "", "", 0, tarfile.REGTYPE)}
        members = {e.name: tar.extractfile(e) for e in entries}
        assert {name: file.read() for name, file in members.items() if file} == {
            f"{key}.{extension}": data for key, sample in samples.items() for extension, data in sample.items()
        }


def test_the_bytes_are_the_same_in_every_version() -> None:
    """Data sets made by one release have to be gone on with by the next."""
    data = tar_of(dict(draw(number) for number in range(5)))
    assert hashlib.sha256(data).hexdigest() == "aa1c7c711f10c0e6b7227ea4f5fd746beae2b5da86ede414189db9c37c96b195"


def test_members_lie_in_the_order_of_their_names() -> None:
    members = {"txt": b"1", "json": b"2", "rgb.png": b"3"}
    assert sample_bytes("k", members, "") == sample_bytes("k", dict(sorted(members.items())), "")


def test_the_systems_tar_agrees(tmp_path: Path) -> None:
    program = shutil.which("tar") or pytest.skip("no program tar on this system")
    (tmp_path / "x.tar").write_bytes(tar_of({"b": {"txt": b"1", "json": b""}, "a": {"txt": b"x" * 600}}))
    done = subprocess.run([program, "-tf", tmp_path / "x.tar"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b.json", "b.txt", "a.txt"] and done.stderr == ""


@pytest.mark.parametrize(
    "key, members",
    [
        ("k", {}),
        ("", {"txt": b""}),
        ("a.b", {"txt": b""}),
        ("../a", {"txt": b""}),
        ("a/b", {"txt": b""}),
        ("é", {"txt": b""}),
        ("k\n", {"txt": b""}),
        ("k" * 97, {"txt": b""}),
        ("k", {"exe": b""}),
        ("k", {"": b""}),
    ],
)
def test_samples_that_no_shard_may_have(key: str, members: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="sample 3"):
        sample_bytes(key, members, "sample 3")


def test_members_too_large_are_neither_written_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of({"k": {"txt": b"x" * 100}}))
    monkeypatch.setattr(shard_tar, "MAX_MEMBER_BYTES", 99)
    with pytest.raises(ValueError, match="100 bytes are more than 99"):
        sample_bytes("k", {"txt": b"x" * 100}, "")
    with pytest.raises(InputError, match=r"x\.tar: member 'k\.txt': 100 bytes"):
        read(tmp_path / "x.tar")


def foreign(add: Callable[[tarfile.TarFile], object], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar that the library wrote: one good sample, then what ``add`` adds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        put(tar, "good.txt")
        add(tar)
    return buffer.getvalue()


def put(tar: tarfile.TarFile, name: str, data: bytes = b"x", **fields: object) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    for field, value in fields.items():
        setattr(header, field, value)
    tar.addfile(header, io.BytesIO(data))


def header_of(size: bytes) -> bytes:
    """A header for ``k.txt`` with any size field and a checksum that fits."""
    block = bytearray(tarfile.TarInfo("k.txt").tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


NOT_PLAIN = "not a plain file"
NO_NAME = "not a name of the form"
REFUSED = {
    "symlink": (foreign(lambda tar: put(tar, "bad.txt", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")), NOT_PLAIN),
    "hardlink": (foreign(lambda tar: put(tar, "bad.txt", b"", type=tarfile.LNKTYPE, linkname="good.txt")), NOT_PLAIN),
    "folder": (foreign(lambda tar: put(tar, "bad.txt", b"", type=tarfile.DIRTYPE)), NOT_PLAIN),
    "device": (foreign(lambda tar: put(tar, "bad.txt", b"", type=tarfile.CHRTYPE)), NOT_PLAIN),
    "fifo": (foreign(lambda tar: put(tar, "bad.txt", b"", type=tarfile.FIFOTYPE)), NOT_PLAIN),
    "sparse": (foreign(lambda tar: put(tar, "bad.txt", b"", type=tarfile.GNUTYPE_SPARSE)), NOT_PLAIN),
    "long name": (foreign(lambda tar: put(tar, "bad" * 50 + ".txt"), tarfile.GNU_FORMAT), NOT_PLAIN),
    "pax header": (foreign(lambda tar: put(tar, "bad.txt", mtime=0.5), tarfile.PAX_FORMAT), NOT_PLAIN),
    "upwards": (foreign(lambda tar: put(tar, "../bad.txt")), NO_NAME),
    "absolute": (foreign(lambda tar: put(tar, "/bad.txt")), NO_NAME),
    "in a folder": (foreign(lambda tar: put(tar, "deep/bad.txt")), NO_NAME),
    "another system's folder": (foreign(lambda tar: put(tar, "deep\\bad.txt")), NO_NAME),
    "hidden": (foreign(lambda tar: put(tar, ".bad.txt")), NO_NAME),
    "dots": (foreign(lambda tar: put(tar, "bad..txt")), NO_NAME),
    "no extension": (foreign(lambda tar: put(tar, "bad")), NO_NAME),
    "letters": (foreign(lambda tar: put(tar, "bäd.txt")), "no tar header"),
    "unknown extension": (foreign(lambda tar: put(tar, "bad.pkl")), "not one of the extensions"),
    "member twice": (foreign(lambda tar: put(tar, "good.txt")), "there twice"),
    "key apart": (foreign(lambda tar: [put(tar, name) for name in ("other.txt", "good.json")]), "its key came before"),
    "too large": (header_of(b"77777777777\0") + bytes(2048), "bytes are not between"),
    "negative": (header_of(b"\xff" * 12) + bytes(2048), "bytes are not between"),
    "far beyond": (header_of(b"\x80" + b"\x01" * 11) + bytes(2048), "bytes are not between"),
    "no size": (header_of(b"zzzzzzzzzzz\0") + bytes(2048), "no tar header"),
    "shorter than said": (header_of(b"00000010000\0") + bytes(2048), "truncated"),
    "compressed": (gzip.compress(tar_of({"k": {"txt": b"x"}}) * 3), "no tar header|truncated"),
    "text": (b"<!doctype html>" * 100, "no tar header"),
    "empty": (b"", "truncated"),
    "one block of zeros": (sample_bytes("k", {"txt": b"x"}, "") + bytes(512), "end mark is incomplete"),
    "something behind": (tar_of({"k": {"txt": b"x"}}) + b"x", "behind the end mark"),
    "two tars in one": (tar_of({"k": {"txt": b"x"}}) + tar_of({"l": {"txt": b"x"}}), "behind the end mark"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    data, words = REFUSED[case]
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "x.tar")
    assert caught.value.message.startswith(f"{tmp_path / 'x.tar'}: ") and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_what_a_library_wrote_plainly_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(foreign(lambda tar: put(tar, "more.rgb.png", b"y" * 700), tarfile.PAX_FORMAT))
    assert read(tmp_path / "x.tar") == {"good": {"txt": b"x"}, "more": {"rgb.png": b"y" * 700}}


def test_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    data = tar_of(dict(draw(number) for number in range(2)))
    end = len(data.rstrip(b"\0"))
    lengths = {*range(0, end, 256), *random.Random(0).sample(range(end), 50)}
    for length in lengths:
        (tmp_path / "x.tar").write_bytes(data[:length])
        with pytest.raises(InputError, match="truncated"):
            read(tmp_path / "x.tar")


def test_damaged_bytes_raise_nothing_else(tmp_path: Path) -> None:
    """A damaged tar is read as far as its headers fit, or refused; it never ends in another error."""
    data = tar_of(dict(draw(number) for number in range(3)))
    chance, refused = random.Random(1), 0
    for _ in range(400):
        changed = bytearray(data)
        block = chance.randrange(len(data) // 512) * 512
        for _ in range(chance.choice((1, 3))):
            changed[block + chance.randrange(512)] = chance.randrange(256)
        (tmp_path / "x.tar").write_bytes(changed)
        try:
            read(tmp_path / "x.tar")
        except InputError:
            refused += 1
    assert refused > 50
