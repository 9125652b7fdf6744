"""Reads keypoints: A-CSM's PASCAL files, BADJA's films, and the closed world's own truth.

The two published formats follow their public loaders: ``acsm/data/base.py`` of A-CSM, ``badja_data.py`` and ``joint_catalog.py`` of
BADJA. Neither data set can be shipped, so the tests write small files of the same form.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from farm3d.core.errors import InputError
from farm3d.evaluation.keypoints import Annotation
from farm3d.evaluation.matlab import read_matlab
from farm3d.evaluation.truth import Truth

__all__ = ["BADJA_JOINTS", "read_badja", "read_pascal", "truth_annotation"]

_MAX_FILE_BYTES = 1 << 30
_JOINTS = 37
_PASCAL = "give CATEGORY_val.mat of A-CSM's cachedir/pascal/data"
BADJA_JOINTS: dict[int, str] = {
    8: "upper_right_1",
    9: "upper_right_2",
    10: "upper_right_3",
    12: "upper_left_1",
    13: "upper_left_2",
    14: "upper_left_3",
    15: "neck_lower",
    18: "lower_right_1",
    19: "lower_right_2",
    20: "lower_right_3",
    22: "lower_left_1",
    23: "lower_left_2",
    24: "lower_left_3",
    25: "tail_0",
    28: "tail_3",
    31: "tail_6",
    32: "jaw",
    33: "nose",
    35: "right_ear",
    36: "left_ear",
}
"""The 20 of BADJA's 37 joints that people marked, by their number."""


def truth_annotation(truth: Truth) -> Annotation:
    """Return a sample's keypoints; the box is the tight one round its mask."""
    rows, columns = np.nonzero(truth.mask.numpy() > 0.5)
    width, height = truth.mask.shape[1], truth.mask.shape[0]
    if len(rows):
        width, height = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
    points, visible = truth.keypoints_px.double().numpy(), truth.visible.numpy()
    return Annotation(truth.key, truth.names, points, visible, (float(width), float(height)), truth.individual)


def read_pascal(path: Path) -> list[Annotation]:
    """Read ``{horse|cow|sheep}_val.mat`` of A-CSM's ``cachedir/pascal/data``, in the file's order.

    Used: ``images(i).rel_path``, ``voc_rec_id``, ``bbox`` (x1, y1, x2, y2) and ``parts`` (3 x P: x, y, visible), pixels counted from
    1. The key is ``rel_path`` without its suffix, ``_`` and ``voc_rec_id``, as in the published evaluation. Keypoint names come from
    ``kp_names`` in ``{category}_kps.mat`` beside it if that is there. A point counted from 1 is moved by -0.5 to our pixels, whose
    first centre is at 0.5.

    Raises:
        InputError: no such file, damaged, or not of this form; see :func:`farm3d.evaluation.matlab.read_matlab`.
    """
    records = read_matlab(path, "images")
    beside = path.with_name(f"{path.stem.rsplit('_', 1)[0]}_kps.mat")
    names = read_matlab(beside, "kp_names") if beside.is_file() else []
    if not isinstance(records, list) or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path.name}: expected a struct array 'images', and keypoint names in a cell", hint=_PASCAL)
    return [_pascal_record(record, names, f"{path.name}: image {number}") for number, record in enumerate(records, 1)]


def _pascal_record(record: Any, names: list[str], where: str) -> Annotation:
    try:
        box = [_scalar(record["bbox"][0][name]) for name in ("x1", "y1", "x2", "y2")]
        parts, picture, number = record["parts"], record["rel_path"], int(_scalar(record["voc_rec_id"]))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{where}: expected rel_path, voc_rec_id, bbox and parts", hint=_PASCAL) from error
    if not isinstance(picture, str) or not isinstance(parts, np.ndarray) or parts.ndim != 2 or parts.shape[0] != 3:
        raise InputError(f"{where}: expected rel_path as text and parts as 3 x P numbers", hint=_PASCAL)
    if names and len(names) != parts.shape[1]:
        raise InputError(f"{where}: {parts.shape[1]} parts for {len(names)} keypoint names", hint=_PASCAL)
    size = box[2] - box[0], box[3] - box[1]
    if not all(map(math.isfinite, box)) or min(size) <= 0:
        raise InputError(f"{where}: a box from {box[:2]} to {box[2:]}")
    stem = picture.rsplit(".", 1)[0]
    kinds = tuple(names) or tuple(f"part_{index:02d}" for index in range(parts.shape[1]))
    return Annotation(f"{stem}_{number}", kinds, parts[:2].T - 0.5, np.nan_to_num(parts[2]) > 0, size, stem)


def _scalar(value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise TypeError(f"expected one number, got {value!r}")
    return float(value.reshape(()))


def read_badja(path: Path) -> list[Annotation]:
    """Read one film of BADJA's ``joint_annotations``, in the file's order.

    A list of pictures with ``image_path``, ``segmentation_path`` (both from BADJA's folder), ``joints`` (37 rows of y, x) and
    ``visibility`` (37). Only the 20 joints of ``BADJA_JOINTS`` are used. The key is the stem of ``image_path``. The box is the one round
    the segmentation where that file is there, else round the marked joints of the picture, which is smaller: errors then weigh more.

    Raises:
        InputError: no such file, or not of this form.
    """
    _refuse_large(path)
    try:
        records = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: not readable as JSON: {error}") from error
    if not isinstance(records, list):
        raise InputError(f"{path.name}: expected a list of pictures, got {type(records).__name__}")
    found = [_badja_record(record, path, f"{path.name}: picture {number}") for number, record in enumerate(records, 1)]
    if len({annotation.key for annotation in found}) != len(found):
        raise InputError(f"{path.name}: two pictures of one name")
    return found


def _badja_record(record: Any, path: Path, where: str) -> Annotation:
    try:
        joints, visible = np.asarray(record["joints"], dtype=np.float64), np.asarray(record["visibility"], dtype=bool)
        picture, segmentation = str(record["image_path"]), str(record["segmentation_path"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: expected image_path, segmentation_path, joints and visibility ({error})") from error
    if joints.shape != (_JOINTS, 2) or visible.shape != (_JOINTS,) or not np.isfinite(joints).all():
        raise InputError(f"{where}: expected {_JOINTS} joints of y, x, got {list(joints.shape)} and {list(visible.shape)}")
    chosen = list(BADJA_JOINTS)
    points, shown = joints[chosen][:, ::-1] + 0.5, visible[chosen]
    box = _segmentation_box(path.resolve().parent.parent / segmentation)
    if box is None:
        marked = points[joints[chosen].any(1)]
        if len(marked) < 2:
            raise InputError(f"{where}: neither a segmentation nor two marked joints: it has no size")
        box = tuple(np.ptp(marked, axis=0).clip(min=1).tolist())
    return Annotation(Path(picture).stem, tuple(BADJA_JOINTS.values()), points, shown, box, path.stem)


def _segmentation_box(path: Path) -> tuple[float, float] | None:
    """Return width and height of what a segmentation marks, or None if there is no such picture."""
    from PIL import Image

    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            marked = np.asarray(picture.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name}: not a whole picture: {error}") from error
    rows, columns = np.nonzero(marked)
    return (float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)) if len(rows) else None


def _refuse_large(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    if not path.is_file() or size > _MAX_FILE_BYTES:
        raise InputError(f"{path}: not a file of at most {_MAX_FILE_BYTES} bytes")
