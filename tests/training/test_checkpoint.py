"""Checkpoints are whole or absent, whatever happens and whenever; the newest good one is found."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.testing.damage import damages

from farm3d.core.errors import Farm3DError, ForeignModelError, ModelError, OutputError
from farm3d.training.checkpoint import Checkpoint, newest_checkpoint, remove_leftovers, save_checkpoint


def at(step: int) -> Checkpoint:
    return Checkpoint(step, {"position": {"step": step}}, {"master": torch.full((300,), float(step)), "parts/bias": torch.zeros(3)})


def silent(line: str) -> None:
    raise AssertionError(f"warned: {line}")


def test_what_was_saved_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, warn=silent) is None
    for step in (5, 100, 20):
        save_checkpoint(tmp_path, at(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000020", "step-00000100"]
    found = newest_checkpoint(tmp_path, warn=silent)
    assert found is not None and found.step == 100 and found.facts == {"position": {"step": 100}}
    assert torch.equal(found.tensors["master"], at(100).tensors["master"])


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors", "manifest.json"])
def test_a_damaged_one_is_passed_over_with_a_word(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, at(1))
    newest = save_checkpoint(tmp_path, at(2)) / name
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes(data)
    told: list[str] = []
    found = newest_checkpoint(tmp_path, warn=told.append)
    assert found is not None and found.step == 1
    assert len(told) == 1 and name in told[0] and "trying the one before" in told[0]
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(ModelError, match="all 1 checkpoints are damaged"):
        newest_checkpoint(tmp_path, warn=told.append)


def test_no_seeded_mutation_of_the_newest_is_read(tmp_path: Path) -> None:
    """Bit flips anywhere, cuts, insertions, appended bytes, missing and exchanged files: the one before is taken every time, and told."""
    save_checkpoint(tmp_path, at(1))
    newest = save_checkpoint(tmp_path, at(2))
    names = ("state.json", "tensors.safetensors", "manifest.json")
    good = {name: (newest / name).read_bytes() for name in names}
    for name, action, place, data in [*damages(good, 900, seed=0), *((name, "missing", 0, None) for name in names)]:
        (newest / name).unlink()
        if data is not None:
            (newest / name).write_bytes(data)
        told: list[str] = []
        found = newest_checkpoint(tmp_path, warn=told.append)
        assert found is not None and found.step == 1 and len(told) == 1, (name, action, place)
        (newest / name).write_bytes(good[name])
    whole = newest_checkpoint(tmp_path, warn=silent)
    assert whole is not None and whole.step == 2


def test_what_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not finite"):
        save_checkpoint(tmp_path, Checkpoint(1, {}, {"master": torch.tensor([float("nan")])}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("point", range(14))
def test_killed_at_any_point_of_saving(tmp_path: Path, point: int) -> None:
    """The process ends at the n-th fsync, rename or removal, as by kill -9: the new checkpoint or the one before is there, whole."""
    for step in (1, 2):
        save_checkpoint(tmp_path, at(step))
    calls = 0

    def deadly(real: Callable) -> Callable:
        def call(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls == point + 1:
                os._exit(77)
            return real(*arguments, **keywords)

        return call

    child = os.fork()
    if child == 0:  # pragma: no cover  (another process)
        try:
            for name in ("fsync", "rename", "unlink", "rmdir", "mkdir"):
                setattr(os, name, deadly(getattr(os, name)))
            save_checkpoint(tmp_path, at(3))
        finally:
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 77)
    remove_leftovers(tmp_path)
    told: list[str] = []
    found = newest_checkpoint(tmp_path, warn=told.append)
    assert found is not None and found.step in (2, 3) and not told
    assert all(path.name.startswith("step-") for path in tmp_path.iterdir())
    save_checkpoint(tmp_path, at(4))
    again = newest_checkpoint(tmp_path, warn=silent)
    assert again is not None and again.step == 4


def test_the_control_an_in_place_saver_fails_that_test(tmp_path: Path) -> None:
    """The kill of the test above does lose data where a file is written in place: the test can fail."""
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"step": 2}))
    child = os.fork()
    if child == 0:  # pragma: no cover
        with path.open("w") as file:
            file.write('{"ste')
            file.flush()
            os._exit(77)
    os.waitpid(child, 0)
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(path.read_text())


def test_a_full_disk_leaves_the_earlier_ones(tmp_path: Path, full_disk: None) -> None:
    save_checkpoint(tmp_path, at(1))
    big = Checkpoint(2, {}, {"master": torch.zeros(5000)})
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path, big)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    found = newest_checkpoint(tmp_path, warn=silent)
    assert found is not None and found.step == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Farm3DError, match="cannot write"):
        save_checkpoint(tmp_path, at(1))
    tmp_path.chmod(0o700)


def test_those_of_another_training_are_not_called_damaged(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, at(1), kind="CategoryTraining")
    with pytest.raises(ForeignModelError, match=r"kind 'CategoryTraining', expected 'PriorTraining' \(choose another --state folder"):
        newest_checkpoint(tmp_path, warn=[].append)


def test_a_damaged_one_may_be_written_again(tmp_path: Path) -> None:
    """A training that went on from the checkpoint before comes to the damaged one's step again."""
    (save_checkpoint(tmp_path, at(2)) / "manifest.json").write_bytes(b"{")
    save_checkpoint(tmp_path, at(2))
    assert newest_checkpoint(tmp_path, warn=silent) is not None
