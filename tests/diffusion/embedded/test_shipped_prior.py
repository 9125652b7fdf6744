"""The model in the package, whichever it is: whole, small enough to ship, and it draws a horse from the side that is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from farm3d.core.errors import ModelError
from farm3d.core.files import sha256_of
from farm3d.core.shapes import Tensor
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.model.folder import weights_folder

_MOST_BYTES = 60_000_000
_STEPS = 4


@pytest.fixture(scope="module")
def folder() -> Path:
    return weights_folder("embedded_prior")


def test_every_file_is_as_its_manifest_says_and_there_is_no_other(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert sum(path.stat().st_size for path in there.values()) <= _MOST_BYTES
    assert set(there) == {"manifest.json", *manifest["files"]}
    for name, facts in manifest["files"].items():
        assert facts == {"sha256": sha256_of(there[name]), "size_bytes": there[name].stat().st_size}, name


def test_a_flipped_bit_in_any_file_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for path in sorted(path for path in copy.rglob("*") if path.is_file() and path.name != "manifest.json"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(ModelError, match=path.name):
            EmbeddedPrior.from_pretrained(copy)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    EmbeddedPrior.from_pretrained(copy)


def test_a_horse_from_its_left_looks_left_and_from_its_right_right(folder: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    prior = EmbeddedPrior.from_pretrained(folder)
    drawn = prior.draw([f"a horse, standing, seen from its {side} side" for side in ("left", "right")], seeds=[0, 0], steps=_STEPS)
    assert drawn.alpha is not None
    assert bool(torch.isfinite(drawn.rgb).all()) and bool(torch.isfinite(drawn.alpha).all())
    for cover in drawn.alpha:
        assert 0.05 < float(cover.mean()) < 0.6
    left, right = drawn.alpha > 0.5
    assert overlap(left, right) < overlap(left, right.flip(-1))  # mirror images of each other, nearly
    assert overlap(left, right) < 0.6
    assert head_column(left) < -10 < 10 < head_column(right)


def overlap(one: Tensor, other: Tensor) -> float:
    """Return the intersection over the union of two silhouettes ``[S, S]``."""
    return float((one & other).sum() / (one | other).sum())


def head_column(silhouette: Tensor) -> float:
    """Return how far, in pixels, the uppermost fifth of a silhouette lies to the right of its middle."""
    rows = silhouette.any(1).nonzero().flatten()
    columns = torch.arange(silhouette.shape[1], dtype=torch.float32)
    head = silhouette[int(rows[0]) : int(rows[0]) + len(rows) // 5].float()
    return float((head * columns).sum() / head.sum() - (silhouette.float() * columns).sum() / silhouette.sum())
