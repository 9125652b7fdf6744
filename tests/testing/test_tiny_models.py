"""The tiny models themselves: equal seed, equal bytes; words are known whole; the dice are left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm3d.core.files import sha256_of
from tests.testing.tiny_models import PROMPT_TOKENS, tiny_stable_diffusion, tiny_vit

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_equal_seed_equal_model(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    first, same, other = (digests(tiny_stable_diffusion(tmp_path / name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {name for name in first if name.endswith(".safetensors")}
    assert digests(tiny_vit(tmp_path / "d")) == digests(tiny_vit(tmp_path / "e")) != digests(tiny_vit(tmp_path / "f", seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_words_are_tokens(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(tiny_stable_diffusion(tmp_path / "a") / "tokenizer"), local_files_only=True)
    ids = tokenizer("a Horse, walking zebra").input_ids
    words = tokenizer.convert_ids_to_tokens(ids)
    assert words == ["<|startoftext|>", "a</w>", "horse</w>", ",</w>", "walking</w>", "z", "e", "b", "r", "a</w>", "<|endoftext|>"]
    assert tokenizer.model_max_length == PROMPT_TOKENS
