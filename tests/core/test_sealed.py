"""A sealed folder with folders in it: whole or absent, nothing foreign, names that cannot leave it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm3d.core.errors import ModelError, OutputError
from farm3d.core.sealed import MANIFEST, SealedFolder, parse_json, write_sealed
from farm3d.core.tensor_bytes import bytes_from_tensors, expect_tensors, tensors_from_bytes

SEAL = {"form": "farm3d-test", "version": 3, "kind": "Things"}
CONTENTS = {"index.json": b"{}", "unet/config.json": b'{"a": 1}', "unet/model.safetensors": b"\x00\x01"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sealed(tmp_path / "things", CONTENTS, **SEAL)
    return tmp_path / "things"


def test_round_trip(folder: Path) -> None:
    sealed = SealedFolder(folder, names=CONTENTS, **SEAL)
    assert {name: sealed.read(name) for name in sealed.names} == CONTENTS
    write_sealed(folder.parent / "again", dict(reversed(CONTENTS.items())), **SEAL)
    assert SealedFolder(folder.parent / "again", **SEAL).digest == sealed.digest
    changed = {**CONTENTS, "index.json": b"[]"}
    write_sealed(folder, changed, **SEAL)
    assert SealedFolder(folder, **SEAL).digest != sealed.digest


def test_it_is_what_it_says(folder: Path) -> None:
    for changes, words in (
        ({"form": "farm3d-other"}, "not the manifest of a farm3d other"),
        ({"version": 4}, "format version 3, expected 4"),
        ({"kind": "Others"}, "of kind 'Things', expected 'Others'"),
        ({"names": ["index.json"]}, "damaged"),
    ):
        with pytest.raises(ModelError, match=words):
            SealedFolder(folder, **{**SEAL, **changes})
    with pytest.raises(ModelError, match="nothing.txt: missing"):
        SealedFolder(folder, **SEAL).read("nothing.txt")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b/c", ".hidden", "a/../b", "", MANIFEST])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        write_sealed(tmp_path / "things", {name: b""}, **SEAL)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_names_what_lies_outside_is_refused(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"unet/config.json", b"../../etc/passwd"))
    with pytest.raises(ModelError, match="damaged"):
        SealedFolder(folder, **SEAL)


def test_what_was_peeked_is_checked_when_read(folder: Path) -> None:
    (folder / "index.json").write_bytes(b"[]")
    sealed = SealedFolder(folder, **SEAL)
    assert sealed.peek("index.json") == b"[]"
    with pytest.raises(ModelError, match="changed since it was written"):
        sealed.read("index.json")


def test_other_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    with pytest.raises(OutputError, match="is not a pipeline folder"):
        write_sealed(tmp_path / "precious", CONTENTS, what="pipeline folder", **SEAL)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("{}", "exists and is not a"),
        ('{"name": "a web page", "icons": []}', "exists and is not a"),
        ('{"format": "FORM", "kind": "Things", "files": [1]}', "exists and is not a"),
        ('{"format": "FORM", "kind": "another", "files": {}}', "holds a model of kind 'another'"),
    ],
)
def test_folders_with_a_manifest_of_their_own_are_not_replaced(tmp_path: Path, manifest: str, words: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / MANIFEST).write_text(manifest.replace("FORM", SEAL["form"]))
    (tmp_path / "app" / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match=words):
        write_sealed(tmp_path / "app", CONTENTS, **SEAL)
    assert (tmp_path / "app" / "thesis.txt").read_text() == "years"


def test_a_file_of_someone_else_is_not_lost(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds notes\.txt, which is no part"):
        write_sealed(folder, CONTENTS, **SEAL)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    write_sealed(folder, {"index.json": b"{}"}, **SEAL)
    assert [path.name for path in sorted(folder.iterdir())] == ["index.json", MANIFEST]


def test_json_with_a_key_twice_is_refused() -> None:
    assert parse_json(Path("x"), b'{"a": [1]}') == {"a": [1]}
    for bad in (b'{"a": 1, "a": 2}', b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(ModelError, match="x: not readable as JSON"):
            parse_json(Path("x"), bad)


def test_tensors_are_finite_both_ways() -> None:
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.bfloat16)}
    data = bytes_from_tensors(tensors, where="here")
    assert data == bytes_from_tensors(dict(reversed(tensors.items())), where="here")
    back = tensors_from_bytes(data, where="here")
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tensors.items())
    expect_tensors(back, {"a": (2,), "b": (3,)}, where="here")
    with pytest.raises(ModelError, match="here: tensor 'c'"):
        bytes_from_tensors({"c": torch.tensor([float("inf")])}, where="here")
    with pytest.raises(ModelError, match="here: not a safetensors file"):
        tensors_from_bytes(data[:-3], where="here")
