"""Two real processes learn what one does with the joint batch, stop together, and notice when the other has died."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.testing.toy_category import toy_pictures
from tests.testing.toy_critic import toy_critic

from farm3d.core.errors import InputError
from farm3d.training.category.presets import tiny
from farm3d.training.category.ranks import ALONE, Ranks, launched_ranks
from farm3d.training.category.trainer import CategoryTrainer, Run
from farm3d.training.checkpoint import newest_checkpoint

REPOSITORY = str(Path(__file__).resolve().parents[3])
STEPS = 12


def run_of() -> Run:
    """The tiny preset; in twelve steps everything gets its turn, batches of 2 and of 4, and the shape is looked at twice."""
    return tiny("horse", channels=16, steps=STEPS)


def gradients_of(trainer: CategoryTrainer) -> dict[str, torch.Tensor]:
    """Return those of the last step, as they are after clipping; parameters that had none are left out."""
    return {name: value.grad.clone() for name, value in trainer.model.named_parameters() if value.grad is not None}


_PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
torch.set_num_threads(1)
sys.path.insert(0, {repository!r})
from tests.testing.toy_category import toy_pictures
from tests.testing.toy_critic import toy_critic
from tests.training.category.test_ranks import gradients_of, run_of
from farm3d.training.category.ranks import launched_ranks
from farm3d.training.category.trainer import CategoryTrainer
folder = Path({folder!r})
with launched_ranks() as ranks:
    def trainer(name, **more):
        return CategoryTrainer(run_of(), toy_pictures(), folder / name, critic=toy_critic(), ranks=ranks, **more)
{body}
"""

_WHOLE_AND_CUT = """
    whole = trainer("whole")
    whole.one_step()
    save_file(gradients_of(whole), folder / f"gradients-{ranks.number}")
    assert whole.run()
    save_file({**whole.model.state_dict(), "table": torch.from_numpy(whole.table)}, folder / f"weights-{ranks.number}")
    cut = trainer("cut", should_stop=lambda: ranks.largest(int(ranks.number == 1 and cut.step == 7)))
    assert not cut.run() and cut.step == 7
    assert trainer("cut").run()
"""

_DIES = """
    def die():
        if ranks.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    trainer("dies", should_stop=die).run()
"""


def program(folder: Path, body: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(_PROGRAM.format(repository=REPOSITORY, folder=str(folder), body=body))
    return [str(path)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two processes that torchrun started: one training as a whole, one that process 1 was asked to stop."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    done = subprocess.run([*command, *program(folder, _WHOLE_AND_CUT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[CategoryTrainer, dict[str, torch.Tensor]]:
    trainer = CategoryTrainer(run_of(), toy_pictures(), tmp_path_factory.mktemp("alone"), critic=toy_critic())
    trainer.one_step()
    gradients = gradients_of(trainer)
    assert trainer.run()
    return trainer, gradients


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


def test_gradients_are_those_of_the_joint_batch(together: Path, alone: tuple[CategoryTrainer, dict[str, torch.Tensor]]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in alone[1].values())
    for number in range(2):
        theirs = load_file(together / f"gradients-{number}")
        assert theirs.keys() == alone[1].keys()
        worst = max(off(gradient, alone[1][name]) for name, gradient in theirs.items())
        print(f"gradients: off by {worst:.2g}, the largest is {largest:.2g}")
        assert worst <= 1e-5 * largest


def test_weights_and_table_are_those_of_one_process(together: Path, alone: tuple[CategoryTrainer, dict[str, torch.Tensor]]) -> None:
    first, second = (load_file(together / f"weights-{number}") for number in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    table, own = first.pop("table"), torch.from_numpy(alone[0].table)
    differences = {name: off(value, first[name]) for name, value in alone[0].model.state_dict().items()}
    worst = max(differences, key=differences.__getitem__)
    print(f"weights after {STEPS} steps: off by {differences[worst]:.2g} in {worst}")
    assert differences[worst] <= 1e-5
    assert torch.equal(table.isinf(), own.isinf()) and torch.allclose(table, own, atol=1e-4)


def test_stopped_together_they_go_on_to_the_same_bits(together: Path) -> None:
    whole, cut = (newest_checkpoint(together / name / "checkpoints", warn=print, kind="CategoryTraining") for name in ("whole", "cut"))
    assert whole is not None and cut is not None and whole.step == cut.step == STEPS
    assert all(torch.equal(value, cut.tensors[name]) for name, value in whole.tensors.items())
    assert sorted(path.name for path in (together / "cut" / "checkpoints").iterdir()) == ["step-00000007", f"step-{STEPS:08d}"]


def test_another_number_of_processes_goes_on_with_a_warning(together: Path) -> None:
    told: list[str] = []
    assert CategoryTrainer(run_of(), toy_pictures(), together / "whole", critic=toy_critic(), warn=told.append).step == STEPS
    assert told == ["processes was 2 and is 1: not the numbers of an uninterrupted run to the last digit"]


def test_when_one_dies_the_other_says_so(tmp_path: Path) -> None:
    command = [sys.executable, *program(tmp_path, _DIES)]
    facts = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        subprocess.Popen(command, env={**facts, "RANK": str(number)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for number in range(2)
    )
    second.communicate(timeout=120)
    died = time.monotonic()
    _, told = first.communicate(timeout=60)
    assert second.returncode == -signal.SIGKILL and first.returncode == 1
    assert "process 0 of 2: another process of this training has ended" in told and time.monotonic() - died < 60


def test_shares_make_up_the_batch() -> None:
    for size, count in ((4, 2), (10, 4), (3, 3)):
        shares = [Ranks(number, count).share(size) for number in range(count)]
        assert [place for share in shares for place in range(share.begin, share.end)] == list(range(size))
        assert sum(share.weight for share in shares) == pytest.approx(1) and not shares[0].whole
    assert ALONE.share(5).whole and ALONE.share(5).weight == 1


def test_more_processes_than_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 processes for batches of 2 pictures"):
        CategoryTrainer(run_of(), toy_pictures(), tmp_path, ranks=Ranks(0, 3))


def test_half_a_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="WORLD_SIZE is 2, and RANK is not set"), launched_ranks():
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with launched_ranks() as ranks:
        assert ranks == ALONE
