"""MATLAB files: what SciPy writes comes back, whatever is flipped or cut is one clear error, and nothing crashes."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import eye

from farm3d.core.errors import InputError
from farm3d.evaluation.matlab import read_matlab

VALUES = {
    "numbers": np.arange(12, dtype=np.float64).reshape(3, 4),
    "bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "small": np.int16(-7),
    "nan": np.array([[np.nan, np.inf]]),
    "text": "2008_000552.jpg",
    "ü": "Kälber",
    "rows": np.array(["ab", "cd"]),
    "empty": np.zeros((0, 3)),
    "nothing": "",
}


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    cell = np.empty(2, dtype=object)
    cell[:] = ["left ear", np.array([1.0, 2.0])]
    record = {"a": 1.5, "box": {"x1": 2.0, "y1": np.array([3, 4])}, "names": cell}
    savemat(tmp_path / "a.mat", {**{name: value for name, value in VALUES.items() if name.isascii()}, "cell": cell, "record": record},
            do_compression=request.param)  # fmt: skip
    return tmp_path / "a.mat"


def test_plain_values(file: Path) -> None:
    for name in ("numbers", "bytes", "nan", "empty"):
        found = read_matlab(file, name)
        assert found.dtype == np.float64 and np.array_equal(found, VALUES[name], equal_nan=True), name
    assert read_matlab(file, "small").tolist() == [[-7]]
    assert read_matlab(file, "text") == "2008_000552.jpg" and read_matlab(file, "nothing") == ""
    assert read_matlab(file, "rows") == ["ab", "cd"]


def test_cells_and_structs(file: Path) -> None:
    cell = read_matlab(file, "cell")
    assert cell[0] == "left ear" and cell[1].tolist() == [[1, 2]]
    (record,) = read_matlab(file, "record")
    assert record["a"].tolist() == [[1.5]] and record["box"][0]["x1"].tolist() == [[2]] and record["names"][0] == "left ear"


def test_letters_beyond_ascii(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"text": "Kälber – 羊"})
    assert read_matlab(tmp_path / "a.mat", "text") == "Kälber – 羊"


def test_a_file_of_the_other_byte_order(tmp_path: Path) -> None:
    """Written by hand, big end first."""
    parts = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 1, 2) + struct.pack(">HH4s", 1, 1, b"x\0\0\0")
    parts += struct.pack(">II2d", 9, 16, 1.5, -2.5)
    data = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + struct.pack(">II", 14, len(parts)) + parts
    (tmp_path / "a.mat").write_bytes(data)
    assert read_matlab(tmp_path / "a.mat", "x").tolist() == [[1.5, -2.5]]


def test_every_flip_and_cut_is_survived(file: Path) -> None:
    whole = file.read_bytes()
    survived = 0
    for place in range(124, len(whole), 3):
        bits = (0x01, 0x80, 0xFF)[place // 3 % 3]
        file.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
        try:
            read_matlab(file, "record")
        except InputError:
            survived += 1
    assert survived > 30
    for end in range(0, len(whole), 11):
        file.write_bytes(whole[:end])
        with contextlib.suppress(InputError):
            read_matlab(file, "record")


@pytest.mark.parametrize("value", [np.array([1 + 2j]), eye(3).tocsc()])
def test_what_is_not_plain_data_is_refused(value: object, tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"x": value})
    with pytest.raises(InputError, match="plain data"):
        read_matlab(tmp_path / "a.mat", "x")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """Sizes that promise more than is there, and structs without fields by the billion."""
    buffer = io.BytesIO()
    savemat(buffer, {"x": {"a": 1.0}})
    header = buffer.getvalue()[:128]
    flags = struct.pack("<IIII", 6, 8, 2, 0)
    huge = struct.pack("<IIii", 5, 8, 2**30, 2**30)
    name, fields = struct.pack("<HH4s", 1, 1, b"x\0\0\0"), struct.pack("<HHi", 5, 4, 32) + struct.pack("<II", 1, 0)
    parts = flags + huge + name + fields
    element = struct.pack("<II", 14, len(parts)) + parts
    for body in (element, struct.pack("<II", 15, len(zlib.compress(element))) + zlib.compress(element)):
        (tmp_path / "a.mat").write_bytes(header + body)
        assert read_matlab(tmp_path / "a.mat", "x") == []
    numbers = struct.pack("<IIII", 6, 8, 6, 0) + huge + name + struct.pack("<IId", 9, 8, 1.0)
    (tmp_path / "a.mat").write_bytes(header + struct.pack("<II", 14, len(numbers)) + numbers)
    with pytest.raises(InputError, match="1 numbers for an array"):
        read_matlab(tmp_path / "a.mat", "x")


def test_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_matlab(tmp_path / "absent.mat", "x")
    (tmp_path / "a.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    with pytest.raises(InputError, match=r"-v7\.3"):
        read_matlab(tmp_path / "a.mat", "x")
    savemat(tmp_path / "b.mat", {"y": 1.0})
    with pytest.raises(InputError, match="holds no 'x'"):
        read_matlab(tmp_path / "b.mat", "x")
