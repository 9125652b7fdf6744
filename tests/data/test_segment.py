"""The segmenter's door: real ONNX files of ISNet's and U2-Net's signature, files that are neither, and the search order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from farm3d.core.errors import InputError, MissingPartError, ModelError
from farm3d.data.preprocess import find_mask, find_masks, list_photos, read_mask
from farm3d.data.segment import OnnxSegmenter, find_segmenter, installed_segmenters

onnx = pytest.importorskip("onnx", reason="the package onnx, which builds the small test networks, is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'farm3d[mask]'")


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the models of whoever runs it."""
    monkeypatch.setenv("FARM3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))
    return tmp_path


def write_net(
    path: Path,
    *,
    side: int | str = 320,
    weights: tuple[float, float, float] = (1.0, 0.0, 0.0),
    bias: float = 0.0,
    sigmoid: bool = True,
    channels: int = 3,
) -> Path:
    """Write one 1x1 convolution (and a sigmoid) with the signature of ISNet (1024) or U2-Net (320)."""
    from onnx import TensorProto, helper

    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = helper.make_tensor("w", TensorProto.FLOAT, [1, channels, 1, 1], list(weights)[:channels])
    shift = helper.make_tensor("b", TensorProto.FLOAT, [1], [bias])
    nodes = [helper.make_node("Conv", ["input", "w", "b"], ["logit" if sigmoid else "output"])]
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["logit"], ["output"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, side, side])],
        [kernel, shift],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def picture() -> np.ndarray:
    rgb = np.full((50, 80, 3), 40, np.uint8)
    rgb[15:35, 20:60] = (200, 60, 60)
    return rgb


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_isnet_gets_its_normalisation_and_answers_at_the_photos_size(tmp_path: Path) -> None:
    coverage = OnnxSegmenter(write_net(tmp_path / "a.onnx", side=1024, weights=(8.0, 0, 0)), threads=1)(picture())
    assert coverage.shape == (50, 80) and coverage.dtype == np.float32
    assert coverage[25, 40] == pytest.approx(sigmoid(8 * (200 - 128) / 256), abs=1e-4)
    assert coverage[5, 5] == pytest.approx(sigmoid(8 * (40 - 128) / 256), abs=1e-4)
    assert ((coverage > 0.5) == (picture()[..., 0] > 128)).mean() > 0.99


def test_u2net_gets_its_normalisation(tmp_path: Path) -> None:
    coverage = OnnxSegmenter(write_net(tmp_path / "a.onnx", side=320, weights=(0, 1.0, 0)), threads=1)(picture())
    assert coverage[25, 40] == pytest.approx(sigmoid((60 / 200 - 0.456) / 0.224), abs=1e-4)


@pytest.mark.parametrize(("name", "is_isnet"), [("isnet-general-use", True), ("u2net", False)])
def test_the_name_decides_where_the_size_is_open(tmp_path: Path, name: str, is_isnet: bool) -> None:
    coverage = OnnxSegmenter(write_net(tmp_path / f"{name}.onnx", side="n"), threads=1)(picture())
    expected = (200 - 128) / 256 if is_isnet else (200 / 200 - 0.485) / 0.229
    assert coverage[25, 40] == pytest.approx(sigmoid(expected), abs=1e-4)


def test_equal_pictures_give_equal_bytes(tmp_path: Path) -> None:
    segment = OnnxSegmenter(write_net(tmp_path / "a.onnx", side=1024), threads=2)
    assert segment(picture()).tobytes() == segment(picture()).tobytes()


def test_find_mask_through_a_network(tmp_path: Path) -> None:
    from farm3d.data.photo import photo_from_image

    segment = OnnxSegmenter(write_net(tmp_path / "a.onnx", side=1024, weights=(30.0, 0, 0)), threads=1)
    found = find_mask(photo_from_image(picture()), segmenter=segment)
    assert found.source == "segmenter" and ((found.coverage > 0.5) == (picture()[..., 0] > 128)).mean() > 0.99


def test_files_that_are_no_segmenter_are_refused_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is not a network\n" * 50)
    whole = write_net(tmp_path / "whole.onnx").read_bytes()
    half = tmp_path / "half.onnx"
    half.write_bytes(whole[: len(whole) // 2])
    empty = tmp_path / "empty.onnx"
    empty.touch()
    cases = {
        text: "not an ONNX network",
        half: "half.onnx",
        empty: "empty.onnx",
        write_net(tmp_path / "size.onnx", side=512): "512x512",
        write_net(tmp_path / "grey.onnx", channels=1): "not one picture",
        write_net(tmp_path / "logits.onnx", sigmoid=False, weights=(50, 0, 0)): "no coverage",
        write_net(tmp_path / "nan.onnx", sigmoid=False, bias=float("nan")): "no coverage",
    }
    for path, words in cases.items():
        with pytest.raises(ModelError) as caught:
            OnnxSegmenter(path, threads=1)(picture())
        assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value), path.name
    assert capfd.readouterr() == ("", "")


def test_flipped_bits_never_give_another_kind_of_error(tmp_path: Path) -> None:
    from farm3d.core.random import numpy_generator

    good = write_net(tmp_path / "a.onnx").read_bytes()
    refused = 0
    for seed in range(60):
        draw = numpy_generator(seed, "onnx")
        data = bytearray(good)
        data[int(draw.integers(0, len(data)))] ^= 1 << int(draw.integers(0, 8))
        (tmp_path / "b.onnx").write_bytes(bytes(data))
        try:
            coverage = OnnxSegmenter(tmp_path / "b.onnx", threads=1)(picture())
        except ModelError:
            refused += 1
        else:
            assert np.isfinite(coverage).all() and coverage.shape == (50, 80)
    assert refused > 10


def test_the_search_goes_given_file_our_folder_rembg(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="farm3d models fetch") as caught:
        find_segmenter()
    assert "isnet-medium.onnx" in str(caught.value) and str(tmp_path / "home" / "models") in str(caught.value)
    u2net = write_net(tmp_path / "rembg" / "u2net.onnx")
    assert find_segmenter() == u2net
    isnet = write_net(tmp_path / "rembg" / "isnet-general-use.onnx", side=1024)
    assert find_segmenter() == isnet
    own = write_net(tmp_path / "home" / "models" / "own.onnx")
    assert find_segmenter() == own
    medium = write_net(tmp_path / "home" / "models" / "isnet-medium.onnx")
    small = write_net(tmp_path / "home" / "models" / "isnet-small.onnx")
    assert find_segmenter() == medium
    assert [(entry.path, entry.source) for entry in installed_segmenters()] == [
        (medium, "farm3d"),
        (own, "farm3d"),
        (isnet, "rembg"),
        (u2net, "rembg"),
        (small, "farm3d"),
    ]
    assert find_segmenter(u2net) == u2net
    with pytest.raises(InputError, match="no such segmenter file"):
        find_segmenter(tmp_path / "missing.onnx")


def test_a_damaged_download_is_noticed_before_it_is_used(tmp_path: Path) -> None:
    write_net(tmp_path / "home" / "models" / "isnet-medium.onnx", side=1024)
    with pytest.raises(ModelError, match="instead of 88,188,479"):
        OnnxSegmenter(threads=1)(picture())


def test_the_real_isnet_finds_real_horses(shared_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farm3d.data.photo import load_photo

    monkeypatch.undo()
    if not installed_segmenters():
        pytest.skip("no segmenter on this machine: `farm3d models fetch` brings one")
    segment = OnnxSegmenter(threads=2)
    folder = shared_photos / "horse"
    for path, mask in list(find_masks(list_photos(folder), folder).items())[:2]:
        photo = load_photo(path)
        assert mask is not None
        truth = read_mask(mask, photo.size_px) > 0.5
        found = find_mask(photo, segmenter=segment).coverage > 0.5
        assert (truth & found).sum() / (truth | found).sum() > 0.9, path.name
