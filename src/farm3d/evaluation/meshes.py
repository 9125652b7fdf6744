"""Reads the meshes that are compared: OBJ, PLY, OFF, predictions as tensors, and our own GLB in the pose its sidecar names.

No count in a file is trusted.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numba
import numpy as np

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int
from farm3d.evaluation.ply import parse_ply
from farm3d.evaluation.views import field_of, parse_json

if TYPE_CHECKING:
    from farm3d.evaluation.predictions import ProductReader

__all__ = ["MESH_SUFFIXES", "Surface", "make_surface", "mesh_files", "read_mesh"]

MESH_SUFFIXES = (".glb", ".obj", ".off", ".ply", ".safetensors")
_MAX_FILE_BYTES = 1 << 30
_MAX_SIDECAR_BYTES = 1 << 20
_MAX_COORDINATE = 1e9


@dataclass(frozen=True, eq=False, repr=False)
class Surface:
    """Triangles in space, in the units and the frame of their file; every vertex is used by a face. Made by :func:`make_surface`.

    Attributes:
        name: what error messages call it: the file, or what the caller said.
        vertices: ``[V, 3]`` float64.
        faces: ``[F, 3]`` int64.
    """

    name: str
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]

    def __repr__(self) -> str:
        return f"Surface({self.name!r}, {len(self.vertices)} vertices, {len(self.faces)} faces)"

    @property
    def sides(self) -> Float[np.ndarray, "3"]:
        """Sides of the axis-parallel bounding box."""
        return np.ptp(self.vertices, axis=0)

    @property
    def areas(self) -> Float[np.ndarray, " F"]:
        """Area of each face."""
        return _areas(self.vertices, self.faces)

    @property
    def centroid(self) -> Float[np.ndarray, "3"]:
        """Mean of the faces' centres, weighted by area."""
        return _centroid(self.vertices, self.faces, self.areas)

    def transformed(self, matrix: Float[np.ndarray, "4 4"]) -> Surface:
        """Return a copy with an affine map applied to every vertex."""
        return Surface(self.name, self.vertices @ matrix[:3, :3].T + matrix[:3, 3], self.faces)


@numba.njit(cache=True)
def _areas(vertices, faces):  # pragma: no cover - compiled
    areas, u, v = np.empty(len(faces)), np.empty(3), np.empty(3)
    for f in range(len(faces)):
        for k in range(3):
            u[k] = vertices[faces[f, 1], k] - vertices[faces[f, 0], k]
            v[k] = vertices[faces[f, 2], k] - vertices[faces[f, 0], k]
        x, y, z = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
        areas[f] = np.sqrt(x * x + y * y + z * z) / 2
    return areas


@numba.njit(cache=True)
def _centroid(vertices, faces, areas):  # pragma: no cover - compiled
    total, weight = np.zeros(3), 0.0
    for f in range(len(faces)):
        weight += areas[f]
        for k in range(3):
            total[k] += areas[f] * (vertices[faces[f, 0], k] + vertices[faces[f, 1], k] + vertices[faces[f, 2], k]) / 3
    return total / weight


def make_surface(name: str, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Surface:
    """Check vertices and triangles and keep the vertices that are used.

    Raises:
        InputError: no faces, faces that name vertices which are not there, coordinates that are not finite or absurd, no area.
    """
    vertices, faces = np.asarray(vertices, np.float64).reshape(-1, 3), np.asarray(faces, np.int64).reshape(-1, 3)
    if not len(faces):
        raise InputError(f"{name}: has no faces, and a surface is needed", hint="give a mesh, not a point cloud")
    absent = faces[(faces < 0) | (faces >= len(vertices))]
    if len(absent):
        raise InputError(f"{name}: a face names vertex {absent[0]} (from 0), but there are {len(vertices)}", hint="is the file whole?")
    used, faces = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], faces.reshape(-1, 3)
    if not (np.abs(vertices) < _MAX_COORDINATE).all():  # false for NaN too
        raise InputError(f"{name}: has coordinates that are not finite or beyond {_MAX_COORDINATE:g}", hint="lengths are metres")
    surface = Surface(name, vertices, faces)
    if not surface.areas.sum() > 0:
        raise InputError(f"{name}: its faces have no area, and points of the surface are needed")
    return surface


def mesh_files(folder: Path) -> list[Path]:
    """Return the mesh files of a folder (not of folders in it), sorted by name, as the Animodel protocol pairs them (section 6.2).

    Raises:
        InputError: not a folder, or none in it.
    """
    folder = Path(folder)
    try:
        files = sorted((path for path in folder.iterdir() if path.suffix.lower() in MESH_SUFFIXES), key=lambda path: path.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot list the meshes: {error.strerror or error}", hint="give a folder of meshes") from error
    if not files:
        raise InputError(f"{folder}: no meshes in this folder", hint=f"expected files that end in {', '.join(MESH_SUFFIXES)}")
    return files


def read_mesh(path: Path, *, read_product: ProductReader | None = None) -> Surface:
    """Read one mesh. Polygons become fans of triangles; colours, normals, texture and materials are ignored.

    Args:
        path: ends in ``.obj``, ``.ply``, ``.off``, ``.glb`` or ``.safetensors`` (a prediction, see :mod:`farm3d.evaluation.predictions`).
        read_product: reads a GLB of ours, which is posed as ``pose`` in the JSON beside it says (clip and time), or stands at rest
            where there is no such file. Handed in by the caller, because the file format lives in a room beside this one.

    Raises:
        InputError: no such file, a kind we do not read, or not sound; the message names the file and what is wrong.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in MESH_SUFFIXES:
        raise InputError(f"{path}: not a mesh we read", hint=f"expected a file that ends in {', '.join(MESH_SUFFIXES)}")
    if kind == ".glb":
        return _posed(path, read_product)
    data = _bytes(path, _MAX_FILE_BYTES)
    if kind == ".safetensors":
        from farm3d.evaluation.predictions import mesh_from_tensors

        points, corners, _ = mesh_from_tensors(data, str(path), "vertices", "faces", "albedo")
        return make_surface(str(path), points.double().numpy(), corners.numpy())
    vertices, faces = {".obj": _parse_obj, ".off": _parse_off, ".ply": parse_ply}[kind](str(path), data)
    return make_surface(str(path), vertices, faces)


def _bytes(path: Path, most: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever, a device never end
            raise InputError(f"{path}: cannot read: not an ordinary file")
        if status.st_size > most:
            raise InputError(f"{path}: {status.st_size} bytes are more than are read ({most})")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error


def _fail(name: str, line: int, what: str) -> NoReturn:
    raise InputError(f"{name}: line {line}: {what}", hint="is the file whole and of the kind its name says?")


def _parse_obj(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of all objects together; indices count from 1, negative ones back from the latest vertex."""
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, int, int]] = []
    lines = data.decode("utf-8", "replace").replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words or words[0] not in ("v", "f"):
            continue
        try:
            if words[0] == "v":
                x, y, z = map(float, words[1:4])
                vertices.append((x, y, z))
                continue
            corners = [int(word.split("/", 1)[0]) for word in words[1:]]
        except ValueError:
            _fail(name, number, f"{' '.join(words)[:60]!r} is not a {'vertex' if words[0] == 'v' else 'face'}")
        if len(corners) < 3:
            _fail(name, number, f"a face with {len(corners)} corners")
        if 0 in corners or min(corners) < -len(vertices):
            _fail(name, number, "a face that names vertex 0 or one before the first")
        corners = [corner - 1 if corner > 0 else len(vertices) + corner for corner in corners]
        faces += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    return np.array(vertices, np.float64).reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3)


def _parse_off(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """OFF and COFF: a line of counts, a line for each vertex (colours after its place are ignored), a line for each face."""
    rows = [(number, line.split("#", 1)[0].split()) for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1)]
    rows = [(number, words) for number, words in rows if words]
    if not rows or rows[0][1][0] not in ("OFF", "COFF"):
        _fail(name, 1, "does not start with OFF")
    number, counts = rows[0][0], rows[0][1][1:]
    start = 1
    if not counts and len(rows) > 1:  # the counts may stand on the first line or on the next
        (number, counts), start = rows[1], 2
    try:
        count, face_count = (int(word) for word in counts[:2])
    except ValueError:
        _fail(name, number, "the numbers of vertices and faces are missing")
    if count < 0 or face_count < 0 or len(rows) < start + count + face_count:
        _fail(name, number, f"promises {count} vertices and {face_count} faces, but there are {len(rows) - start} lines")
    vertices, faces = [], []
    for number, words in rows[start : start + count + face_count]:
        try:
            if len(vertices) < count:
                x, y, z = map(float, words[:3])
                vertices.append((x, y, z))
                continue
            corners = [int(word) for word in words[1 : 1 + int(words[0])]]
        except ValueError:
            _fail(name, number, f"{' '.join(words)[:60]!r} is not a {'vertex' if len(vertices) < count else 'face'}")
        if len(corners) < 3 or len(corners) != int(words[0]):
            _fail(name, number, f"a face with {len(corners)} corners that promises {words[0]}")
        faces += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    return np.array(vertices, np.float64).reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3)


def _posed(path: Path, read_product: ProductReader | None) -> Surface:
    if read_product is None:
        raise InputError(f"{path}: no reader for GLB files was given", hint="give read_product")
    clip, time_s = _sidecar_pose(path.with_suffix(".json"))
    try:
        mesh = read_product(path, clip, time_s)
    except InputError as error:
        message = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise InputError(message, hint=error.hint) from error
    return make_surface(str(path), mesh.posed.detach().cpu().double().numpy(), mesh.faces.cpu().numpy())


def _sidecar_pose(path: Path) -> tuple[str | None, float]:
    """Return the clip and time of the photographed pose; the rest pose where there is no sidecar."""
    if not path.exists():
        return None, 0.0
    pose = field_of(parse_json(_bytes(path, _MAX_SIDECAR_BYTES), str(path)), "pose", dict, str(path))
    return field_of(pose, "clip", (str, type(None)), str(path)), float(field_of(pose, "time_s", (int, float), str(path)))
