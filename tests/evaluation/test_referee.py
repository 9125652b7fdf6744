"""The referee as a whole: the truth scores perfectly, a known error is measured, and a missing answer is never passed over."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tests.testing.truths import truth_folder, truth_sample

from farm3d.core.errors import InputError
from farm3d.evaluation.annotations import truth_annotation
from farm3d.evaluation.baselines import truths
from farm3d.evaluation.predictions import read_prediction, write_prediction
from farm3d.evaluation.referee import Settings, evaluate, evaluate_keypoints, judge
from farm3d.evaluation.report import Report, read_report, write_report

QUICK = Settings(novel_views=4, novel_px=64, pairs=400)
COUNT = 6


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return truth_folder(tmp_path_factory.mktemp("world") / "test", count=COUNT)


@pytest.fixture(scope="module")
def answers(truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("methods") / "truth"
    assert [reason for _, reason in truths(truth, out)] == [None] * COUNT
    return out


@pytest.fixture(scope="module")
def perfect(truth: Path, answers: Path) -> Report:
    return evaluate(truth, answers, settings=QUICK, command="farm3d evaluate barn")


def test_the_truth_scores_perfectly(perfect: Report) -> None:
    summary = perfect.summary()
    assert perfect.failures == {} and len(perfect.samples) == COUNT
    assert summary["iou"].mean > 0.999 and summary["boundary_f"].mean > 0.999
    for name in ("rotation_error_deg", "azimuth_error_deg", "elevation_error_deg", "front_back_flip", "left_right_flip"):
        assert summary[name].mean == pytest.approx(0, abs=1e-3), name
    assert summary["novel_psnr_db"].mean == summary["relit_psnr_db"].mean == 100
    assert summary["novel_psnr_scaled_db"].mean > 99 and summary["relit_psnr_scaled_db"].mean > 99
    assert summary["novel_ssim"].mean == pytest.approx(1)
    assert summary["albedo_error"].mean == summary["albedo_error_scaled"].mean == 0
    assert perfect.keypoints is not None and perfect.keypoints["pck"] == 1 and summary["transfer_right"].mean == 1
    assert perfect.keypoints["untransferable"] == perfect.keypoints["unanswered"] == 0


def test_a_turned_camera_costs_what_it_was_turned_by() -> None:
    truth = truth_sample(0, azimuth_deg=60.0)
    turn = math.radians(10)
    matrix = truth.animal.camera.T_camera_world.clone()
    about_y = torch.tensor([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    matrix[:3, :3] = matrix[:3, :3] @ about_y
    turned = truth.animal.replace(camera=truth.animal.camera.replace(T_camera_world=matrix))
    figures = judge(truth, turned, QUICK).figures
    assert figures["rotation_error_deg"] == pytest.approx(10, abs=0.01)
    assert figures["azimuth_error_deg"] == pytest.approx(10, abs=0.01)
    assert figures["elevation_error_deg"] == pytest.approx(0, abs=0.01)
    assert figures["iou"] < 0.95
    assert figures["novel_psnr_db"] == 100  # the object itself is right


def test_size_and_place_do_not_matter_where_no_picture_tells_them() -> None:
    truth = truth_sample(1)
    factor, camera = 3.7, truth.animal.camera
    matrix = camera.T_camera_world.clone()
    matrix[:3, 3] = factor * matrix[:3, 3]
    larger = truth.animal.replace(vertices=factor * truth.animal.vertices, camera=camera.replace(T_camera_world=matrix))
    figures = judge(truth, larger, QUICK).figures
    assert figures["iou"] > 0.999 and figures["novel_psnr_db"] > 50 and figures["relit_psnr_db"] > 50


def test_what_hides_the_animal_is_not_held_against_an_answer() -> None:
    truth = truth_sample(2)
    mask = truth.mask.clone()
    mask[:, 40:60] = 0
    assert judge(truth.replace(mask=mask, occluded=True), truth.animal, QUICK).figures["iou"] > 0.999
    assert judge(truth.replace(mask=mask), truth.animal, QUICK).figures["iou"] < 0.95


def test_missing_and_damaged_answers_are_named_and_count_as_the_worst(truth: Path, answers: Path, perfect: Report, tmp_path: Path) -> None:
    keys = [sample["key"] for sample in perfect.samples]
    for key in keys:
        prediction = read_prediction(answers, key)
        assert prediction is not None
        write_prediction(tmp_path, key, prediction)
    (tmp_path / f"{keys[0]}.safetensors").unlink()
    (tmp_path / f"{keys[0]}.failed.txt").write_text("no animal was found\n")
    (tmp_path / f"{keys[1]}.safetensors").write_bytes(b"nothing")
    wide = read_prediction(answers, keys[2])
    assert wide is not None
    write_prediction(tmp_path, keys[2], wide.replace(camera=wide.camera.replace(width_px=2 * wide.camera.width_px)))
    report = evaluate(truth, tmp_path, settings=QUICK)
    assert sorted(report.failures) == sorted(keys[:3])
    assert report.failures[keys[0]] == "gave up: no animal was found"
    assert "safetensors" in report.failures[keys[1]] and "picture of 192 x 96" in report.failures[keys[2]]
    summary = report.summary()
    assert summary["iou"].n == COUNT and summary["iou"].mean == pytest.approx(0.5, abs=0.001)
    assert summary["rotation_error_deg"].mean == pytest.approx(90, abs=0.01)
    assert summary["novel_psnr_db"].mean == pytest.approx(50)
    assert report.summary(answered_only=True)["iou"].mean > 0.999
    assert report.keypoints is not None and report.keypoints["pck"] < 0.6 and report.keypoints["unanswered"] > 200
    flips = [sample["figures"].get("front_back_flip") for sample in perfect.samples]
    assert [sample["figures"].get("front_back_flip") for sample in report.samples] == [
        None if flip is None else float(index < 3) for index, flip in enumerate(flips)
    ]


def test_processes_change_nothing(truth: Path, answers: Path, perfect: Report) -> None:
    """Real processes, real samples; progress is told in order."""
    told: list[tuple[int, str]] = []
    report = evaluate(
        truth, answers, settings=Settings(novel_views=0, pairs=400), processes=2, progress=lambda done, key: told.append((done, key))
    )
    assert [done for done, _ in told] == list(range(1, COUNT + 1))
    assert report.keypoints == perfect.keypoints
    for ours, theirs in zip(report.samples, perfect.samples, strict=True):
        assert ours["key"] == theirs["key"]
        assert ours["figures"].items() <= theirs["figures"].items() and "novel_psnr_db" not in ours["figures"]


def test_a_report_comes_back_as_it_was_written(perfect: Report, tmp_path: Path) -> None:
    paths = write_report(perfect, tmp_path)
    back = read_report(tmp_path)
    assert back.samples == perfect.samples and back.method == "truth" and back.truth == "test"
    assert back.to_json() == perfect.to_json()
    text = paths[0].read_text()
    assert "| silhouette IoU ↑ | 1.000 |" in text and "PCK@0.1: **100.0**" in text and "| walking | 3 |" in text
    assert str(tmp_path.parent) not in paths[1].read_text()  # no path of a machine in what may be published


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    for text, words in (("{}", "not a report"), ("[1]", "JSON object"), ("{", "JSON"), ('{"a": NaN}', "NaN")):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(InputError, match=words):
            read_report(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_report(tmp_path / "absent.json")


def test_a_report_with_wrong_rows_is_said(perfect: Report, tmp_path: Path) -> None:
    document = json.loads(perfect.to_json())
    document["samples"][1]["figures"]["iou"] = "good"
    (tmp_path / "report.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="picture 2: not as farm3d writes it"):
        read_report(tmp_path)


def test_places_that_are_not_there(truth: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of predictions"):
        evaluate(truth, tmp_path / "absent")
    with pytest.raises(InputError, match="no such folder or shard"):
        evaluate(tmp_path / "absent", tmp_path)
    with pytest.raises(InputError, match="neither shards nor samples"):
        evaluate(tmp_path, tmp_path)
    with pytest.raises(InputError, match="novel views 0 to 360"):
        Settings(novel_views=-1)


def test_keypoints_alone_give_the_same(answers: Path, perfect: Report) -> None:
    annotations = [truth_annotation(truth_sample(number)) for number in range(COUNT)]
    found, failures = evaluate_keypoints(annotations, answers, pairs=QUICK.pairs)
    assert failures == {} and perfect.keypoints is not None
    assert found.pck == perfect.keypoints["pck"] and found.counts == perfect.keypoints["counts"]
