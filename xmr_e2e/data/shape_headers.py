"""Numbers of vertices and faces by the headers of files of shapes, and headers that claim more than the bytes hold."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

_OFF_COUNTS = re.compile(rb"\s*(?:ST)?C?N?OFF\s*(\d{1,18})\s+(\d{1,18})")
_OBJ_VERTEX, _OBJ_FACE = re.compile(rb"^\s*v\s", re.MULTILINE), re.compile(rb"^\s*f\s", re.MULTILINE)
_PLY_ELEMENT = re.compile(rb"^element\s+(\w+)\s+(\d{1,18})\s*$", re.MULTILINE)
_OFF_HEAD = 100_000
"""bytes in which the numbers stand, behind comments"""
_BYTES_OF_A_VERTEX, _BYTES_OF_A_FACE = 6, 2
"""of a text, at least: "0 0 0" and "0" with the ends of their lines"""
_GLB_JSON = 0x4E4F534A
_GLB_TRIANGLES, _GLB_POLYGON_MODES = 4, (5, 6)
_HARMLESS_EXTENSIONS = ("KHR_materials_", "KHR_texture_", "KHR_lights_", "EXT_texture_", "KHR_node_visibility")
"""of glTF: those that do not change where a surface is"""


class UnusableShape(Exception):
    """A shape that cannot be read, and why. Whoever knows file and key adds them."""


def count_off(data: bytes) -> tuple[int, int]:
    """Vertices and faces that an OFF file claims.

    Raises:
        UnusableShape: it has no such numbers, is in binary, or has fewer bytes than they would have.
    """
    head = re.sub(rb"#[^\n]*", b"", data[:_OFF_HEAD])
    found = _OFF_COUNTS.match(head)
    if found is None:
        raise UnusableShape("cannot be read: its OFF header has no numbers of vertices and faces in plain text")
    vertices, faces = _held(int(found[1]), int(found[2]), len(data), _BYTES_OF_A_VERTEX, _BYTES_OF_A_FACE)
    lines = max(data.count(b"\n"), data.count(b"\r"))
    if vertices + faces > lines:
        raise UnusableShape(f"is cut or damaged: its header claims {vertices:,} vertices and {faces:,} faces, a line "
                            f"for each, and it has {lines:,} lines")  # fmt: skip
    return vertices, faces


def count_obj(data: bytes) -> tuple[int, int]:
    """Vertices and polygons of an OBJ file, which has no header."""
    return sum(1 for _ in _OBJ_VERTEX.finditer(data)), sum(1 for _ in _OBJ_FACE.finditer(data))


def count_ply(data: bytes) -> tuple[int, int]:
    """Vertices and faces that a PLY file claims.

    Raises:
        UnusableShape: its header does not end, or it has fewer bytes than they would have.
    """
    head, end, _ = data.partition(b"end_header")
    if not end:
        raise UnusableShape("cannot be read: its PLY header does not end")
    counts = {name: int(count) for name, count in _PLY_ELEMENT.findall(head)}
    if b"tristrips" in counts:
        raise UnusableShape("has its faces in strips of triangles, which are not read; export it with single faces")
    return _held(counts.get(b"vertex", 0), counts.get(b"face", 0), len(data), 1, 1)


def count_stl(data: bytes) -> tuple[int, int]:
    """Vertices and faces of an STL file.

    Raises:
        UnusableShape: a binary one that is shorter than its number of faces says.
    """
    if data.startswith(b"solid") and b"facet" in data:
        faces = data.count(b"endfacet")
    else:
        if len(data) < 84:
            raise UnusableShape("cannot be read: it is shorter than the head of an STL file")
        (faces,) = struct.unpack_from("<I", data, 80)
        _held(0, faces, len(data) - 84, 0, 50)
    return 3 * faces, faces


def count_glb(data: bytes) -> tuple[int, int]:
    """Vertices and triangles that the nodes of a GLB file show, each as often as nodes show it.

    Raises:
        UnusableShape: its parts are other files, are compressed, or are not what glTF 2.0 says.
    """
    try:
        tree = _glb_tree(data)
        _check_glb(tree)
        shown = [_count_mesh(tree, tree["meshes"][node["mesh"]]) for node in tree.get("nodes", []) if "mesh" in node]
    except (KeyError, TypeError, IndexError, AttributeError, struct.error, ValueError, RecursionError) as error:
        raise UnusableShape(f"cannot be read: its GLB header is damaged ({error!r})") from error
    held = sum(int(accessor["count"]) for accessor in tree.get("accessors", []))
    return max(held // 4, sum(vertices for vertices, _ in shown)), sum(faces for _, faces in shown)


def _glb_tree(data: bytes) -> dict[str, Any]:
    version, _, length, kind = struct.unpack_from("<4I", data, 4)
    if version != 2 or kind != _GLB_JSON or length > len(data):
        raise ValueError(f"version {version}, first chunk of {length:,} bytes")
    tree: dict[str, Any] = json.loads(data[20 : 20 + length])
    return tree


def _check_glb(tree: dict[str, Any]) -> None:
    if any("uri" in buffer for buffer in tree.get("buffers", [])):
        raise UnusableShape("is in parts: its GLB names other files, which are not read; export it as one binary file")
    unknown = [name for name in tree.get("extensionsRequired", []) if not name.startswith(_HARMLESS_EXTENSIONS)]
    if unknown:
        raise UnusableShape(f"needs what is not supported ({', '.join(map(str, unknown))}); export it uncompressed")
    for accessor in tree.get("accessors", []):
        if "bufferView" not in accessor or int(accessor["count"]) < 0:
            raise UnusableShape("has numbers that are not stored in it (an accessor without bufferView)")


def _count_mesh(tree: dict[str, Any], mesh: dict[str, Any]) -> tuple[int, int]:
    vertices = faces = 0
    for primitive in mesh["primitives"]:
        held = int(tree["accessors"][primitive["attributes"]["POSITION"]]["count"])
        corners = int(tree["accessors"][primitive["indices"]]["count"]) if "indices" in primitive else held
        mode = primitive.get("mode", _GLB_TRIANGLES)
        vertices += held
        faces += corners // 3 if mode == _GLB_TRIANGLES else max(0, corners - 2) * (mode in _GLB_POLYGON_MODES)
    return vertices, faces


def _held(vertices: int, faces: int, size: int, of_a_vertex: int, of_a_face: int) -> tuple[int, int]:
    if vertices * of_a_vertex + faces * of_a_face > size:
        raise UnusableShape(f"is cut or damaged: its header claims {vertices:,} vertices and {faces:,} faces, which do "
                            f"not fit into {size:,} bytes")  # fmt: skip
    return vertices, faces
