"""PLY files, text and binary, simple and odd; and files that are not whole."""

import struct

import numpy as np
import pytest
import trimesh
from tests.testing.surfaces import ball

from farm3d.core.errors import InputError
from farm3d.evaluation.ply import parse_ply

ODD_HEADER = """ply
format {order} 1.0
comment what scanners write
element camera 1
property list uchar short extra
property double focal
element vertex 5
property float nx
property double x
property float y
property float z
property uchar red
element face 4
property uchar flags
property list uchar int vertex_indices
property list uchar float weights
end_header
"""
POINTS = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]]
POLYGONS = [[0, 3, 2, 1], [0, 1, 4], [1, 2, 4], [2, 3, 0, 4]]  # the third and fourth have lists of weights of other lengths
WEIGHTS = [[], [], [0.5], [0.25, 0.75]]
TRIANGLES = [[0, 3, 2], [0, 2, 1], [0, 1, 4], [1, 2, 4], [2, 3, 0], [2, 0, 4]]


def odd(order: str) -> bytes:
    """A file with an element before the vertices, further properties, and lists of several lengths."""
    rows: list[tuple[str, list[float]]] = [("B3hd", [3, 7, 8, 9, 35.0])]
    rows += [("fdffB", [0.0, *point, 200]) for point in POINTS]
    for polygon, weights in zip(POLYGONS, WEIGHTS, strict=True):
        rows.append((f"BB{len(polygon)}iB{len(weights)}f", [1, len(polygon), *polygon, len(weights), *weights]))
    header = ODD_HEADER.format(order=order).encode()
    if order == "ascii":
        return header + b"\n".join(" ".join(map(str, values)).encode() for _, values in rows) + b"\n"
    sign = "<" if "little" in order else ">"
    return header + b"".join(struct.pack(sign + kind, *values) for kind, values in rows)


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_odd_files_are_read(order: str) -> None:
    vertices, faces = parse_ply("odd.ply", odd(order))
    assert np.array_equal(vertices, np.array(POINTS, float)) and faces.tolist() == TRIANGLES


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_what_another_program_writes_comes_back(encoding: str) -> None:
    surface = ball(cells=6)
    data = trimesh.Trimesh(surface.vertices, surface.faces, process=False).export(file_type="ply", encoding=encoding)
    assert isinstance(data, bytes)
    vertices, faces = parse_ply("ball.ply", data)
    assert np.allclose(vertices, surface.vertices, atol=1e-6) and np.array_equal(faces, surface.faces)


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_a_file_cut_off_anywhere_is_an_error_or_has_lost_its_last_number(order: str) -> None:
    data = odd(order)
    for end in range(0, len(data) - 4, 3):
        with pytest.raises(InputError, match=r"odd\.ply: not a PLY that can be read"):
            parse_ply("odd.ply", data[:end])


@pytest.mark.parametrize(
    "old, new, why",
    [
        ("ply\n", "obj\n", "does not start with a PLY header"),
        ("format ascii", "format utf8", "its header says 'format utf8 1.0'"),
        ("format ascii 1.0\n", "", "names no format"),
        ("property double x", "property half x", "its header says 'property half x'"),
        ("property double x", "property double u", "no x, y and z"),
        ("property double x", "property list uchar double x", "longer|ends|no x, y and z|not numbers"),
        ("element vertex 5", "element vertex 99999999999", "promises more than the file holds"),
        ("element vertex 5", "element vertex -5", "promises more than the file holds"),
        ("element face 4", "element face 5", "ends within"),
        ("35.0", "long", "words that are not numbers"),
        ("1 3 0 1 4", "1 2 0 1", "a face with 2 corners"),
        ("1 3 0 1 4", "1 9999 0 1", "longer than"),
    ],
)
def test_files_that_are_not_sound_are_errors(old: str, new: str, why: str) -> None:
    text = odd("ascii").decode()
    assert old in text
    with pytest.raises(InputError, match=why):
        parse_ply("odd.ply", text.replace(old, new, 1).encode())
