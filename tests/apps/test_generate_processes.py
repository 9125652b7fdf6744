"""``farm3d generate`` in several processes, killed and gone on with: equal bytes, each sample once; and with Stable Diffusion's classes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.apps.test_generate import contents, facts_of, last_line
from tests.testing.drawing_model import write_drawing_model
from tests.testing.tiny_models import read_json, shape_segmenter, tiny_stable_diffusion, write_json

from farm3d.apps.cli import main

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")

QUICK = [
    "--steps",
    "2",
    "--guidance",
    "2",
    "--batch",
    "4",
    "--per-shard",
    "4",
    "--any-animal",
    "--attempts",
    "2",
    "--dims",
    "3",
    "--reader",
    "none",
]
QUICK += ["--dtype", "float32", "--count", "12"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = write_drawing_model(tmp_path_factory.mktemp("model") / "toys")
    return ["generate", "horse", "--prior", str(model), *QUICK]


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words that draw with diffusers' own classes at 64 px, and mask with an ONNX network."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'farm3d[diffusion]'")
    pytest.importorskip("onnx", reason="the package onnx, which builds the small test networks, is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'farm3d[mask]'")
    folder = tmp_path_factory.mktemp("stable")
    model = tiny_stable_diffusion(folder / "sd")
    write_json(model / "unet" / "config.json", {**read_json(model / "unet" / "config.json"), "sample_size": 32})
    (folder / "prompts.toml").write_text(
        '[[prompt]]\ntext = "horse walking"\nnegative = "cow"\nview = "left"\n[[prompt]]\ntext = "horse"\n'
    )
    words = ["--prompts", str(folder / "prompts.toml"), "--mask-model", str(shape_segmenter(folder / "net.onnx"))]
    return ["generate", "horse", "--prior", str(model), *QUICK, *words]


@pytest.fixture(scope="module")
def herd(toys: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("herd") / "set"
    assert main([*toys, "--workers", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def stable_herd(stable: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stable_herd") / "set"
    assert main([*stable, "--workers", "1", "--out", str(folder)]) == 0
    return folder


def kill_after_the_first(words: list[str], folder: Path, pattern: str) -> None:
    """Start the command line, and end it by SIGKILL as soon as a file of this pattern is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "farm3d", *words, "--out", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(toys: list[str], herd: Path, tmp_path: Path) -> None:
    assert main([*toys, "--workers", "2", "--out", str(tmp_path)]) == 0
    assert contents(tmp_path) == contents(herd)


@pytest.mark.slow
def test_the_same_command_twice_at_once_shares_the_work_and_both_end_well(toys: list[str], herd: Path, tmp_path: Path) -> None:
    words = [*toys, "--workers", "1", "--out", str(tmp_path)]
    other = subprocess.Popen([sys.executable, "-m", "farm3d", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and other.poll() is None and not list(tmp_path.glob(".horse-generated-000000.*.part*")):
        time.sleep(0.005)
    assert main(words) == 0
    _, told = other.communicate(timeout=200)
    assert other.returncode == 0, told
    assert contents(tmp_path) == contents(herd)


@pytest.mark.skipif(os.name != "posix", reason="no POSIX signals on this system")
def test_killed_twice_and_resumed_gives_the_same_bytes(toys: list[str], herd: Path, tmp_path: Path) -> None:
    one = [*toys, "--workers", "1"]
    kill_after_the_first(one, tmp_path, "*-000000.tar")
    kill_after_the_first(one, tmp_path, "*-features-000000.tar")
    assert main([*one, "--out", str(tmp_path)]) == 0
    assert contents(tmp_path) == {name: data for name, data in contents(herd).items() if not name.startswith(".")}


def test_stable_diffusion_draws_a_set_with_the_segmenters_masks(stable_herd: Path) -> None:
    rows = facts_of(stable_herd)
    assert len(rows) == 12 and {row["prompt"] for row in rows} == {"horse walking", "horse"}
    kept = [row for row in rows if "failed" not in row]
    assert kept and all(row["mask_source"] == "segmenter" and row["source_size_px"] == [64, 64] for row in kept)
    assert {row["view_name"] for row in rows if row["prompt"] == "horse walking"} == {"left"}
    recipe = json.loads((stable_herd / "horse-generated.plan.json").read_text())["fingerprint"]
    assert len(recipe["mask_model"]) == 64 and recipe["phrases"]["book"] == "file" and recipe["size_px"] == 64


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no POSIX signals on this system")
def test_stable_diffusion_killed_and_resumed_gives_the_same_bytes(stable: list[str], stable_herd: Path, tmp_path: Path) -> None:
    kill_after_the_first([*stable, "--workers", "1"], tmp_path, "*-000000.tar")
    assert main([*stable, "--workers", "1", "--out", str(tmp_path)]) == 0
    assert contents(tmp_path) == contents(stable_herd)


def test_models_that_may_not_be_opened_are_one_line(stable: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    model = Path(stable[stable.index("--prior") + 1])

    def refused(change, words: str) -> None:
        copy = Path(shutil.copytree(model, tmp_path / f"copy{len(list(tmp_path.iterdir()))}"))
        change(copy)
        spoilt = [str(copy) if word == str(model) else word for word in stable]
        assert main([*spoilt, "--out", str(tmp_path / "set")]) == 2
        assert words in (line := last_line(capsys)), line
        assert not (tmp_path / "set").exists()

    weights = Path("unet") / "diffusion_pytorch_model.safetensors"
    refused(lambda copy: (copy / weights).rename(copy / "unet" / "diffusion_pytorch_model.bin"), "only pickled weights")
    config = Path("unet") / "config.json"
    refused(lambda copy: write_json(copy / config, {**read_json(copy / config), "auto_map": {"AutoModel": "x.Y"}}), "asks for code")
    refused(lambda copy: write_json(copy / config, {**read_json(copy / config), "in_channels": 9}), "channels")


def test_no_segmenter_is_said_before_anything_is_drawn(
    stable: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FARM3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))
    assert main([*stable[: stable.index("--mask-model")], "--out", str(tmp_path / "set")]) == 2
    assert "farm3d models fetch" in last_line(capsys) and not (tmp_path / "set").exists()


@pytest.mark.slow
def test_ray_gives_the_same_bytes(toys: list[str], herd: Path, tmp_path: Path) -> None:
    """In a process of its own: Ray talks over this machine's sockets, which tests may not."""
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'farm3d[ray]'")
    words = [*toys, "--ray", "--workers", "2", "--out", str(tmp_path / "set")]
    done = subprocess.run([sys.executable, "-m", "farm3d", *words], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "set") == contents(herd)
    run = json.loads((tmp_path / "set" / "horse-generated.report.json").read_text())["this_run"]
    assert run["pictures"] == 12 and run["pictures_per_s"] > 0  # Ray tells them by whole shards
    damaged = [*words[:-1], str(tmp_path / "other"), "--seed", "1"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "horse-generated.plan.json").write_bytes((herd / "horse-generated.plan.json").read_bytes())
    refused = subprocess.run([sys.executable, "-m", "farm3d", *damaged], capture_output=True, text=True, timeout=550)
    assert refused.returncode == 2 and "another data set of this name" in refused.stderr
