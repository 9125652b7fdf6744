"""Vertices and triangles of a PLY file, ASCII or binary; other elements and properties are stepped over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from farm3d.core.errors import InputError

__all__ = ["parse_ply"]

_CODES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER_BYTES = 1 << 16
_MAX_CORNERS = 4096


@dataclass(frozen=True)
class _Property:
    name: str
    code: str
    count_code: str = ""  # of lists only


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)


def parse_ply(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices ``[V, 3]`` float64 and faces ``[F, 3]`` int64; polygons become fans of triangles.

    Raises:
        InputError: not a PLY, cut off, without vertices or with faces of fewer than three corners; the message starts with ``name``.
    """
    order, elements, start = _header(name, data)
    body = _Text(name, data[start:]) if not order else _Binary(data[start:], order)
    vertices, polygons = np.empty((0, 3)), []
    for element in elements:
        columns = _read(name, body, element)
        if element.name == "vertex" and element.count:
            if any(item.count_code for item in element.properties if item.name in ("x", "y", "z")) or not {"x", "y", "z"} <= columns.keys():
                _fail(name, "its vertices have no x, y and z")
            vertices = np.stack([np.concatenate(columns[axis])[:, 0] for axis in ("x", "y", "z")], 1)
        if element.name == "face":
            polygons = columns.get("vertex_indices") or columns.get("vertex_index") or []
    return vertices, _triangles(name, polygons)


def _fail(name: str, what: str) -> NoReturn:
    raise InputError(f"{name}: not a PLY that can be read: {what}", hint="is the file whole?")


def _header(name: str, data: bytes) -> tuple[str, list[_Element], int]:
    """Return the byte order ("" for text), the elements and where the body starts."""
    end = data.find(b"end_header", 0, _MAX_HEADER_BYTES)
    newline = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or newline < 0:
        _fail(name, "it does not start with a PLY header")
    order, elements = None, []
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = _ORDERS[words[1]]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                elements[-1].properties.append(_Property(words[4], _CODES[words[3]], _CODES[words[2]]))
            elif words[:1] == ["property"]:
                elements[-1].properties.append(_Property(words[2], _CODES[words[1]]))
        except (IndexError, KeyError, ValueError):
            _fail(name, f"its header says {line.strip()[:60]!r}")
    if order is None:
        _fail(name, "its header names no format")
    if any(not 0 <= element.count <= len(data) for element in elements):  # before anything is made as long as the header says
        _fail(name, "its header promises more than the file holds")
    return order, elements, newline + 1


class _Text:
    """The numbers of an ASCII body, one after another; lines mean nothing."""

    def __init__(self, name: str, body: bytes) -> None:
        self.position = 0
        try:
            self.values = np.array(body.split(), np.float64)
        except ValueError:
            _fail(name, "its body has words that are not numbers")

    def take(self, codes: list[str], rows: int) -> np.ndarray:
        """Return the next rows, as many as are there, ``[rows, columns]``, without moving on."""
        rows = min(rows, (len(self.values) - self.position) // len(codes))
        return self.values[self.position : self.position + rows * len(codes)].reshape(rows, len(codes))

    def move(self, codes: list[str], rows: int) -> None:
        """Step over rows."""
        self.position += rows * len(codes)


class _Binary:
    """The bytes of a binary body, read as :class:`_Text` reads words."""

    def __init__(self, body: bytes, order: str) -> None:
        self.body, self.order, self.position = body, order, 0

    def _dtype(self, codes: list[str]) -> np.dtype:
        return np.dtype([(str(column), self.order + code) for column, code in enumerate(codes)])

    def take(self, codes: list[str], rows: int) -> np.ndarray:
        """Return the next rows, as many as are there, ``[rows, columns]`` float64, without moving on."""
        dtype = self._dtype(codes)
        rows = min(rows, (len(self.body) - self.position) // dtype.itemsize)
        table = np.frombuffer(self.body, dtype, rows, self.position) if rows else np.empty(0, dtype)
        return np.stack([table[column].astype(np.float64) for column in dtype.names or ()], 1)

    def move(self, codes: list[str], rows: int) -> None:
        """Step over rows."""
        self.position += rows * self._dtype(codes).itemsize


def _read(name: str, body: _Text | _Binary, element: _Element) -> dict[str, list[np.ndarray]]:
    """Return each property's values as blocks ``[rows, items]`` in the file's order; a new block wherever a list's length changes."""
    blocks: dict[str, list[np.ndarray]] = {item.name: [] for item in element.properties}
    done, chunk = 0, element.count
    while done < element.count and element.properties:
        codes, places, lengths = _row(name, body, element)
        table = body.take(codes, min(chunk, element.count - done))
        agree = np.ones(len(table), bool)
        for column, length in lengths:
            agree &= table[:, column] == length
        rows = len(table) if agree.all() else int(np.argmin(agree))
        if not rows:
            _fail(name, f"it ends within its {element.count} elements {element.name!r}")
        for item, columns in places:
            blocks[item.name].append(table[:rows, columns])
        body.move(codes, rows)
        done, chunk = done + rows, 2 * rows  # where lengths change often, looking far ahead each time would be quadratic
    return blocks


def _row(name: str, body: _Text | _Binary, element: _Element) -> tuple[list[str], list[tuple[_Property, slice]], list[tuple[int, float]]]:
    """Return the layout of the next row: each column's code, each property's columns, and each list's column of its length with it."""
    codes: list[str] = []
    places, lengths = [], []
    for item in element.properties:
        width = 1
        if item.count_code:
            codes.append(item.count_code)
            found = body.take(codes, 1)
            length = found[0, -1] if len(found) else -1.0
            if not 0 <= length <= _MAX_CORNERS:
                _fail(name, f"it ends within its elements {element.name!r}, or a list among them is longer than {_MAX_CORNERS}")
            lengths.append((len(codes) - 1, length))
            width = int(length)
        places.append((item, slice(len(codes), len(codes) + width)))
        codes += [item.code] * width
    return codes, places, lengths


def _triangles(name: str, blocks: list[np.ndarray]) -> np.ndarray:
    fans = [np.empty((0, 3), np.int64)]
    for block in blocks:
        width = block.shape[1]
        if width < 3:
            _fail(name, f"a face with {width} corners")
        with np.errstate(invalid="ignore"):  # what is no number becomes a vertex that is not there
            corners = block.astype(np.int64)
        fan = np.stack([np.zeros(width - 2, np.int64), np.arange(1, width - 1), np.arange(2, width)], 1)
        fans.append(corners[:, fan].reshape(-1, 3))
    return np.concatenate(fans)
