"""Files are whole or absent: after success, after an error in the middle, on a full disk, in a folder that cannot be written."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farm3d.core.errors import OutputError
from farm3d.core.files import cache_folder, remove_leftovers, sha256_of, user_path, whole_file, write_whole


def test_writes_bytes_and_text_and_makes_folders(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "deep" / "a.bin", b"\x00\xff")
    write_whole(tmp_path / "b.txt", "héllo")
    assert (tmp_path / "new" / "deep" / "a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b.txt").read_text(encoding="utf-8") == "héllo"


def test_the_temporary_name_keeps_the_suffix_and_lies_beside(tmp_path: Path) -> None:
    with whole_file(tmp_path / "film.mp4") as part:
        assert part.suffix == ".mp4" and part.parent == tmp_path and part.name.startswith(".")
        assert not (tmp_path / "film.mp4").exists()
        part.write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_names_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    """File systems count bytes: a temporary name longer than the final one must not be what fails."""
    for stem in ("x" * 251, "馬" * 83):
        write_whole(tmp_path / f"{stem}.glb", b"whole")
        assert (tmp_path / f"{stem}.glb").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.glb"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / "big.bin", b"x" * 20_000)
    assert "big.bin: cannot write" in str(caught.value) and caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, full_disk: None) -> None:
    write_whole(tmp_path / "big.bin", b"small")
    with pytest.raises(OutputError):
        write_whole(tmp_path / "big.bin", b"x" * 20_000)
    assert (tmp_path / "big.bin").read_bytes() == b"small"


@pytest.mark.parametrize("below", ["file/x.glb", "file/deep/x.glb"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write here"):
        write_whole(tmp_path / below, b"x")


def test_a_folder_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write anywhere (root): a closed folder cannot be made")
    with pytest.raises(OutputError, match="cannot write here"):
        write_whole(folder / "x.glb", b"x")


def test_the_name_is_taken_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.glb").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_whole(tmp_path / "x.glb", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.glb"]


def test_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_user_whom_the_system_does_not_know_has_the_root_for_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "FARM3D_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where neither HOME nor the list of users knows more
    assert cache_folder() == Path("/.cache/farm3d")
    assert user_path(Path("~", ".u2net")) == Path("/.u2net")
    monkeypatch.setenv("FARM3D_HOME", "/models")
    assert cache_folder() == Path("/models")


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".animal.{dead.pid}-abc.part.glb"
    living = tmp_path / f".animal.{os.getpid()}-abc.part.glb"
    other = tmp_path / f".beast.{dead.pid}-abc.part.glb"
    for path in (left, living, other):
        path.touch()
    write_whole(tmp_path / "animal.glb", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"animal.glb", living.name, other.name}


def test_leftovers_are_found_for_many_files_at_once_and_nothing_else_is_touched(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stems = ["a", "mare.2024", "a\nb", "馬" * 70]
    left = [tmp_path / f".{stem.encode()[:60].decode('utf-8', 'ignore')}.{dead.pid}-x_1.part.glb" for stem in stems]
    kept = [
        tmp_path / name for name in (f".b.{dead.pid}-x.part.glb", f".a.{dead.pid}-x.part.png", ".a.part.glb", f"a.{dead.pid}-x.part.glb")
    ]
    for path in (*left, *kept):
        path.touch()
    remove_leftovers(tmp_path / f"{stem}.glb" for stem in stems)
    assert set(tmp_path.iterdir()) == set(kept)
    remove_leftovers([tmp_path / "nowhere" / "a.glb"])
