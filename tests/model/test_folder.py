"""A damaged model folder never loads; a good one loads exactly; a save is whole or absent."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tests.testing.damage import damages

from farm3d.core.errors import Farm3DError, ModelError, OutputError
from farm3d.model.folder import expect_tensors, load_model_folder, save_model_folder, weights_folder

FILES = ("config.json", "model.safetensors", "README.md", "manifest.json")


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    channels: int
    scale: float = 1.0
    names: tuple[str, ...] = ("a", "b")


@dataclasses.dataclass(frozen=True)
class OtherConfig:
    channels: int


TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
    "half": torch.linspace(-1, 1, 5).half(),
    "faces": torch.arange(6).reshape(2, 3),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_model_folder(path, TinyConfig(3, names=("x",)), tensors=TENSORS, card="# Tiny\n\nA model for tests.\n")
    return path


def test_round_trip_is_exact(folder: Path) -> None:
    config, tensors = load_model_folder(folder, TinyConfig)
    assert config == TinyConfig(3, names=("x",))
    assert set(tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["model"]  # no temporary folder left
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(FILES)


def test_equal_models_give_equal_bytes(folder: Path) -> None:
    reordered = dict(reversed(TENSORS.items()))
    save_model_folder(folder.parent / "again", TinyConfig(3, names=("x",)), tensors=reordered, card="# Tiny\n\nA model for tests.\n")
    for name in FILES:
        assert (folder / name).read_bytes() == (folder.parent / "again" / name).read_bytes()


def test_no_seeded_mutation_loads(folder: Path) -> None:
    """Bit flips anywhere, truncations, insertions, appended bytes and exchanged files: each one is an error of ours, none loads."""
    good = {name: (folder / name).read_bytes() for name in FILES}
    silent = []
    for name, action, at, data in damages(good, 600, seed=0):
        (folder / name).write_bytes(data)
        try:
            load_model_folder(folder, TinyConfig)
            silent.append((name, action, at))
        except ModelError as error:
            assert "\n" not in str(error)
            assert str(folder) in str(error)
        finally:
            (folder / name).write_bytes(good[name])
    assert silent == []
    load_model_folder(folder, TinyConfig)  # and the original is good again


def test_every_bit_of_the_manifest_counts(folder: Path) -> None:
    path = folder / "manifest.json"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(ModelError):
            load_model_folder(folder, TinyConfig)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: missing"):
        load_model_folder(folder, TinyConfig)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_or_a_pipe_in_place_of_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ModelError, match="not a regular file"):
        load_model_folder(folder, TinyConfig)
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # opening it would block for ever
    with pytest.raises(ModelError, match="not a regular file"):
        load_model_folder(folder, TinyConfig)


def test_files_of_two_models_do_not_mix(folder: Path) -> None:
    other = folder.parent / "other"
    changed = {**TENSORS, "weight": TENSORS["weight"] + 1}
    save_model_folder(other, TinyConfig(3, names=("x",)), tensors=changed, card="# Tiny\n\nA model for tests.\n")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors: changed"):
        load_model_folder(folder, TinyConfig)


def test_unknown_config_key_names_the_nearest(folder: Path) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "chanels": 4}))
    with pytest.raises(ModelError, match=r"config\.chanels: unknown key.*did you mean 'channels'"):
        load_model_folder(folder, TinyConfig)


def test_wrong_kind_and_wrong_version(folder: Path) -> None:
    with pytest.raises(ModelError, match="kind 'TinyConfig', expected 'OtherConfig'"):
        load_model_folder(folder, OtherConfig)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(ModelError, match="format version 2, expected 1"):
        load_model_folder(folder, TinyConfig)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_weights_are_refused_both_ways(tmp_path: Path, folder: Path, value: float) -> None:
    from safetensors.torch import save

    from farm3d.core.sealed import manifest_bytes

    bad = {"weight": torch.tensor([1.0, value])}
    with pytest.raises(ModelError, match="'weight' has values that are not finite"):
        save_model_folder(tmp_path / "bad", TinyConfig(3), tensors=bad, card="")
    assert not (tmp_path / "bad").exists()
    contents = {name: (folder / name).read_bytes() for name in FILES[:3]} | {"model.safetensors": save(bad)}  # a well-signed folder
    contents["manifest.json"] = manifest_bytes(contents, form="farm3d-model", version=1, kind="TinyConfig")
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    with pytest.raises(ModelError, match="'weight' has values that are not finite"):
        load_model_folder(folder, TinyConfig)
    with pytest.raises(ModelError, match="not finite"):
        save_model_folder(tmp_path / "bad", TinyConfig(3, scale=value), tensors={}, card="")


def test_no_folder_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_model_folder(tmp_path / "nowhere", TinyConfig)
    (tmp_path / "file").write_text("hello")
    with pytest.raises(ModelError, match="is not a folder"):
        load_model_folder(tmp_path / "file", TinyConfig)


def test_saving_replaces_a_model_but_nothing_else(folder: Path) -> None:
    save_model_folder(folder, TinyConfig(9), tensors={}, card="second")
    assert load_model_folder(folder, TinyConfig)[0].channels == 9
    precious = folder.parent / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match="not a model folder"):
        save_model_folder(precious, TinyConfig(9), tensors={}, card="")
    assert (precious / "thesis.txt").read_text() == "years"
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["model", "precious"]


@pytest.mark.parametrize("step", range(12))
def test_a_save_that_fails_at_any_step_leaves_the_old_model(folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th fsync or rename fails (disk full): the old model still loads, whole, or the new one does; nothing else is left."""
    calls = 0
    real = {"fsync": os.fsync, "rename": os.rename}

    def failing(name: str):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise OSError(28, "No space left on device")
            return real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(os, name, failing(name))
    try:
        save_model_folder(folder, TinyConfig(9), tensors=TENSORS, card="new")
        failed = False
    except Farm3DError as error:
        failed = True
        assert "No space left" in str(error)
    monkeypatch.undo()
    assert failed == (calls > step)
    assert load_model_folder(folder, TinyConfig)[0].channels in ((3, 9) if failed else (9,))
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_expect_tensors() -> None:
    shapes = {name: tuple(value.shape) for name, value in TENSORS.items()}
    expect_tensors(TENSORS, shapes, where="here")
    with pytest.raises(ModelError, match="here: tensor 'more' is missing"):
        expect_tensors(TENSORS, {**shapes, "more": (1,)}, where="here")
    with pytest.raises(ModelError, match=r"'half' has shape \[5\], expected \[6\]"):
        expect_tensors(TENSORS, {**shapes, "half": (6,)}, where="here")
    with pytest.raises(ModelError, match="unknown tensor 'half'"):
        expect_tensors(TENSORS, {name: shape for name, shape in shapes.items() if name != "half"}, where="here")


def test_shipped_models_are_found_by_name_only() -> None:
    assert (weights_folder("efficientnet_lite0") / "manifest.json").is_file()
    for name in ("efficientnet_lite9", "../model", "", "."):
        with pytest.raises(ModelError, match="no shipped model"):
            weights_folder(name)
