"""``farm3d evaluate``: every action from words to files, and what it says when words or files are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.testing.truths import truth_folder

from farm3d.apps import cli
from farm3d.apps.evaluate_options import BarnOptions, BaselineOptions, CompareOptions, EvaluateOptions, KeypointsOptions, ShapeOptions
from farm3d.core.random import numpy_generator


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return truth_folder(tmp_path_factory.mktemp("world") / "test", count=4)


def test_words_to_options() -> None:
    for words, expected in (
        (
            "barn --truth t --predictions p --out o --method m --novel-views 4 --pairs 9 --processes 2 --no-plots",
            BarnOptions(Path("t"), Path("p"), Path("o"), method="m", novel_views=4, pairs=9, processes=2, no_plots=True),
        ),
        (
            "baseline fit --truth t --out o --category cow --refine-steps 5 --seed 2 --processes 3 --overwrite",
            BaselineOptions("fit", Path("t"), Path("o"), category="cow", refine_steps=5, seed=2, processes=3, overwrite=True),
        ),
        ("keypoints --annotations a.mat --predictions p --out k.json", KeypointsOptions(Path("a.mat"), Path("p"), Path("k.json"))),
        ("shape p t --out s.json", ShapeOptions(Path("p"), Path("t"), out=Path("s.json"))),
        (
            "shape p t --out s.json --unturned-out u.json",
            ShapeOptions(Path("p"), Path("t"), out=Path("s.json"), unturned_out=Path("u.json")),
        ),
        ("compare a.json b.json", CompareOptions(Path("a.json"), Path("b.json"))),
    ):
        assert cli.parse(["evaluate", *words.split()]) == EvaluateOptions(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evaluate", "barn, baseline, keypoints, shape, compare"),
        ("evaluate barn --truth t --out o", "--predictions"),
        ("evaluate baseline best --truth t --out o", "truth"),
        ("evaluate barn --truth absent --predictions . --out o", "absent: no such folder or shard"),
        ("evaluate compare absent.json b.json", "absent.json: cannot read"),
        ("evaluate keypoints --annotations absent.mat --predictions . --out k.json", "absent.mat: cannot read"),
        ("evaluate shape . . --no-rotation --unturned-out u.json", "nothing is turned anyway"),
        ("evaluate barn --truth absent --predictions . --out o --novel-views -3", "novel views 0 to 360"),
    ],
)
def test_mistakes_are_one_line(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and expected in lines[0], lines


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from farm3d.apps.cli import main; code = main(['evaluate', 'barn', '--help']);"
        "heavy = {'torch', 'numba', 'scipy', 'numpy', 'PIL', 'matplotlib', 'safetensors'} & set(sys.modules);"
        "sys.exit(f'imported for --help: {sorted(heavy)}' if heavy or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--novel-views" in done.stdout


def test_from_truth_to_comparison(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'farm3d[evaluate]'")
    for name in ("truth", "mean"):
        assert cli.main(["evaluate", "baseline", name, "--truth", str(truth), "--out", str(tmp_path / name)]) == 0
        assert "4 answers" in capsys.readouterr().out
        words = ["--truth", str(truth), "--predictions", str(tmp_path / name), "--out", str(tmp_path / f"report-{name}")]
        assert (
            cli.main(["evaluate", "barn", *words, "--novel-views", "2", "--pairs", "50", *(["--no-plots"] if name == "mean" else [])]) == 0
        )
        told = capsys.readouterr().out
        assert f"# {name} on test" in told and "silhouette IoU" in told and "report.json" in told
    assert sorted(path.name for path in (tmp_path / "report-truth").iterdir()) == [
        "action.png", "azimuth.png", "best.png", "iou.png", "report.json", "report.md", "worst.png"
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "report-mean").iterdir()) == ["report.json", "report.md"]
    text = (tmp_path / "report-truth" / "report.json").read_text()
    assert str(tmp_path) not in text and str(truth.parent) not in text
    assert json.loads(text)["command"].startswith("farm3d evaluate barn --truth test --predictions truth --out report-truth")
    out = tmp_path / "compared.md"
    assert cli.main(["evaluate", "compare", str(tmp_path / "report-truth"), str(tmp_path / "report-mean"), "--out", str(out)]) == 0
    assert "# truth minus mean" in out.read_text() and "4 common pictures" in capsys.readouterr().out


def test_shapes_turned_and_unturned_from_one_run(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'farm3d[build]'")
    for name in ("truth", "mean"):
        cli.main(["evaluate", "baseline", name, "--truth", str(truth), "--out", str(tmp_path / name)])
        for spare in sorted((tmp_path / name).glob("horse-test-00000[1-9].*")):
            spare.unlink()
    capsys.readouterr()
    out = [tmp_path / "turned.json", tmp_path / "unturned.json"]
    words = ["evaluate", "shape", str(tmp_path / "mean"), str(tmp_path / "truth"), "--out", str(out[0]), "--unturned-out", str(out[1])]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert told.index("Animodel protocol") < told.index("no rotation (not the protocol)")
    turned, unturned = (json.loads(path.read_text()) for path in out)
    assert "--no-rotation" not in turned["command"] and unturned["command"].endswith("--no-rotation")
    assert 0 < turned["summary"]["bidirectional_m"]["mean"] < unturned["summary"]["bidirectional_m"]["mean"]


def test_shapes_are_compared_pair_by_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(name: str, farther: float) -> str:
        rng = numpy_generator(0, "shapes")
        pairs = [
            {"target": f"horse-{i}.obj", "bidirectional_m": value + farther, "bidirectional_scaled": (value + farther) / 2.5}
            for i, value in enumerate(rng.uniform(0.04, 0.08, 30).tolist())
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps({"command": "farm3d evaluate shape", "summary": {}, "pairs": pairs}))
        return str(tmp_path / f"{name}.json")

    one, other = written("one", 0.0), written("other", 0.005)
    assert cli.main(["evaluate", "compare", other, one]) == 0
    told = capsys.readouterr().out
    assert "# other minus one" in told and "30 common pictures" in told
    assert "| Animodel Chamfer, unit cube ↓ | +0.0020 | +0.0020 – +0.0020 | 0.0001 | 30 (30) | one is better |" in told
    assert cli.main(["evaluate", "compare", one, one]) == 0
    assert "# the first minus the second" in (told := capsys.readouterr().out) and told.count("within noise") == 2
    (tmp_path / "one.json").write_text(json.dumps({"pairs": [{"target": "a.obj", "bidirectional_m": "far"}]}))
    assert cli.main(["evaluate", "compare", other, one]) == 2
    assert "one.json: pair 1: not as farm3d writes it (evaluate again)" in capsys.readouterr().err


def test_keypoints_from_the_barn(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, out = tmp_path / "truth", tmp_path / "keypoints.json"
    cli.main(["evaluate", "baseline", "truth", "--truth", str(truth), "--out", str(answers)])
    (answers / "horse-test-000003.json").unlink()
    words = ["--annotations", str(truth), "--predictions", str(answers), "--out", str(out), "--pairs", "80"]
    capsys.readouterr()
    assert cli.main(["evaluate", "keypoints", *words]) == 0
    told = capsys.readouterr().out
    assert "PCK@0.1" in told and "horse-test-000003: no answer" in told
    facts = json.loads(out.read_text())
    assert facts["keypoints"]["pairs"] == 80 and facts["keypoints"]["unanswered"] > 0 and list(facts["failures"]) == ["horse-test-000003"]
