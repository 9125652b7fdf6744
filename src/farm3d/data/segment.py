"""Finds what stands out in a photograph with ISNet or U2-Net (ONNX). The only door to onnxruntime."""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from farm3d.core.errors import InputError, MissingPartError, ModelError
from farm3d.core.files import user_path
from farm3d.data.fetch import SEGMENTERS, check_segmenter, models_folder
from farm3d.data.photo import shown_path

__all__ = ["InstalledSegmenter", "OnnxSegmenter", "Segmenter", "find_segmenter", "installed_segmenters"]

_REMBG_FILES = ("isnet-general-use.onnx", "u2net.onnx", "silueta.onnx", "u2netp.onnx")
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class Segmenter(Protocol):
    """Anything that turns colours ``[H, W, 3]`` uint8 into coverage ``[H, W]`` float32 in [0, 1]."""

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return the coverage of what stands out."""
        ...


@dataclass(frozen=True)
class InstalledSegmenter:
    """A segmenter file on this machine: where it is, how large, and who put it there (``"farm3d"`` or ``"rembg"``)."""

    path: Path
    size_bytes: int
    source: str


class OnnxSegmenter:
    """ISNet or U2-Net in ONNX format, opened at the first call.

    The network's square input tells the two apart (the file's name decides where the size is open):

    * ISNet, 1024 px: colours minus 128, divided by 256 (training used rgb/255 - 1/2, which differs by less than 0.004);
    * U2-Net, 320 px: colours divided by the picture's brightest value, then ImageNet mean and standard deviation.

    The picture is stretched to the square, the answer stretched back. Both networks end in a sigmoid, so that the answer is used as it
    is; stretching it to [0, 1], as is often done, would find an animal in an empty meadow.

    Args:
        path: an ONNX file; None searches as :func:`find_segmenter` does, when first called.
        threads: processor threads; None lets onnxruntime choose.
    """

    def __init__(self, path: Path | str | None = None, *, threads: int | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.threads = threads
        self._net: _Net | None = None

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return the coverage ``[H, W]`` float32 in [0, 1] of what stands out in ``rgb`` ``[H, W, 3]`` uint8.

        Raises:
            MissingPartError: onnxruntime or a model file is not installed.
            ModelError: the file is damaged or another kind of network.
            InputError: the given file does not exist.
        """
        if self._net is None:
            self._net = _open(find_segmenter(self.path), self.threads)
        return self._net.run(rgb)


def find_segmenter(explicit: Path | None = None) -> Path:
    """Return the model file to use: the given one, else the best of :func:`installed_segmenters`.

    Raises:
        InputError: the given file does not exist.
        MissingPartError: none is given and none is installed.
    """
    if explicit is not None:
        if not os.path.isfile(explicit):  # Path.is_file raises where a parent may not be searched
            raise InputError(f"{shown_path(explicit)}: no such segmenter file", hint="give an ISNet or U2-Net ONNX file")
        return Path(explicit)
    installed = installed_segmenters()
    if not installed:
        raise MissingPartError(
            f"no segmenter to cut the animal out: {SEGMENTERS['medium'].file_name} is not in {shown_path(models_folder())}",
            hint="run `farm3d models fetch`, or put an ISNet or U2-Net .onnx file there, or mark the animal with --mask FILE",
        )
    return installed[0].path


def installed_segmenters() -> list[InstalledSegmenter]:
    """List the segmenters on this machine, best first: our folder, rembg's (``U2NET_HOME`` or ``~/.u2net``), our small one."""
    ours = models_folder()
    medium, small = SEGMENTERS["medium"].file_name, SEGMENTERS["small"].file_name
    other = sorted(path.name for path in _files(ours) if path.suffix == ".onnx" and path.name not in (medium, small))
    rembg = user_path(os.environ.get("U2NET_HOME") or Path(os.environ.get("XDG_DATA_HOME") or "~", ".u2net"))
    places = [(ours, name, "farm3d") for name in (medium, *other)] + [(rembg, name, "rembg") for name in _REMBG_FILES]
    places.append((ours, small, "farm3d"))  # 8-bit weights: median outline agreement on 11 photographs 0.86 against 0.93
    found = []
    for folder, name, source in places:
        path = folder / name
        if os.path.isfile(path):
            found.append(InstalledSegmenter(path, os.path.getsize(path), source))
    return found


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


@dataclass(frozen=True)
class _Net:
    """An open network: its session, names, input side in pixels, and which of the two normalisations it wants."""

    session: Any
    run_options: Any
    path: Path
    input_name: str
    output_name: str
    side_px: int
    is_isnet: bool
    dtype: type

    def run(self, rgb: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        square = np.asarray(Image.fromarray(rgb).resize((self.side_px, self.side_px), Image.Resampling.BILINEAR), np.float32)
        if self.is_isnet:
            square = (square - 128) / 256
        else:
            square = (square / max(1.0, float(square.max())) - _IMAGENET_MEAN) / _IMAGENET_STD
        feed = {self.input_name: np.ascontiguousarray(square.transpose(2, 0, 1)[None], self.dtype)}
        try:
            answer = np.asarray(self.session.run([self.output_name], feed, self.run_options)[0], np.float32)
        except Exception as error:  # onnxruntime has its own tree of errors under Exception
            raise ModelError(f"{shown_path(self.path)}: the segmenter fails: {_first_line(error)}", hint=_WANTED) from error
        coverage = answer.reshape(answer.shape[-2:]) if answer.size == math.prod(answer.shape[-2:]) else None
        if coverage is None or not np.isfinite(coverage).all() or coverage.min() < -0.01 or coverage.max() > 1.01:
            raise ModelError(f"{shown_path(self.path)}: its answer is no coverage in [0, 1]: another kind of network", hint=_WANTED)
        return np.asarray(Image.fromarray(coverage).resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)


_WANTED = "give an ISNet or U2-Net ONNX file, or run `farm3d models fetch`"


def _open(path: Path, threads: int | None) -> _Net:
    where = shown_path(path)
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        hint = "pip install 'farm3d[mask]', or mark the animal with --mask FILE"
        raise MissingPartError("cutting the animal out of the picture needs onnxruntime", hint=hint) from error
    check_segmenter(path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors reach the user as ours, once
    options.enable_cpu_mem_arena = False  # 0.75 GB less at the peak, and no slower
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    run_options = ort.RunOptions()
    run_options.log_severity_level = 4
    run_options.only_execute_path_to_fetches = True  # ISNet's eleven side outputs serve training only
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own tree of errors under Exception
        raise ModelError(f"{where}: not an ONNX network that can be opened: {_first_line(error)}", hint=_WANTED) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    shape = list(inputs[0].shape) if inputs else []
    if len(inputs) != 1 or not outputs or len(shape) != 4 or shape[1] != 3 or inputs[0].type not in dtypes:
        raise ModelError(f"{where}: takes {[(entry.type, entry.shape) for entry in inputs]}, not one picture [1, 3, H, W]", hint=_WANTED)
    side, is_isnet = _kind(shape, path)
    return _Net(session, run_options, path, inputs[0].name, outputs[0].name, side, is_isnet, dtypes[inputs[0].type])


def _kind(shape: list[Any], path: Path) -> tuple[int, bool]:
    """Return the input side in pixels and whether the network is an ISNet; raise ModelError when it is neither of the two."""
    name = path.stem.lower()
    fixed = shape[2] if isinstance(shape[2], int) and shape[2] == shape[3] else None
    if fixed == 1024 or (fixed is None and "isnet" in name):
        return 1024, True
    if fixed == 320 or (fixed is None and ("u2net" in name or "silueta" in name)):
        return 320, False
    raise ModelError(f"{shown_path(path)}: takes pictures of {shape[2]}x{shape[3]}; ISNet takes 1024x1024, U2-Net 320x320", hint=_WANTED)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
