"""``farm3d generate`` and ``farm3d data`` as they are typed, in this process."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.testing.drawing_model import write_drawing_model

from farm3d.apps.cli import main
from farm3d.core.shard_reader import ShardIndex, read_shards
from farm3d.core.tensor_bytes import tensors_from_bytes
from farm3d.model.feature_pca import FeaturePca

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")

QUICK = ["--steps", "3", "--guidance", "2", "--batch", "4", "--per-shard", "8", "--any-animal", "--workers", "1", "--dtype", "float32"]
QUICK += ["--attempts", "3", "--dims", "4", "--reader", "none"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drawing_model(tmp_path_factory.mktemp("model") / "toys")


def generate(model: Path, out: Path, *more: str, count: int = 16) -> int:
    return main(["generate", "horse", "--out", str(out), "--prior", str(model), "--count", str(count), *QUICK, *more])


@pytest.fixture(scope="module")
def herd(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished set that no test may change."""
    folder = tmp_path_factory.mktemp("herd") / "set"
    assert generate(model, folder) == 0
    return folder


@pytest.fixture
def copy(herd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(herd, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the report, which holds speeds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".report.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def facts_of(folder: Path, name: str = "horse-generated") -> list[dict]:
    return [json.loads(members["json"]) for _, members in read_shards(folder / f"{name}.plan.json")]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_pictures_features_report_and_sheets(herd: Path) -> None:
    rows = facts_of(herd)
    assert [row["key"] for row in rows] == [f"horse-generated-{number:06d}" for number in range(16)]
    kept = [row for row in rows if "failed" not in row]
    report = json.loads((herd / "horse-generated.report.json").read_text())
    refused = sum(len(row["rejected"]) for row in rows)
    assert report["rows"] == 16 and report["failed"] == 16 - len(kept) and report["attempts"] == len(kept) + refused
    assert sum(report["rejected"].values()) == refused > 0 and report["this_run"]["pictures"] == 16
    assert report["share_rejected"] == round(refused / report["attempts"], 4)
    pages = {path.stem for path in (herd / "sheets").iterdir()}
    assert pages == {f"horse-generated-{row['view_name']}-{row['action'].replace(' ', '-')}" for row in kept}


def test_features_are_the_projection_of_each_kept_picture(herd: Path) -> None:
    pca = FeaturePca.load(herd / "horse-generated-features.pca")
    assert pca.config.dims == 4 and pca.config.encoder == "efficientnet_lite0"
    rows = {row["key"]: row for row in facts_of(herd)}
    seen = 0
    for key, members in read_shards(herd / "horse-generated-features.plan.json"):
        said = json.loads(members["json"])
        if "left_out" in said:
            assert "failed" in rows[key] or "near copy of horse-generated-" in said["left_out"]
            continue
        components = tensors_from_bytes(members["features.safetensors"], where=key)["components"]
        assert components.shape == (4, 16, 16) and str(components.dtype) == "torch.float16" and components.std() > 0
        seen += 1
    assert seen > 4
    with Image.open(herd / "horse-generated-features.png") as picture:
        assert picture.width >= 192 and np.asarray(picture.convert("RGB")).std() > 10


def test_a_second_run_changes_nothing_and_a_longer_one_extends(herd: Path, model: Path, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    assert generate(model, copy) == 0
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before
    assert generate(model, copy, count=20) == 0
    longer, shorter = contents(copy), contents(herd)
    assert all(longer[name] == data for name, data in shorter.items() if name.endswith("0.tar") or "pca" in name)
    assert len(facts_of(copy)) == 20 and main(["data", "check", str(copy)]) == 0


def test_parts_of_an_array_job_make_the_whole(herd: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(model, tmp_path, "--shard", "2/2") == 0
    assert "other parts are not finished" in capsys.readouterr().out
    assert not (tmp_path / "horse-generated-features.plan.json").exists()
    assert generate(model, tmp_path, "--shard", "1/2") == 0
    assert generate(model, tmp_path, "--shard", "2/2") == 0
    assert contents(tmp_path) == contents(herd)


def test_the_shipped_reader_refuses_toys_and_a_set_without_it_is_another(
    model: Path, tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "read"
    assert generate(model, out, "--reader", "auto", "--attempts", "1", "--no-features", count=8) == 0
    report = json.loads((out / "horse-generated.report.json").read_text())
    assert {"another animal than asked", "another view than asked"} & set(report["rejected"])
    assert main(["data", "check", str(out)]) == 0
    assert generate(model, copy, "--reader", "auto") == 2 and "reader" in last_line(capsys)
    assert generate(model, tmp_path / "new", "--reader", str(tmp_path / "nothing")) == 2
    assert "nothing: does not exist; expected a model folder" in last_line(capsys) and not (tmp_path / "new").exists()


def test_a_ratio_of_views_and_no_features(model: Path, tmp_path: Path) -> None:
    assert generate(model, tmp_path, "--views", "behind=1", "left=1", "--no-features", count=8) == 0
    assert {row["view_name"] for row in facts_of(tmp_path)} == {"behind", "left"}
    assert not list(tmp_path.glob("*features*"))
    assert main(["data", "features", str(tmp_path), "--dims", "3", "--workers", "1", "--suffix", "three"]) == 0
    assert FeaturePca.load(tmp_path / "horse-generated-features-three.pca").config.dims == 3
    assert main(["data", "check", str(tmp_path)]) == 0


def test_check_passes_what_is_whole_and_names_a_flipped_bit(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(copy)]) == 0
    tar = copy / "horse-generated-000001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 4
    tar.write_bytes(data)
    capsys.readouterr()
    assert main(["data", "check", str(copy)]) == 2
    told = capsys.readouterr().out.splitlines()
    assert told == ["horse-generated-000001.tar: sample 8 (horse-generated-000008): not the bytes that were written"]
    (copy / "diary.txt").write_text("today")
    (copy / "horse-generated-features-000000.tar").unlink()
    assert main(["data", "check", str(copy)]) == 2
    told = capsys.readouterr().out
    assert "diary.txt: belongs to no data set" in told and "horse-generated-features-000000.tar: missing" in told


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda members, facts: members.pop("mask.png"), "has no mask.png, and does not say why"),
        (lambda members, facts: members.update({"mask.png": black(64)}), "the picture is 32x32, the mask 64x64, the facts say 32x32"),
        (lambda members, facts: members.update({"mask.png": black(32)}), "the mask is empty"),
        (lambda members, facts: members.update({"rgb.png": b"no picture"}), "a picture cannot be read"),
        (lambda members, facts: facts.pop("thumbnail"), "its facts have no thumbnail"),
        (lambda members, facts: facts.update(view="left"), "view is 'left'"),
        (lambda members, facts: facts.update(failed="no"), "is said to have failed, but has a picture"),
        (lambda members, facts: facts.update(key="other"), "its facts are of 'other'"),
    ],
)
def test_check_looks_into_rows(herd: Path, tmp_path: Path, spoil, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole files that say what cannot be: shards written again with one row spoilt."""
    from farm3d.core.shard_plan import read_plan
    from farm3d.core.shards import write_shards
    from farm3d.training.dataset.cutting import json_bytes

    plan = read_plan(herd / "horse-generated.plan.json")
    index = ShardIndex(herd / plan.file_name)
    spoilt = next(n for n in range(len(index)) if "rgb.png" in index.read(n)[1])

    def draw(number: int) -> tuple[str, dict[str, bytes]]:
        key, members = index.read(number)
        if number == spoilt:
            facts = json.loads(members["json"])
            spoil(members, facts)
            members["json"] = json_bytes(facts)
        return key, members

    write_shards(tmp_path, plan, draw)
    assert main(["data", "check", str(tmp_path)]) == 2
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 and words in told[0] and f"horse-generated-{spoilt:06d}" in told[0]


def black(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_check_compares_features_with_pictures(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FeaturePca.load(copy / "horse-generated-features.pca")
    config = copy / "horse-generated-features.pca" / "config.json"
    config.write_text(config.read_text().replace("4", "5"))
    assert main(["data", "check", str(copy)]) == 2
    assert "config.json" in capsys.readouterr().out


def test_look_draws_pictures_features_and_failures(herd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "look", str(herd), "--out", str(tmp_path / "a.png"), "--count", "6"]) == 0
    assert main(["data", "look", str(herd), "--out", str(tmp_path / "b.png"), "--count", "16", "--features"]) == 0
    with Image.open(tmp_path / "a.png") as plain, Image.open(tmp_path / "b.png") as features:
        assert plain.width == 6 * 192 and features.height > plain.height
    failed = sum("failed" in row for row in facts_of(herd))
    assert main(["data", "look", str(herd), "--out", str(tmp_path / "c.png"), "--failed"]) == (0 if failed else 2)


def test_another_backbone_beside_the_first_is_refused_without_a_name_of_its_own(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "features", str(copy), "--dims", "3", "--workers", "1"]) == 2
    assert "has 4 components of efficientnet_lite0, asked for are 3" in last_line(capsys)
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'farm3d[diffusion]'")
    from tests.testing.tiny_models import tiny_vit

    vit = tiny_vit(copy.parent / "vit")
    assert main(["data", "features", str(copy), "--dims", "3", "--workers", "1", "--encoder", str(vit), "--suffix", "vit"]) == 0
    assert FeaturePca.load(copy / "horse-generated-features-vit.pca").config.encoder == "vit"
    assert main(["data", "check", str(copy)]) == 0


def test_a_full_disk_is_one_line(model: Path, tmp_path: Path, full_disk: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(model, tmp_path / "set") == 2
    line = last_line(capsys)
    assert line.startswith("farm3d: ") and "horse-generated-000000.tar: cannot write" in line
    assert not list((tmp_path / "set").glob("*.tar")) and not list((tmp_path / "set").glob("*.part*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--views", "up=1"], "--views up=1: no view of this name"),
        (["--views", "front"], "--views front: expected NAME=SHARE"),
        (["--views", "front=0"], "--views: every share is 0"),
        (["--prompts", "bad.toml"], "bad.toml: prompt 1: unknown field 'txet'"),
        (["--prompts", "bad.toml", "--phrases", "embedded"], "--prompts and --phrases"),
        (["--per-shard", "6"], "--per-shard 6: expected a multiple of --batch 4"),
        (["--count", "0"], "count must be a whole number of at least 1"),
        (["--attempts", "0"], "--attempts 0: expected 1"),
        (["--steps", "0"], "--steps 0: expected 1"),
        (["--guidance", "nan"], "--guidance nan: expected"),
        (["--size-px", "7"], "--size-px 7: expected 16"),
        (["--workers", "0"], "--workers 0: expected at least 1"),
        (["--shard", "3/2"], "part '3/2': expected K/N"),
        (["--device", "abacus"], "--device abacus: no such kind of device"),
        (["--mask-model", "x.onnx"], "--mask-model: toys draws silhouettes itself"),
        (["--name", "No Name"], "'No Name': not a name for a data set"),
        (["--prior", "nowhere"], "nowhere: no such folder"),
        (["--encoder", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_words_end_with_two_and_one_line(
    model: Path, tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('[[prompt]]\ntxet = "a goat"\n')
    assert generate(model, tmp_path / "set", *words, count=4) == 2
    line = last_line(capsys)
    assert line.startswith("farm3d: ") and message in line, line
    assert not (tmp_path / "set").exists()


def test_the_model_is_opened_once_and_in_what_it_draws_in(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farm3d.diffusion import prior as module

    opened: list[torch.dtype] = []
    load = module.load_prior
    monkeypatch.setattr(module, "load_prior", lambda *source, **options: (opened.append(options["dtype"]), load(*source, **options))[1])
    assert generate(model, tmp_path, "--dtype", "bfloat16", "--no-features", count=4) == 0
    assert opened == [torch.bfloat16]
    assert generate(model, tmp_path, "--dtype", "auto", "--no-features", count=4) == 0
    assert opened == [torch.bfloat16] * 2  # of a set that was begun, what it was begun in


def test_a_category_that_the_embedded_model_does_not_know(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "okapi", "--out", str(tmp_path / "set"), "--prior", str(model)]) == 2
    assert "the barn has no 'okapi'" in last_line(capsys)
    assert main(["generate", "../x", "--out", str(tmp_path / "set"), "--prior", str(model)]) == 2
    assert "no name for a category" in last_line(capsys) and not (tmp_path / "set").exists()


def test_without_a_model_it_says_where_one_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from farm3d.apps import picture_prior as module

    monkeypatch.setattr(module, "_SHIPPED_PRIOR", "not_shipped")
    assert main(["generate", "horse", "--out", str(tmp_path / "set")]) == 2
    assert "no text-to-image model" in (line := last_line(capsys)) and "farm3d prior train" in line


def test_another_recipe_in_one_folder_is_refused(copy: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(copy)
    assert generate(model, copy, "--seed", "3") == 2
    assert "seed" in last_line(capsys) and contents(copy) == before


@pytest.mark.parametrize("words", [["check", "nowhere"], ["look", "nowhere", "--out", "x.png"], ["features", "nowhere"], ["check", "."]])
def test_data_without_data_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    out = capsys.readouterr()
    assert len((out.out + out.err).strip().splitlines()) == 1
