"""`farm3d reconstruct` from the outside: real files in, whole files or one clear line out."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from farm3d.apps.cli import main
from farm3d.export.glb_reader import read_glb

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "horse.png"
QUICK = ["--refine-steps", "1", "--texture-px", "128", "--threads", "1"]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example at a size that decodes quickly."""
    path = tmp_path_factory.mktemp("photo") / "mare.png"
    with Image.open(EXAMPLE) as picture:
        picture.resize((200, 200)).save(path)
    return path


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(["reconstruct", str(small), "--out", str(out), *QUICK]) == 0
    return out


def test_the_three_files_are_there_and_whole(made: Path) -> None:
    assert files_in(made) == {"mare.glb", "mare.json", "mare.png"}
    model = read_glb(made / "mare.glb")
    assert "root" in model.joint_names
    assert set(model.clip_names) == {"rest", "input_pose", "idle", "walk", "trot", "gallop", "graze"}
    rest = model.vertices_at("rest", 0.0)
    assert abs(rest[:, 1].min().item()) < 1e-3  # feet on the ground
    assert 0.5 < (rest[:, 1].max() - rest[:, 1].min()).item() < 3.0  # metres
    facts = json.loads((made / "mare.json").read_text())
    assert facts["pose"] == {"clip": "input_pose", "time_s": 0.0}
    assert (facts["camera"]["width"], facts["camera"]["height"]) == (200, 200)
    assert facts["seed"] == 0
    with Image.open(made / "mare.png") as sheet:
        assert sheet.width > 1000


def test_the_exported_animal_lies_over_its_silhouette(made: Path, small: Path) -> None:
    """The JSON's camera and the GLB alone, without our structures: project vertices with plain numpy."""
    facts = json.loads((made / "mare.json").read_text())
    view = facts["camera"]
    points = read_glb(made / "mare.glb").vertices_at("input_pose", 0.0).double().numpy()
    matrix = np.array(view["T_camera_world"])
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-5)
    seen = points @ matrix[:3, :3].T + matrix[:3, 3]
    x = view["cx"] + view["fx"] * seen[:, 0] / -seen[:, 2]
    y = view["cy"] - view["fy"] * seen[:, 1] / -seen[:, 2]
    with Image.open(small) as picture:
        alpha = binary_dilation(np.asarray(picture)[..., 3] > 127, iterations=2)  # a hundredth of the picture around the animal
    inside = (x >= 0) & (x < 200) & (y >= 0) & (y < 200)
    on_animal = alpha[y[inside].astype(int), x[inside].astype(int)]
    assert inside.mean() > 0.95
    assert on_animal.mean() > 0.9


def test_a_second_run_skips_what_is_finished(made: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert main(["reconstruct", str(small), "--out", str(made), *QUICK]) == 0
    assert "finished already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in made.iterdir()}


def test_what_another_picture_or_other_options_made_is_neither_kept_nor_lost(
    made: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    (other := tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (64, 64), "red").save(other / f"{small.stem}.png")
    for photo, words in ((other / f"{small.stem}.png", "photo_sha256"), (small, "seed 0 then")):
        more = ["--seed", "5"] if photo == small else []
        assert main(["reconstruct", str(photo), "--out", str(made), *QUICK, *more]) == 2
        told = capsys.readouterr().err
        assert "is of another picture, or was made otherwise" in told and words in told and "--overwrite" in told
    assert main(["reconstruct", str(tmp_path / f"{small.stem}.png"), "--out", str(made), *QUICK]) == 2
    assert "no such file" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in made.iterdir()}


def test_equal_seed_and_threads_give_equal_bytes(made: Path, small: Path, tmp_path: Path) -> None:
    assert main(["reconstruct", str(small), "--out", str(tmp_path), *QUICK]) == 0
    assert (tmp_path / "mare.glb").read_bytes() == (made / "mare.glb").read_bytes()
    assert (tmp_path / "mare.png").read_bytes() == (made / "mare.png").read_bytes()


def test_in_a_folder_a_bad_photograph_does_not_stop_the_rest(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    shutil.copy(small, photos / "b.png")
    (photos / "a.jpg").write_text("no picture")
    assert main(["reconstruct", str(photos), "--out", str(out), *QUICK]) == 2
    captured = capsys.readouterr()
    assert "a.jpg" in captured.err
    assert files_in(out) == {"b.glb", "b.json", "b.png", "report.json"}
    report = json.loads((out / "report.json").read_text())
    assert [entry["status"] for entry in report["photos"]] == ["failed", "done"]
    assert main(["reconstruct", str(photos), "--out", str(out), *QUICK]) == 2  # only the bad one is tried again, but all are listed
    again = json.loads((out / "report.json").read_text())["photos"]
    assert [entry["status"] for entry in again] == ["failed", "kept"]
    assert again[1]["iou"] == report["photos"][1]["iou"]


def bad_pictures(folder: Path, good: Path) -> dict[str, Path]:
    """Pictures that cannot be used, by what is wrong with them."""
    paths = {name: folder / f"{name}.png" for name in ("empty", "truncated", "tiny", "long", "transparent", "missing", "directory")}
    paths["text"] = folder / "text.jpg"
    paths["empty"].touch()
    paths["text"].write_text("a horse is a horse")
    data = good.read_bytes()
    paths["truncated"].write_bytes(data[: len(data) // 3])
    Image.new("RGB", (1, 1)).save(paths["tiny"])
    Image.new("RGB", (20000, 1)).save(paths["long"])
    Image.new("RGBA", (64, 64)).save(paths["transparent"])
    paths["directory"].mkdir()
    return paths


@pytest.mark.parametrize("what", ["empty", "truncated", "tiny", "long", "transparent", "missing", "directory", "text"])
def test_bad_pictures_get_one_line_and_leave_nothing(what: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    path = bad_pictures(photos, small)[what]
    assert main(["reconstruct", str(path), "--out", str(out), *QUICK]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert path.stem in error
    assert "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--refine-steps", "-1"], "refine"),
        (["--texture-px", "3"], "texture"),
        (["--height-m", "-2"], "height"),
        (["--threads", "0"], "threads"),
        (["--threads", "99999999999999999999"], "threads"),
        (["--height-m", "nan"], "height"),
        (["--category", "a" * 300], "aaa"),
        (["--category", "unicorn"], "unicorn"),
        (["--mask", "nowhere.png"], "nowhere.png"),
    ],
)
def test_bad_options_get_one_line(
    change: list[str], expected: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", str(small), "--out", str(tmp_path / "out"), *QUICK, *change]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert expected in error
    assert files_in(tmp_path / "out") == set()


def test_masks_that_mark_nothing_or_do_not_fit(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, picture in (("black", Image.new("L", (200, 200))), ("wide", Image.new("L", (300, 200), 255))):
        path = tmp_path / f"{name}.png"
        picture.save(path)
        assert main(["reconstruct", str(small), "--mask", str(path), "--out", str(tmp_path / "out"), *QUICK]) == 2
        assert name in capsys.readouterr().err
    assert files_in(tmp_path / "out") == set()


def test_a_damaged_model_folder_is_refused(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from farm3d.model.folder import weights_folder

    folder = tmp_path / "model"
    shutil.copytree(weights_folder("horse"), folder)
    tensors = folder / "model.safetensors"
    data = bytearray(tensors.read_bytes())
    data[len(data) // 2] ^= 1
    tensors.write_bytes(data)
    assert main(["reconstruct", str(small), "--category", str(folder), "--out", str(tmp_path / "out"), *QUICK]) == 2
    error = capsys.readouterr().err
    assert "model.safetensors" in error
    tensors.unlink()
    assert main(["reconstruct", str(small), "--category", str(folder), "--out", str(tmp_path / "out"), *QUICK]) == 2
    assert "model.safetensors" in capsys.readouterr().err


def test_an_unwritable_output_is_said_before_any_work(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert main(["reconstruct", str(small), "--out", str(blocked / "out"), *QUICK]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(small: Path, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: every write beyond it fails as it would there."""
    out = tmp_path / "out"
    limit = 20_000
    command = [sys.executable, "-m", "farm3d", "reconstruct", str(small), "--out", str(out), *QUICK]
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", "")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )
    assert finished.returncode == 2, finished.stderr
    assert "cannot write" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert files_in(out) == set()


def test_a_disk_that_fills_up_between_the_files_leaves_none_of_them(small: Path, tmp_path: Path, made: Path) -> None:
    """Room for the contact sheet, not for the GLB, which is the larger: no sheet without an animal may stay."""
    sizes = {suffix: (made / f"mare{suffix}").stat().st_size for suffix in (".png", ".glb")}
    assert sizes[".png"] < sizes[".glb"]
    limit = sum(sizes.values()) // 2
    out = tmp_path / "out"
    finished = subprocess.run(
        [sys.executable, "-m", "farm3d", "reconstruct", str(small), "--out", str(out), *QUICK],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )
    assert finished.returncode == 2, finished.stderr
    assert "mare.glb: cannot write" in finished.stderr
    assert files_in(out) == set()


@pytest.mark.parametrize("name", ["mare.2024.tar.png", "[b]馬 mare.png", "馬" * 70 + ".png"])
def test_outputs_are_named_by_the_whole_stem(name: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(small, tmp_path / name)
    out = tmp_path / "out"
    assert main(["reconstruct", str(tmp_path / name), "--out", str(out), *QUICK]) == 0
    stem = name.removesuffix(".png")
    assert files_in(out) == {f"{stem}.glb", f"{stem}.json", f"{stem}.png"}
    assert name in capsys.readouterr().out


def test_names_that_could_not_all_be_written_are_refused_first(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for names, told in ((["a.png", "a.jpg"], "same files"), (["report.png", "b.png"], "report.json"), (["x" * 251 + ".png"], "too long")):
        photos = tmp_path / told
        photos.mkdir()
        for name in names:
            shutil.copy(small, photos / name)
        assert main(["reconstruct", str(photos), "--out", str(tmp_path / "out"), *QUICK]) == 2
        error = capsys.readouterr().err.strip()
        assert told in error and len(error.splitlines()) == 1
    assert files_in(tmp_path / "out") == set()


def test_photographs_and_masks_are_never_written_over(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(small, tmp_path / "mare.png")
    assert main(["reconstruct", str(tmp_path / "mare.png"), "--out", str(tmp_path), "--overwrite", *QUICK]) == 2
    assert "mare.png would be written over" in capsys.readouterr().err
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(small) as picture:
        picture.convert("RGB").save(photos / "mare.jpg")
    masks = ["--mask", str(tmp_path), "--out", str(tmp_path)]
    assert main(["reconstruct", str(photos), *masks, *QUICK]) == 2
    assert "mare.png would be written over" in capsys.readouterr().err
    assert (tmp_path / "mare.png").read_bytes() == small.read_bytes()


def test_a_file_of_the_users_is_never_written_over(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(small) as picture:
        picture.convert("RGB").save(tmp_path / "mare.jpg")
    shutil.copy(small, tmp_path / "mare.png")  # another photograph of the same name, which nobody asked about
    assert main(["reconstruct", str(tmp_path / "mare.jpg"), "--out", str(tmp_path), *QUICK]) == 2
    assert "mare.png: exists and was not made by" in capsys.readouterr().err
    assert files_in(tmp_path) == {"mare.jpg", "mare.png"}
    assert (tmp_path / "mare.png").read_bytes() == small.read_bytes()


def test_a_second_run_into_the_photographs_folder_knows_its_own_sheets(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in made.iterdir():
        shutil.copy(path, tmp_path / path.name)
    Image.new("RGB", (64, 64)).save(tmp_path / "mare.jpg")  # the photograph that the files beside it came from
    facts = json.loads((tmp_path / "mare.json").read_text())
    del facts["request"]  # as of an earlier farm3d, which did not say from what
    (tmp_path / "mare.json").write_text(json.dumps(facts))
    assert main(["reconstruct", str(tmp_path), "--out", str(tmp_path), *QUICK]) == 0
    assert "1 of 1 are finished already" in capsys.readouterr().out


def test_callback_of_the_python_door_can_stop(small: Path) -> None:
    from farm3d import Reconstructor
    from farm3d.core.errors import Cancelled

    reconstructor = Reconstructor.from_pretrained("horse")
    with pytest.raises(Cancelled):
        reconstructor(small, callback=lambda progress: progress.step < 3)
    with pytest.raises(Cancelled):
        reconstructor(small, callback=lambda progress: np.bool_(False))  # pyright: ignore[reportArgumentType]


def test_the_python_door_refuses_what_is_no_picture_and_no_mask(small: Path) -> None:
    from farm3d import Farm3DError, Reconstructor

    reconstructor = Reconstructor.from_pretrained("horse")
    with Image.open(small) as picture:
        pixels = np.asarray(picture)
    alpha = pixels[..., 3].astype(float)
    for image in (None, 3, pixels.tolist(), b"png"):
        with pytest.raises(Farm3DError, match="expected a path, a PIL picture or a NumPy array"):
            reconstructor(image)  # pyright: ignore[reportArgumentType]
    for wrong in ({"refine_steps": 2.5}, {"refine_steps": "3"}, {"height_m": "2"}, {"texture_px": 128.5}, {"seed": 1.5}, {"seed": None}):
        with pytest.raises(Farm3DError, match="expected"):
            reconstructor(pixels, **wrong)  # pyright: ignore[reportArgumentType]
    masks = {
        "numbers or booleans": np.full(alpha.shape, "a"),
        "finite values": np.where(alpha > 127, np.inf, 0.0),
        "whole picture": np.ones(alpha.shape),
        "marks no animal": np.zeros(alpha.shape),
        "200 x 200": alpha[:99],
        "array of numbers": [[1.0], [1.0, 0.0]],
    }
    for told, mask in masks.items():
        with pytest.raises(Farm3DError, match=told):
            reconstructor(pixels[..., :3], mask=mask)  # pyright: ignore[reportArgumentType]


def test_one_pass_needs_networks(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(small), "--no-refine", "--out", str(tmp_path / "out")]) == 2
    assert "horse has no networks" in (told := capsys.readouterr().err) and "horse-learned" in told
    assert not (tmp_path / "out").exists()


def test_the_picture_may_decide_what_it_shows(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(small), "--category", "auto", "--out", str(tmp_path), *QUICK]) == 0
    facts = json.loads((tmp_path / f"{small.stem}.json").read_text())
    assert facts["categories"].keys() == {"cow", "horse", "sheep"} and max(facts["categories"], key=facts["categories"].get) == "horse"
    assert "horse, outline agreement" in capsys.readouterr().out
    assert main(["reconstruct", str(small), "--category", "auto", "--texture-from", str(small), "--out", str(tmp_path), *QUICK]) == 2
    assert "--texture-from: coats fit animals of one category" in capsys.readouterr().err
