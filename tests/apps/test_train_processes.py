"""``farm3d train`` under torchrun and ``accelerate launch``: two processes, one model, one set of traces."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.testing.train_words import words_for

from farm3d.apps.cli import main


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.mark.slow
def test_two_processes_stop_together_and_make_the_model_of_one(category_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'farm3d[distributed]'")
    steps = 8
    words = ["-m", "farm3d", *words_for(category_data, tmp_path / "two", steps), "--checkpoint-minutes", "0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    process = subprocess.Popen([*torchrun, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not list(tmp_path.glob("two/state/checkpoints/step-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert told.count("the same command goes on from there") == 1, told
    assert not (tmp_path / "two" / "model").exists()

    places = ["--multi_gpu", "--num_processes", "2", "--main_process_port", free_port()]  # without a GPU too, it is torchrun's own way
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *places]
    done = subprocess.run([*accelerate, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("steps, ") == 1 and ", 2 processes" in done.stderr and f" {steps} steps, 0 done" not in done.stderr
    assert [path.name for path in (tmp_path / "two" / "state" / "sheets").iterdir()] == [f"step-{steps:08d}.png"]
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()

    assert main(words_for(category_data, tmp_path / "one", steps)) == 0
    one, two = (load_file(next(tmp_path.glob(f"{name}/state/checkpoints/step-{steps:08d}/tensors.safetensors"))) for name in ("one", "two"))
    worst = max(float((value - two[name]).abs().max()) for name, value in one.items() if name.startswith("model/"))
    print(f"weights after {steps} steps: off by {worst:.2g}")
    assert worst <= 1e-5
