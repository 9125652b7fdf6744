"""Edges of a triangle mesh: which faces meet in each, and which way round they run along it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Int, Tensor, checked
from farm3d.structures._value import Value

__all__ = ["EdgeTopology", "edge_topology"]


@dataclass(frozen=True, eq=False, repr=False)
class EdgeTopology(Value):
    """Undirected edges, sorted by (lower, higher) vertex index.

    An edge of three or more faces is listed once per pair of faces, in face order; a face left over makes a boundary edge.

    Attributes:
        faces: the triangles, ``[F, 3]`` int32.
        edges: lower and higher vertex index, ``[E, 2]`` int32.
        edge_faces: the one or two faces along the edge, ``[E, 2]`` int32; -1 where there is none (boundary).
        edge_sides: +1 where that face runs from the lower to the higher vertex, -1 where it runs back, 0 for none, ``[E, 2]`` int8.
        max_vertex: largest vertex index in use, -1 for an empty mesh.
    """

    faces: Int[Tensor, "F 3"]
    edges: Int[Tensor, "E 2"]
    edge_faces: Int[Tensor, "E 2"]
    edge_sides: Int[Tensor, "E 2"]
    max_vertex: int


@checked
def edge_topology(faces: Int[Tensor, "F 3"]) -> EdgeTopology:
    """Return the edges of a mesh, on the device of ``faces``; remembered for as long as that very tensor lives unchanged.

    The memory is tied to the tensor object and to its in-place version counter. Writing into ``faces`` behind torch's back (through
    a NumPy view) is not noticed: pass a new tensor then.

    Raises:
        InputError: a negative vertex index.
    """
    try:
        version = faces._version
    except RuntimeError:  # tensors made in inference mode count no versions, so a change would go unseen
        return _build(faces)
    known = _memory.get(id(faces))
    if known is not None and known[0]() is faces and known[1] == version:
        return known[2]
    topology = _build(faces)
    key = id(faces)
    # The callback drops the entry when the tensor dies, so a reused id can never meet an old entry; `is` above guards the gap.
    _memory[key] = (weakref.ref(faces, lambda ref: _forget(key, ref)), version, topology)
    return topology


_memory: dict[int, tuple[weakref.ref[Tensor], int, EdgeTopology]] = {}


def _forget(key: int, ref: weakref.ref[Tensor]) -> None:
    if key in _memory and _memory[key][0] is ref:
        del _memory[key]


def _build(faces: Tensor) -> EdgeTopology:
    device, count = faces.device, faces.shape[0]
    faces = faces.detach().to(torch.int64)
    faces32 = faces.to(torch.int32).contiguous().clone()  # own memory: later writes into the caller's tensor cannot reach it
    max_vertex = int(faces.max()) if count else -1
    if count and int(faces.min()) < 0:
        raise InputError(f"faces hold the negative vertex index {int(faces.min())}", hint="vertex indices count from 0")
    start = faces.reshape(-1)
    end = faces[:, [1, 2, 0]].reshape(-1)
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    key, order = torch.sort(low * (max_vertex + 1) + high, stable=True)
    side = torch.where(start <= end, 1, -1).to(torch.int8)[order]
    face = torch.arange(count, device=device, dtype=torch.int32).repeat_interleave(3)[order]
    # Within a run of equal keys, entries 0 and 1 pair up, then 2 and 3, …
    index = torch.arange(3 * count, device=device)
    run_start = torch.ones(3 * count, dtype=torch.bool, device=device)
    run_start[1:] = key[1:] != key[:-1]
    first = torch.cummax(torch.where(run_start, index, torch.zeros_like(index)), 0).values if count else index
    lead = torch.nonzero((index - first) % 2 == 0)[:, 0]
    partner = torch.clamp(lead + 1, max=max(3 * count - 1, 0))
    paired = (lead + 1 < 3 * count) & (key[partner] == key[lead])
    edge_faces = torch.stack([face[lead], torch.where(paired, face[partner], torch.full_like(face[lead], -1))], -1)
    edge_sides = torch.stack([side[lead], torch.where(paired, side[partner], torch.zeros_like(side[lead]))], -1)
    edges = torch.stack([low[order][lead], high[order][lead]], -1).to(torch.int32)
    return EdgeTopology(faces32, edges, edge_faces, edge_sides, max_vertex)
