"""Which model draws, where, and in what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.testing.drawing_model import write_drawing_model
from tests.testing.tiny_models import write_json

from farm3d.apps.picture_prior import checked_device, open_prior, shipped_prior, usual_dtype
from farm3d.core.errors import InputError
from farm3d.diffusion.layout import EMBEDDED_PIPELINE, INDEX, STABLE_DIFFUSION, pipeline_class


def test_the_shipped_model_is_an_embedded_one() -> None:
    assert pipeline_class(Path(shipped_prior())) == EMBEDDED_PIPELINE


def test_devices() -> None:
    assert checked_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no such kind of device"):
        checked_device("abacus")
    with pytest.raises(InputError, match="no such GPU"):
        checked_device(f"cuda:{torch.cuda.device_count() + 1}")


def test_what_a_model_computes_in_where_nothing_is_said(tmp_path: Path) -> None:
    """Going by the index alone: nothing else is there."""
    for name in (EMBEDDED_PIPELINE, STABLE_DIFFUSION):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / INDEX, {"_class_name": name})
    embedded, stable = str(tmp_path / EMBEDDED_PIPELINE), str(tmp_path / STABLE_DIFFUSION)
    assert usual_dtype(embedded, "cuda") == usual_dtype(embedded, "cuda:1") == "bfloat16"
    assert usual_dtype(stable, "cuda") == "float16" and usual_dtype(stable, "cpu") == "float32"
    assert usual_dtype(embedded, "cpu") in ("float32", "bfloat16")
    with pytest.raises(InputError, match="no such folder"):
        usual_dtype("nowhere", "cuda")


def test_a_model_is_opened_in_what_was_asked(tmp_path: Path) -> None:
    model = str(write_drawing_model(tmp_path / "toys"))
    assert open_prior(model, dtype="bfloat16").dtype == torch.bfloat16 and open_prior(model, dtype="float32").dtype == torch.float32
    assert str(open_prior(model).dtype) == f"torch.{usual_dtype(model, 'cpu')}"
