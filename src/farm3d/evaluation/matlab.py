"""Reads plain data out of MATLAB files of format 5: numbers, text, cells and structs, and nothing that could be code.

SciPy's reader may crash the whole process on a damaged file (its compiled part follows sizes before it checks them), so this one reads
every size against what is there. After "MAT-File Format" (The MathWorks), chapter 1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from farm3d.core.errors import InputError

__all__ = ["read_matlab"]

_MAX_BYTES = 1 << 30
_MAX_DEPTH = 16
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800


def read_matlab(path: Path, name: str) -> Any:
    """Return one variable of a ``.mat`` file.

    Numeric arrays come as float64 arrays of their shape; text as str (several rows: a list of them); cells as lists and structs as
    lists of mappings, both in MATLAB's order (columns first).

    Raises:
        InputError: no such file or variable, not format 5 (format 7.3 is HDF5), damaged, or holding sparse or complex numbers, objects
            or functions where the variable is.
    """
    path = Path(path)
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: cannot read: not a file of at most {_MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise InputError(f"{path.name}: not a MATLAB file of format 5", hint="save it with -v7 (or older), not with -v7.3")
    return _Reader(path.name, "<" if data[126:128] == b"IM" else ">").variable(memoryview(data)[128:], name)


class _Element(NamedTuple):
    kind: int
    data: memoryview


class _Matrix(NamedTuple):
    name: str
    kind: int
    shape: tuple[int, ...]
    parts: Iterator[_Element]

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.float64))  # float: absurd sizes must not wrap round


class _Reader:
    """One file being read; every size is checked before it is believed."""

    def __init__(self, where: str, order: Literal["<", ">"]) -> None:
        self.where = where
        self.order: Literal["<", ">"] = order

    def variable(self, data: memoryview, name: str) -> Any:
        for element in self._elements(data):
            if element.kind == _COMPRESSED:
                element = next(self._elements(self._inflated(element.data)), None) or self._fail("an empty variable")
            if element.kind == _MATRIX and len(element.data):
                matrix = self._matrix(element.data)
                if matrix.name == name:
                    return self._value(matrix, depth=0)
        raise InputError(f"{self.where}: holds no {name!r}")

    def _fail(self, what: str) -> NoReturn:
        raise InputError(f"{self.where}: not a whole MATLAB file of plain data: {what}")

    def _inflated(self, data: memoryview) -> memoryview:
        try:
            stream = zlib.decompressobj()
            plain = stream.decompress(data, _MAX_BYTES)
        except zlib.error as error:
            self._fail(str(error))
        if not stream.eof:
            self._fail("a compressed variable is cut off or too large")
        return memoryview(plain)

    def _elements(self, data: memoryview) -> Iterator[_Element]:
        at = 0
        while at < len(data):
            if at + 8 > len(data):
                self._fail("it ends inside a tag")
            kind, size = struct.unpack_from(f"{self.order}II", data, at)
            start = at + 8
            following = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
            if kind >> 16:  # four bytes or fewer stand in the tag itself
                kind, size, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
                if size > 4:
                    self._fail("a small element of more than four bytes")
            if start + size > len(data):
                self._fail("an element reaches beyond the end")
            yield _Element(kind, data[start : start + size])
            at = following

    def _matrix(self, data: memoryview) -> _Matrix:
        parts = self._elements(data)
        flags, shape, name = (self._next(parts) for _ in range(3))
        numbers = self._numbers(flags)
        if len(numbers) != 2 or int(numbers[0]) & _COMPLEX:
            self._fail("an array that is complex or without flags")
        sizes = tuple(int(size) for size in self._numbers(shape))
        if len(sizes) < 2 or min(sizes) < 0:
            self._fail("an array without sizes")
        return _Matrix(bytes(name.data).decode("latin-1"), int(numbers[0]) & 0xFF, sizes, parts)

    def _next(self, parts: Iterator[_Element]) -> _Element:
        return next(parts, None) or self._fail("a part of an array is missing")

    def _numbers(self, element: _Element) -> np.ndarray:
        code = _NUMBERS.get(element.kind) or self._fail(f"numbers of kind {element.kind}")
        dtype = np.dtype(code).newbyteorder(self.order)
        if len(element.data) % dtype.itemsize:
            self._fail("numbers that are cut off")
        return np.frombuffer(element.data, dtype=dtype)

    def _value(self, matrix: _Matrix, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            self._fail("cells or structs nested too deep")
        if matrix.kind in _NUMERIC:
            numbers = self._numbers(self._next(matrix.parts)) if matrix.count else np.zeros(0)
            if len(numbers) != matrix.count:
                self._fail(f"{len(numbers)} numbers for an array of {matrix.shape}")
            return numbers.astype(np.float64).reshape(matrix.shape, order="F")
        if matrix.kind == _CHAR:
            return self._text(matrix)
        if matrix.kind == _CELL:
            return [self._child(matrix, depth) for _ in range(matrix.count)]
        if matrix.kind == _STRUCT:
            names = self._field_names(matrix)
            # Without fields nothing of the file is read for an element, so their number would be taken on trust.
            return [{name: self._child(matrix, depth) for name in names} for _ in range(matrix.count)] if names else []
        return self._fail(f"an array of class {matrix.kind} (object, function or sparse)")

    def _child(self, matrix: _Matrix, depth: int) -> Any:
        element = self._next(matrix.parts)
        if element.kind != _MATRIX:
            self._fail("something else than an array in a cell or struct")
        return self._value(self._matrix(element.data), depth + 1) if len(element.data) else np.zeros((0, 0))

    def _text(self, matrix: _Matrix) -> str | list[str]:
        element = self._next(matrix.parts) if matrix.count else _Element(16, memoryview(b""))
        coding = _TEXTS.get(element.kind) or self._fail(f"text of kind {element.kind}")
        suffix = "" if coding in ("latin-1", "utf-8") else "-le" if self.order == "<" else "-be"
        try:
            text = bytes(element.data).decode(coding + suffix)
        except UnicodeDecodeError as error:
            self._fail(str(error))
        if len(text) != matrix.count or len(matrix.shape) != 2:
            self._fail(f"{len(text)} letters for an array of {matrix.shape}")
        rows = matrix.shape[0]
        return text if rows <= 1 else [text[row::rows] for row in range(rows)]

    def _field_names(self, matrix: _Matrix) -> list[str]:
        length = self._numbers(self._next(matrix.parts))
        table = bytes(self._next(matrix.parts).data)
        if len(length) != 1 or not 1 <= int(length[0]) <= 64 or len(table) % int(length[0]):
            self._fail("a struct without field names")
        step = int(length[0])
        return [table[at : at + step].split(b"\0")[0].decode("latin-1") for at in range(0, len(table), step)]
