"""Files of 3D shapes: their format by their content, bounds by their headers, and their vertices and faces."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.data.media_files import MediaBounds, decoding
from xmr_e2e.data.pcd import count_pcd, read_pcd
from xmr_e2e.data.shape_headers import UnusableShape, count_glb, count_obj, count_off, count_ply, count_stl
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

_OFF = re.compile(rb"\s*(#[^\n]*\n\s*)*(ST)?C?N?OFF")
_PCD = re.compile(rb"\s*(#[^\n]*\n\s*)*(VERSION|FIELDS)\b|\s*#\s*\.PCD")
_OBJ = re.compile(rb"^\s*v\s", re.MULTILINE)
_RELATIVE_FACE = re.compile(rb"^\s*f\s[^\n]*-", re.MULTILINE)
_STL_HEAD, _STL_FACE = 84, 50
"""bytes of a binary STL: of its head, and of each face"""
_LOOKED_AT = 100_000
"""bytes in which the first vertex of an OBJ file is looked for"""
_COUNTS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "glb": count_glb,
    "obj": count_obj,
    "off": count_off,
    "pcd": count_pcd,
    "ply": count_ply,
    "stl": count_stl,
}


class Shape(NamedTuple):
    """A mesh or a cloud."""

    vertices: NDArray[np.float64]
    """(n, 3); all are finite, but those of a mesh that are part of no face"""
    faces: NDArray[np.int64]
    """(m, 3) numbers of vertices; (0, 3) for a cloud"""


def read_shape(data: bytes, where: str, *, extension: str, bounds: MediaBounds) -> Shape:
    """Vertices and triangles of a file; polygons are cut into triangles. Nothing but the bytes is read.

    Points of a cloud that are not finite are left out: scanners write NaN where nothing was met.

    Raises:
        XmrError: no shape that can be read, above the bounds, or a mesh with vertices that are not finite.
    """
    if not data:
        raise XmrError(f"{where}: the shape is empty (zero bytes)")
    with decoding(where, "shape"):
        try:
            kind = _format_of(data, extension)
            _check_bounds(*_COUNTS[kind](data), bounds, where)
            shape = Shape(read_pcd(data), _no_faces()) if kind == "pcd" else _read_mesh(data, kind, where)
            _check_bounds(len(shape.vertices), len(shape.faces), bounds, where)  # polygons are several triangles
            return _finite(shape)
        except UnusableShape as error:
            raise XmrError(f"{where}: the shape {error}") from error


def _no_faces() -> NDArray[np.int64]:
    return np.empty((0, 3), np.int64)


def _format_of(data: bytes, extension: str) -> str:
    if data.startswith(b"glTF"):
        return "glb"
    if re.match(rb"ply\s", data):
        return "ply"
    for kind, mark in (("off", _OFF), ("pcd", _PCD)):
        if mark.match(data):
            return kind
    if _is_stl(data) or extension == "stl":
        return "stl"
    if _OBJ.search(data, 0, _LOOKED_AT):
        return "obj"
    known = ", ".join(MEDIA_EXTENSIONS["shape3d"])
    raise UnusableShape(f"cannot be read: by its content it is none of {known}")


def _is_stl(data: bytes) -> bool:
    faces = int.from_bytes(data[80:84], "little")
    return len(data) == _STL_HEAD + faces * _STL_FACE or (data.startswith(b"solid") and b"facet" in data[:_LOOKED_AT])


def _check_bounds(points: int, faces: int, bounds: MediaBounds, where: str) -> None:
    for count, most, name, option in (
        (faces, bounds.max_faces, "faces", "--data.media.max-faces"),
        (points, bounds.max_points, "vertices or points", "--data.media.max-points"),
    ):
        if count > most:
            raise XmrError(f"{where}: the shape has {count:,} {name}, above the bound of {most:,}; simplify it, or "
                           f"raise {option}")  # fmt: skip


def _read_mesh(data: bytes, kind: str, where: str) -> Shape:
    try:
        import trimesh
    except ImportError:
        require_extra("media", f"{where}: a mesh")
        raise
    if kind == "obj" and _RELATIVE_FACE.search(data):
        data = _with_absolute_indices(data)
    if kind == "stl" and not data.startswith(b"solid"):
        data = data[: _STL_HEAD + _STL_FACE * int.from_bytes(data[80:84], "little")]
    # Materials are files of their own, or pictures; both are left alone. Without a resolver, no other file is found.
    scene = trimesh.load_scene(
        io.BytesIO(data), file_type=kind, resolver=None, process=False, skip_materials=True, maintain_order=True
    )
    parts = list(_parts(scene))
    meshes = [part for part in parts if len(part.faces)]
    return _joined(meshes or parts)


def _parts(scene: Any) -> Iterator[Shape]:
    """The parts that a scene's nodes show, where they show them."""
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        vertices = np.asarray(geometry.vertices, np.float64).reshape(-1, 3)
        faces = np.asarray(getattr(geometry, "faces", _no_faces()), np.int64).reshape(-1, 3)
        if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise UnusableShape(f"has faces of vertices that it does not have: it has {len(vertices):,}")
        with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite, and said to be so later
            yield Shape(vertices @ matrix[:3, :3].T + matrix[:3, 3], faces)


def _joined(parts: list[Shape]) -> Shape:
    if not parts:
        raise UnusableShape("has no vertices")
    offsets = accumulate((len(part.vertices) for part in parts[:-1]), initial=0)
    faces = [part.faces + offset for part, offset in zip(parts, offsets)]
    return Shape(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))


def _finite(shape: Shape) -> Shape:
    is_finite: NDArray[np.bool_] = np.asarray(np.isfinite(shape.vertices).all(1))
    if not is_finite.any():
        raise UnusableShape("has no vertices" if not len(shape.vertices) else "has no vertex that is finite")
    if not len(shape.faces):
        return Shape(shape.vertices[is_finite], shape.faces)
    wrong = np.unique(shape.faces[~is_finite[shape.faces]])
    if len(wrong):
        raise UnusableShape(f"has faces with vertices that are not finite (NaN or infinite): {len(wrong):,} of "
                            f"{len(shape.vertices):,}, the first is number {wrong[0]:,}; export it again")  # fmt: skip
    return shape


def _with_absolute_indices(obj: bytes) -> bytes:
    """An OBJ file whose faces count their vertices from the first one, and not backwards from where they stand."""
    lines, vertices = [], 0
    for line in obj.splitlines():
        words = line.split()
        if words[:1] == [b"v"]:
            vertices += 1
        elif words[:1] == [b"f"]:
            corners = [int(word.partition(b"/")[0]) for word in words[1:]]
            line = b"f " + b" ".join(b"%d" % (n if n >= 0 else vertices + 1 + n) for n in corners)
        lines.append(line)
    return b"\n".join(lines)
