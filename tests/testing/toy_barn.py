"""Toy animals with everything that a score wants to know of them: species, eight views, action, coat; and a tiny model of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from farm3d.barn.captions import VIEWS
from farm3d.core.shard_plan import ShardPlan
from farm3d.core.shards import write_shards
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import build_parts
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from tests.testing.toy_animals import COATS, SIZE_PX, draw_toy

ACTIONS = ("standing", "jumping")


def toy_fact(species: str, number: int) -> dict:
    """Return the JSON of a toy: views in turn, a new animal every eight."""
    view, action, coat = number % 8, ACTIONS[number // 8 % 2], list(COATS)[number // 16 % 4]
    plain = f"a {coat} {species}, {action}, {VIEWS[view][0]}"
    return {
        "captions": [plain, f"{species}, {VIEWS[view][1]}"],
        "category": species,
        "backdrop": "plain",
        "individual": number // 8,
        "view_index": view,
        "action": action,
        "coat": {"name": coat},
    }


def toy_picture(fact: dict) -> np.ndarray:
    """Return sRGB and coverage, uint8 ``[4, S, S]``: turned by the view, higher when jumping, a cow has a white belly."""
    picture = draw_toy(fact["coat"]["name"], "left" if fact["view_index"] < 4 else "right")
    size = picture.shape[-1]
    if fact["view_index"] % 4 == 0:  # from the front or behind one sees a narrow animal
        picture[3, :, : size // 3] = 0
    if fact["action"] == "jumping":
        picture[:, size * 3 // 4 :] = np.array([120, 120, 120, 0], np.uint8)[:, None, None]
    if fact["category"] == "cow":
        picture[:3, size // 2 : size * 5 // 8, size // 3 : size * 2 // 3] = 250
    return picture


def write_toy_facts(folder: Path, species: str, *, split: str, count: int) -> Path:
    """Write toys as a data set of shards."""

    def draw(number: int) -> tuple[str, dict[str, bytes]]:
        fact = toy_fact(species, number)
        picture = toy_picture(fact)
        files = {"rgb.png": _png(picture[:3].transpose(1, 2, 0)), "mask.png": _png(picture[3]), "json": json.dumps(fact).encode()}
        return f"{species}-{split}-{number:06d}", files

    write_shards(folder, ShardPlan(f"{species}-{split}", {"split": split, "seed": 0}, count, 64), draw)
    return folder


def toy_prior(*, seed: int = 0) -> EmbeddedPrior:
    """Return a tiny model with random weights whose latents fit the toys, and whose text encoder knows their words."""
    facts = [toy_fact(species, number) for species in ("horse", "cow") for number in range(64)]
    config = PRESETS["tiny"]
    words = [caption for fact in facts for caption in fact["captions"]]
    tokenizer = WordTokenizer.of_captions(words, buckets=config.text.buckets, max_words=config.text.max_words)
    parts = build_parts(config, tokenizer, seed=seed)
    pixels = torch.from_numpy(np.stack([toy_picture(fact) for fact in facts])).float() / 255
    parts.decoder.transform.fit(pixels[:, :3], pixels[:, 3])
    with torch.no_grad():
        parts.denoiser.wiener.fit(parts.decoder.transform.encode(pixels[:, :3], pixels[:, 3]))
    assert config.latents.size_px == SIZE_PX
    return EmbeddedPrior(parts, name="toy", digest=f"toy-{seed}")


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
