"""Baselines go through the same door as every method: the mean shape stands where the animal is, fits can be stopped and go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.testing.truths import truth_folder, truth_sample

from farm3d.apps.evaluate import read_product, write_product
from farm3d.core.errors import ModelError
from farm3d.evaluation.baselines import fits, mean_shape, mean_shapes, peak_memory_mib, truths
from farm3d.evaluation.drawing import frame_of
from farm3d.evaluation.predictions import is_answered, read_prediction
from farm3d.evaluation.referee import Settings, evaluate, judge
from farm3d.model.prior import CategoryPrior

QUICK = Settings(novel_views=0, pairs=100)


@pytest.fixture(scope="module")
def prior() -> CategoryPrior:
    return CategoryPrior.from_pretrained("horse")


def test_the_mean_shape_is_placed_on_the_animal(prior: CategoryPrior) -> None:
    truth = truth_sample(0)
    answer = mean_shape(truth, prior)
    (centre, radius), (true_centre, true_radius) = frame_of(answer), frame_of(truth.animal)
    assert torch.allclose(centre, true_centre, atol=1e-4) and radius == pytest.approx(true_radius, rel=1e-4)
    figures = judge(truth, answer, Settings(novel_views=2, novel_px=64)).figures
    assert figures["rotation_error_deg"] < 1e-3 and 0.3 < figures["iou"] < 0.95
    assert isinstance(answer.albedo, torch.Tensor) and isinstance(truth.animal.albedo, torch.Tensor)
    assert len(answer.albedo.unique(dim=0)) == 1
    assert (answer.albedo[0] - truth.animal.albedo.mean(0)).abs().max() < 0.1


def test_mean_shapes_of_a_folder(tmp_path: Path) -> None:
    truth = truth_folder(tmp_path / "test", count=2)
    outcomes = list(mean_shapes(truth, tmp_path / "mean"))
    assert outcomes == [("horse-test-000000", None), ("horse-test-000001", None)]
    report = evaluate(truth, tmp_path / "mean", settings=QUICK)
    assert report.failures == {} and report.keypoints is not None and report.keypoints["untransferable"] == 0
    with pytest.raises(ModelError):
        list(mean_shapes(truth, tmp_path / "other", category="gryphon"))


def test_answers_that_are_there_are_kept(tmp_path: Path) -> None:
    truth = truth_folder(tmp_path / "test", count=2)
    list(truths(truth, tmp_path / "out"))
    sidecar = tmp_path / "out" / "horse-test-000000.json"
    before = sidecar.stat().st_mtime_ns
    list(truths(truth, tmp_path / "out"))
    assert sidecar.stat().st_mtime_ns == before
    list(truths(truth, tmp_path / "out", overwrite=True))
    assert sidecar.stat().st_mtime_ns > before


@pytest.mark.slow
def test_a_fit_is_a_product_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """The real reconstructor with its last stage left out. The picture of nothing fails, and says so to the referee."""
    truth = truth_folder(tmp_path / "test", count=1, size_px=128)
    out = tmp_path / "fit"
    empty = {name: (truth / f"horse-test-000000.{name}").read_bytes() for name in ("json", "rgb.png", "mesh.safetensors", "mask.png")}
    for name, data in empty.items():
        (truth / f"horse-test-000001.{name}").write_bytes(data)
    from PIL import Image

    Image.new("L", (128, 128)).save(truth / "horse-test-000001.mask.png")
    run = fits(truth, out, write_product=write_product, refine_steps=0)
    assert next(run) == ("horse-test-000000", None)
    run.close()
    first = (out / "horse-test-000000.glb").stat().st_mtime_ns
    outcomes = dict(fits(truth, out, write_product=write_product, refine_steps=0))
    assert outcomes["horse-test-000000"] is None and "no animal" in (outcomes["horse-test-000001"] or "")
    assert (out / "horse-test-000000.glb").stat().st_mtime_ns == first
    answer = read_prediction(out, "horse-test-000000", read_product=read_product)
    assert answer is not None and answer.light is not None and answer.seconds is not None and answer.seconds > 0
    assert answer.peak_memory_mib == pytest.approx(peak_memory_mib(), rel=0.5)
    report = evaluate(truth, out, read_product=read_product, settings=Settings(novel_views=0, pairs=0))
    assert report.failures == {"horse-test-000001": f"gave up: {outcomes['horse-test-000001']}"}
    assert report.samples[0]["figures"]["iou"] > 0.5
    assert not is_answered(out, "horse-test-000001")
