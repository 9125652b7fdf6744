"""What several tests of the command line start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.testing.toy_category import toy_pictures

from farm3d.apps.cli import main


@pytest.fixture(scope="module")
def category_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures with transparency, as a user would have them."""
    folder = tmp_path_factory.mktemp("photographs")
    pictures = toy_pictures()
    for name, rgb, mask in zip(pictures.names, pictures.rgb, pictures.mask, strict=True):
        planes = np.concatenate([rgb, mask[None]]).transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(planes)).resize((128, 128)).save(folder / f"{name}.png")
    out = tmp_path_factory.mktemp("data")
    sizes = ["--dims", "16", "--size-px", "64", "--workers", "1"]
    assert main(["prepare-data", str(folder), "--out", str(out), "--category", "toy", *sizes]) == 0
    return out
