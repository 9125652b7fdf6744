"""``farm3d barn`` as it is typed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from farm3d.apps.cli import main

MAKE = ["--size-px", "48", "--per-individual", "4", "--per-shard", "4", "--truth", "light"]


def made(folder: Path, count: int = 8, workers: int = 1, species: str = "fox") -> int:
    return main(["barn", "make", species, "--out", str(folder), "--count", str(count), "--workers", str(workers), *MAKE])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def barn(rig_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("barn")
    assert made(folder) == 0
    return folder


def test_two_runs_and_two_workers_give_equal_bytes(barn: Path, tmp_path: Path) -> None:
    assert made(tmp_path, workers=2) == 0
    assert contents(tmp_path) == contents(barn)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert made(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(os.name != "posix", reason="no POSIX signals on this system")
def test_killed_and_resumed_gives_equal_bytes(barn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farm3d", "barn", "make", "fox", "--out", str(tmp_path), "--count", "8", "--workers", "1", *MAKE]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None and not list(tmp_path.glob("*.tar")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert made(tmp_path) == 0
    assert contents(tmp_path) == contents(barn)


def test_look_draws_a_labelled_grid(barn: Path, tmp_path: Path) -> None:
    target = tmp_path / "look.png"
    assert main(["barn", "look", str(barn), "--out", str(target), "--count", "6", "--columns", "3", "--keypoints"]) == 0
    with Image.open(target) as picture:
        assert picture.width == 3 * 48 and picture.height > 2 * 48


def test_check_passes_what_is_whole_and_names_what_is_not(barn: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["barn", "check", str(barn)]) == 0
    for path in barn.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tar = tmp_path / "fox-train-000001.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 4
    tar.write_bytes(data)
    capsys.readouterr()
    assert main(["barn", "check", str(tmp_path)]) == 2
    told = capsys.readouterr().out
    assert "fox-train-000001" in told and len(told.splitlines()) <= 2


@pytest.mark.parametrize(
    "words",
    [
        ["make", "unicorn", "--out", "X"],
        ["make", "fox", "--out", "X", "--size-px", "7"],
        ["make", "fox", "--out", "X", "--truncated", "2"],
        ["make", "fox", "--out", "X", "--count", "0"],
        ["make", "fox", "--out", "X", "--split", "holiday"],
        ["make", "fox", "--out", "X", "--workers", "0"],
        ["look", "nowhere", "--out", "X.png"],
        ["look", ".", "--out", "X.png", "--count", "0"],
        ["check", "nowhere"],
    ],
)
def test_bad_words_end_with_two_and_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, rig_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["barn", *words]) == 2
    out, err = capfd.readouterr()
    assert len((out + err).strip().splitlines()) == 1 and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_another_recipe_in_one_folder_is_refused(barn: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(barn)
    assert main(["barn", "make", "fox", "--out", str(barn), "--count", "8", "--workers", "1", "--seed", "3", *MAKE]) == 2
    assert "seed" in capsys.readouterr().err and contents(barn) == before
