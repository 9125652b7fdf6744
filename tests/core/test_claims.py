"""A claim is one worker's, whichever way the system keeps it, and never outlives its worker."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from farm3d.core import claims
from farm3d.core.claims import claimed
from farm3d.core.errors import OutputError


@pytest.fixture(params=["locks", "files"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to keep a claim; the second is the one of systems without file locks."""
    if request.param == "files":
        monkeypatch.setattr(claims, "fcntl", None)
    elif claims.fcntl is None:
        pytest.skip("this system has no file locks (no module fcntl)")
    return request.param


def test_one_holder_and_no_file_afterwards(tmp_path: Path, way: str) -> None:
    path = tmp_path / "new" / "x.lock"
    with claimed(path) as first:
        assert first is not None
        first.renew()
        with claimed(path) as second, claimed(tmp_path / "y.lock") as other:
            assert second is None and other is not None
        with claimed(path) as third:
            assert third is None, "a refused claim must not take the holder's away"
    assert list(path.parent.iterdir()) == []
    with claimed(path) as again:
        assert again is not None


def test_given_up_by_an_error(tmp_path: Path, way: str) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "x.lock"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_never_two_at_once(tmp_path: Path, way: str) -> None:
    """Claimed and released in quick turns: also the file that is removed while another opens it is safe."""
    inside, most, taken = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, taken
        for _ in range(150):
            with claimed(tmp_path / "x.lock") as claim:
                if claim is None:
                    continue
                with guard:
                    inside += 1
                    taken += 1
                    most = max(most, inside)
                time.sleep(0)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and taken > 0
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_lost_its_name_is_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last holder removes the file after we opened it and before we lock it: the next worker would lock a new one beside us."""
    fcntl = pytest.importorskip("fcntl", reason="this system has no file locks")
    flock, path, calls = fcntl.flock, tmp_path / "x.lock", []

    def late(handle: int, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(handle)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(path) as claim, claimed(path) as second:
        assert claim is not None and second is None and len(calls) == 3


def test_a_killed_holder_blocks_nobody(tmp_path: Path, way: str) -> None:
    program = (
        "import sys, time; from pathlib import Path; from farm3d.core import claims\n"
        f"if {way == 'files'}: claims.fcntl = None\n"
        "with claims.claimed(Path(sys.argv[1])) as claim: print(claim is not None, flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    with claimed(path) as claim:
        assert claim is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert len(list(tmp_path.iterdir())) == 1, "it had no time to tidy up"
    with claimed(path) as claim:
        assert claim is not None
    assert list(tmp_path.iterdir()) == []


def test_a_worker_on_another_machine_is_believed_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "fcntl", None)
    file = tmp_path / "x.lock.held"
    for text in ("elsewhere\n1\nabc\n", ""):  # the second: created, not filled yet
        file.write_text(text)
        with claimed(tmp_path / "x.lock") as claim:
            assert claim is None
        os.utime(file, (1, time.time() - 3700))
        with claimed(tmp_path / "x.lock") as claim:
            assert claim is not None
        assert not file.exists()


def test_renewing_is_what_keeps_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "fcntl", None)
    file = tmp_path / "x.lock.held"
    with claimed(tmp_path / "x.lock") as claim:
        assert claim is not None and file.read_text().startswith(f"{platform.node()}\n{os.getpid()}\n")
        os.utime(file, (1, 1))
        claim.renew()
        assert file.stat().st_mtime > time.time() - 60
        file.write_text("elsewhere\n1\nabc\n")
        with pytest.raises(OutputError, match="another worker took this over"):
            claim.renew()
    assert file.exists(), "what another holds stays"


def test_a_folder_without_locks_is_served_by_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system has no file locks")

    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with claimed(tmp_path / "x.lock") as claim:
        assert claim is not None and [path.name for path in tmp_path.iterdir()] == ["x.lock.held"]
        with claimed(tmp_path / "x.lock") as second:
            assert second is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write here"), claimed(tmp_path / "file" / "x.lock"):
        pass
