"""Loading networks: which versions, and without a sound."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from farm3d.core.errors import MissingPartError, ModelError
from farm3d.diffusion.loading import require_libraries
from farm3d.diffusion.prior import load_prior


def test_the_installed_libraries_will_do(tiny_folder: Path) -> None:
    require_libraries("diffusers", "transformers")


def test_an_old_diffusers_is_refused_because_it_imports_what_a_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.42.0")
    with pytest.raises(MissingPartError, match=r"diffusers 0\.42\.0 is too old, 0\.42\.1 or newer .*farm3d\[diffusion\]"):
        require_libraries("diffusers")
    for good in ("0.42.1", "0.43.0.dev0", "1.0"):
        monkeypatch.setattr(metadata, "version", lambda name, good=good: good)
        require_libraries("diffusers")


def test_a_missing_library_comes_with_the_line_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(MissingPartError, match=r"diffusers is not installed .*pip install 'farm3d\[diffusion\]'"):
        require_libraries("diffusers")


def test_loading_is_silent_and_leaves_the_libraries_as_loud_as_before(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [(logging.get_verbosity(), logging.is_progress_bar_enabled()) for logging in (of_diffusers, of_transformers)]
    load_prior(tiny_folder)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [(logging.get_verbosity(), logging.is_progress_bar_enabled()) for logging in (of_diffusers, of_transformers)] == before


def test_loading_draws_nothing_from_torchs_own_stream(copy_of_tiny: Path) -> None:
    """Not even when transformers fills in what is missing, which is then refused."""
    before = torch.get_rng_state()
    load_prior(copy_of_tiny)
    assert torch.equal(torch.get_rng_state(), before)
    path = copy_of_tiny / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if "k_proj" not in name}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"4 tensors of a CLIPTextModel are missing"):
        load_prior(copy_of_tiny)
    assert torch.equal(torch.get_rng_state(), before)
