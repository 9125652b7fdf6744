"""A tiny Stable Diffusion of diffusers' own classes, written once, and copies of it with another scheduler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.testing.tiny_models import DDPM_TABLE, read_json, tiny_stable_diffusion, write_json

from farm3d.diffusion.prior import load_prior
from farm3d.diffusion.stable_diffusion import StableDiffusionPrior


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no test may change."""
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'farm3d[diffusion]'")
    return tiny_stable_diffusion(tmp_path_factory.mktemp("tiny") / "tiny-stable-diffusion")


@pytest.fixture(scope="session")
def prior(tiny_folder: Path) -> StableDiffusionPrior:
    opened = load_prior(tiny_folder)
    assert isinstance(opened, StableDiffusionPrior)
    return opened


@pytest.fixture
def copy_of_tiny(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def with_scheduler(copy_of_tiny: Path) -> Callable[..., Path]:
    """Give the copy another scheduler."""

    def change(name: str, **config: Any) -> Path:
        table = {} if name.startswith("FlowMatch") else DDPM_TABLE
        write_json(copy_of_tiny / "scheduler" / "scheduler_config.json", {"_class_name": name, **table, **config})
        write_json(copy_of_tiny / "model_index.json", {**read_json(copy_of_tiny / "model_index.json"), "scheduler": ["diffusers", name]})
        return copy_of_tiny

    return change
