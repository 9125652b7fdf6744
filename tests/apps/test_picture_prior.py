"""Which model draws and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm3d.apps.picture_prior import checked_device, shipped_prior
from farm3d.core.errors import InputError
from farm3d.diffusion.layout import EMBEDDED_PIPELINE, pipeline_class


def test_the_shipped_model_is_an_embedded_one() -> None:
    assert pipeline_class(Path(shipped_prior())) == EMBEDDED_PIPELINE


def test_devices() -> None:
    assert checked_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no such kind of device"):
        checked_device("abacus")
    with pytest.raises(InputError, match="no such GPU"):
        checked_device(f"cuda:{torch.cuda.device_count() + 1}")
