"""The log loses nothing and doubles nothing; the schedule keeps to its budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from farm3d.core.errors import InputError, OutputError
from farm3d.training.log import TrainingLog
from farm3d.training.prior.schedule import PHASES, Budget, average_keep, learning_rate
from farm3d.training.prior.settings import Settings, check_unchanged, quicker_dtype


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (path / "log.jsonl").read_text().splitlines()]


def test_lines_after_the_checkpoint_come_once(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, step=0)
    for step in (10, 20, 30):
        log.write(step, {"phase": "words", "mean": 1 / step})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 40, "me')  # a kill in the middle of a line
    log = TrainingLog(tmp_path, step=20)
    assert steps_in(tmp_path) == [10, 20]
    log.write(30, {"mean": 0.5})
    assert steps_in(tmp_path) == [10, 20, 30]


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 12, 30])
def test_a_first_line_cut_short_by_a_kill_comes_again(cut: int, tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, step=0)
    log.write(20, {"phase": "words", "mean": 0.5})
    whole = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(whole[:cut])
    TrainingLog(tmp_path, step=19).write(20, {"phase": "words", "mean": 0.5})
    assert (tmp_path / "log.jsonl").read_text() == whole


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("dear diary\n")
    with pytest.raises(InputError, match="not a training log"):
        TrainingLog(tmp_path, step=0)
    assert (tmp_path / "log.jsonl").read_text() == "dear diary\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's thread, which meets it first
def test_a_disk_that_is_full_of_events_is_told(tmp_path: Path, full_disk: None) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'farm3d[log]'")
    log = TrainingLog(tmp_path, step=0)
    with pytest.raises(OutputError, match="tensorboard: cannot write: File too large"):  # here or there, as its thread comes to it
        log.write(20, {f"v{number}": 0.5 for number in range(200)})  # 2 kB as a line, four times as much as events
        log.close()
    assert steps_in(tmp_path) == [20]


def test_budgets() -> None:
    denoiser = PHASES[-1]
    pictures, hours = Budget(samples=1000), Budget(hours=2)
    assert pictures.steps(denoiser) == 63 and hours.steps(denoiser) is None
    assert pictures.progress(denoiser, step=63, seconds=0) == 1
    assert hours.progress(denoiser, step=5, seconds=2 * 3600 * denoiser.share / 4) == pytest.approx(0.25)
    assert sum(phase.share for phase in PHASES) == pytest.approx(1)
    for bad in ((None, None), (1.0, 5), (0.0, None), (float("nan"), None), (None, -1)):
        with pytest.raises(InputError):
            Budget(*bad)


def test_the_rate_rises_and_falls_to_zero() -> None:
    phase = PHASES[-1]
    rates = [learning_rate(phase, step=step, progress=step / 10_000) for step in range(10_001)]
    assert rates[0] == pytest.approx(phase.rate / 60, rel=1e-3)
    assert max(rates) == pytest.approx(phase.rate, rel=1e-3) and rates[-1] < 1e-12
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    short = [learning_rate(phase, step=step, progress=step / 30) for step in range(30)]
    assert max(short) > 0.9 * phase.rate  # a short phase gets there too


def test_the_average_weighs_the_last_twentieth() -> None:
    keeps = [average_keep(step, every=4) for step in range(4, 4001, 4)]
    assert keeps[0] == 0 and keeps == sorted(keeps)
    weights = torch.tensor([(1 - keep) * float(torch.tensor(keeps[i + 1 :], dtype=torch.float64).prod()) for i, keep in enumerate(keeps)])
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    age = 1 - torch.arange(1, 1001) / 1000
    assert 0.03 < float((weights * age).sum()) < 0.08


def test_another_training_is_told_apart_from_the_same_on_other_threads() -> None:
    here = Settings("tiny", Budget(samples=10), seed=1).facts(pictures="abc")
    told: list[str] = []
    check_unchanged(here, here, warn=told.append)
    assert told == []
    check_unchanged({**here, "threads": 64, "torch": "1.0"}, here, warn=told.append)
    assert len(told) == 2 and "last digit" in told[0]
    for name, value in (("seed", 2), ("size", "small"), ("samples", 11), ("pictures", "def"), ("dtype", "bfloat16")):
        with pytest.raises(InputError, match=f"has {name}"):
            check_unchanged({**here, name: value}, here, warn=told.append)
    with pytest.raises(InputError, match="no size 'huge'"):
        Settings("huge", Budget(samples=10))


def test_the_quicker_dtype_is_one_of_two() -> None:
    assert quicker_dtype() in (torch.float32, torch.bfloat16)
