"""3D shapes: points on the surface, uniformly, in the unit ball; and files that are odd, damaged or hostile."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import socket
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tests import ROOT
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.shape_headers import count_glb
from xmr_e2e.data.shapes import choose_points, decode_points
from xmr_e2e.errors import XmrError

SHAPES = ROOT.parent / "shared" / "data" / "shapes4"
WHERE = "train-000000.tar: 12-chair"
BOX = trimesh.creation.box(extents=(1, 2, 4))
MESHES = ("off", "obj", "ply", "stl", "stl_ascii", "glb")


def points_of(data: bytes, extension: str, points: int = 2000, seed: int = 3, **bounds: int) -> NDArray[np.float32]:
    found = decode_points(data, WHERE, points=points, extension=extension, seed=seed, bounds=MediaBounds(**bounds))
    assert found.shape == (points, 3) and found.dtype == np.float32
    lengths = np.linalg.norm(found, axis=1)
    assert lengths.max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    return found


def saved(mesh: Any, kind: str) -> bytes:
    content = mesh.export(file_type=kind)
    return content if isinstance(content, bytes) else content.encode()


def unscaled(found: NDArray[np.float32], mesh: Any) -> NDArray[np.float64]:
    """Points where they are on the mesh, by the corners of the box around both; nearly so, as none is on a corner."""
    low, high = found.min(0), found.max(0)
    scale = ((mesh.bounds[1] - mesh.bounds[0]) / (high - low)).mean()
    return (found - (low + high) / 2) * scale + mesh.bounds.mean(0)


@pytest.mark.parametrize("kind", MESHES)
def test_points_lie_on_the_surface_of_every_format(kind: str) -> None:
    found = unscaled(points_of(saved(BOX, kind), kind[:3], 4000), BOX)
    _, distance, _ = trimesh.proximity.closest_point_naive(BOX, found[:300])
    assert distance.max() < 0.02
    np.testing.assert_allclose([found.min(0), found.max(0)], BOX.bounds, atol=0.01)


@pytest.mark.parametrize("kind", MESHES)
def test_faces_have_points_by_their_areas(kind: str) -> None:
    """A box of 1 x 2 x 4: of 28, two sides each of 2, 4 and 8. As many as of trimesh's own sampling, but for chance."""
    count = 20_000
    found = unscaled(points_of(saved(BOX, kind), kind[:3], count), BOX)
    own, _ = trimesh.sample.sample_surface(BOX, count, seed=1)
    for points in (found, own):
        for axis, share in ((0, 16 / 28), (1, 8 / 28), (2, 4 / 28)):
            at_side = np.abs(np.abs(points[:, axis]) - BOX.extents[axis] / 2) < 0.004
            assert at_side.mean() == pytest.approx(share, abs=0.015)


def test_points_are_uniform_within_a_triangle() -> None:
    """Of a right triangle: of four equal parts, each has a fourth of the points."""
    off = b"OFF\n3 1 0\n0 0 0\n2 0 0\n0 2 0\n3 0 1 2\n"
    found = points_of(off, "off", 40_000)
    corner = found.min(0)
    place = (found - corner) / (found.max(0) - corner)[:2].mean()
    in_parts = [
        (place[:, 0] + place[:, 1] < 0.5).mean(),
        (place[:, 0] > 0.5).mean(),
        (place[:, 1] > 0.5).mean(),
    ]
    assert in_parts == pytest.approx([0.25] * 3, abs=0.01)
    assert (place[:, 0] + place[:, 1]).max() < 1.01


def test_points_are_a_function_of_the_seed() -> None:
    data = saved(BOX, "off")
    np.testing.assert_array_equal(points_of(data, "off", seed=5), points_of(data, "off", seed=5))
    assert not np.allclose(points_of(data, "off", seed=5), points_of(data, "off", seed=6))
    points_of(data, "off", seed=2**64 - 1)


def test_axes_place_and_size_of_the_file_do_not_matter_but_for_directions() -> None:
    moved = BOX.copy()
    moved.apply_transform(trimesh.transformations.translation_matrix([50, -20, 3]))
    moved.apply_scale(1000)
    np.testing.assert_allclose(points_of(saved(moved, "off"), "off"), points_of(saved(BOX, "off"), "off"), atol=1e-5)
    found = points_of(saved(BOX, "off"), "off")
    assert np.argsort(np.ptp(found, axis=0)).tolist() == [0, 1, 2]


def test_polygons_are_cut_into_triangles() -> None:
    corners = b"0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    for off in (b"OFF\n4 1 0\n" + corners + b"4 0 1 2 3\n", b"OFF\n4 2 0\n" + corners + b"3 0 1 2\n4 0 1 2 3\n"):
        found = points_of(off, "off")
        assert np.ptp(found[:, :2], axis=0) == pytest.approx(np.ptp(found[:, 0]), rel=0.05)


@pytest.mark.parametrize(
    "head",
    [b"OFF490 518 0\n", b"OFF 490 518 0\n", b"# made by hand\nOFF\n# counts\n490 518 0\n", b"OFF\r\n490 518 0\r\n"],
)
def test_headers_of_off_as_modelnet_has_them(head: bytes) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = len(mesh.vertices), len(mesh.faces)
    rest = saved(mesh, "off").split(b"\n", 2)[2]
    found = points_of(head.replace(b"490 518", b"%d %d" % (vertices, faces)) + rest, "off")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=0.1)


def test_faces_of_obj_may_count_backwards() -> None:
    square = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 0 5\nv 1 0 5\nv 1 1 5\nf -3//-1 -2//-1 -1//-1\n"
    absolute = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\nv 0 0 5\nv 1 0 5\nv 1 1 5\nf 4 5 6\n"
    np.testing.assert_array_equal(points_of(square, "obj"), points_of(absolute, "obj"))


def test_vertices_without_a_face_do_not_matter() -> None:
    with_stray = b"OFF\n4 1 0\n0 0 0\n1 0 0\n0 1 0\n900 900 nan\n3 0 1 2\n"
    without = b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    np.testing.assert_allclose(points_of(with_stray, "off"), points_of(without, "off"), atol=1e-6)


def test_faces_without_an_area_have_no_points() -> None:
    off = b"OFF\n5 3 0\n0 0 0\n1 0 0\n0 1 0\n3 0 0\n9 0 0\n3 0 1 2\n3 0 3 4\n3 4 4 4\n"
    without = b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    np.testing.assert_allclose(points_of(off, "off"), points_of(without, "off"), atol=1e-6)


def test_parts_of_a_scene_are_where_its_nodes_put_them() -> None:
    scene = trimesh.Scene()
    ball = trimesh.creation.icosphere(subdivisions=1)
    for x in (0, 10):
        scene.add_geometry(ball, transform=trimesh.transformations.translation_matrix([x, 0, 0]))
    found = points_of(scene.export(file_type="glb"), "glb")
    assert (found[:, 0] < 0).mean() == pytest.approx(0.5, abs=0.05)
    assert np.ptp(found[:, 0]) / np.ptp(found[:, 1]) == pytest.approx(6, rel=0.1)


# Clouds


def cloud(count: int = 500) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


def pcd(points: NDArray[np.float32], coding: str = "ascii", count: int | None = None, content: bytes = b"") -> bytes:
    """A PCD file of points, with a color before and a normal of three numbers behind."""
    n = len(points) if count is None else count
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS rgb x y z normal\nSIZE 4 4 4 4 8\n"
        f"TYPE U F F F F\nCOUNT 1 1 1 1 3\nWIDTH {n}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {coding}\n"
    ).encode()
    if content:
        return head + content
    if coding == "ascii":
        return head + "".join(f"255 {x!r} {y!r} {z!r} 0 0 1\n" for x, y, z in points.tolist()).encode()
    if coding == "binary":
        return head + b"".join(struct.pack("<I3f3d", 255, *point, 0, 0, 1) for point in points.tolist())
    columns = np.full(len(points), 255, "<u4").tobytes() + b"".join(points[:, axis].tobytes() for axis in range(3))
    columns += np.tile([0.0, 0.0, 1.0], len(points)).astype("<f8").tobytes()
    packed = compressed(columns)
    return head + struct.pack("<II", len(packed), len(columns)) + packed


def compressed(data: bytes) -> bytes:
    """LZF by the simplest rules: a copy where at least three bytes stood before, else a run."""
    out, run, place, seen = bytearray(), bytearray(), 0, {}

    def flush() -> None:
        for begin in range(0, len(run), 32):
            part = run[begin : begin + 32]
            out.append(len(part) - 1)
            out.extend(part)
        run.clear()

    while place < len(data):
        before = seen.get(data[place : place + 3])
        seen[data[place : place + 3]] = place
        length = 0
        if before is not None and place - before <= 8192:
            while length < 264 and place + length < len(data) and data[before + length] == data[place + length]:
                length += 1
        if length < 3:
            run.append(data[place])
            place += 1
            continue
        flush()
        distance, code = place - before - 1, length - 2
        out.append(min(code, 7) << 5 | distance >> 8)
        if code >= 7:
            out.append(code - 7)
        out.append(distance & 255)
        place += length
    flush()
    return bytes(out)


def normalized(points: NDArray[np.float32]) -> NDArray[np.float64]:
    centered = points.astype(np.float64) - points.astype(np.float64).mean(0)
    return centered / np.sqrt((centered**2).sum(1).max())


def assert_same_points(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """In any order."""
    assert len(found) == len(expected)
    for one, other in ((found, expected), (expected, found)):
        distances, _ = cKDTree(one).query(other)
        assert distances.max() < 1e-5


def as_off(points: NDArray[np.float32]) -> bytes:
    return b"OFF\n%d 0 0\n" % len(points) + "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in points.tolist()).encode()


def as_obj(points: NDArray[np.float32]) -> bytes:
    return "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in points.tolist()).encode()


def as_ply(points: NDArray[np.float32], coding: str) -> bytes:
    return trimesh.PointCloud(points).export(file_type="ply", encoding=coding)  # type: ignore[no-any-return]


CLOUDS = {
    "pcd text": lambda points: pcd(points, "ascii"),
    "pcd binary": lambda points: pcd(points, "binary"),
    "pcd compressed": lambda points: pcd(points, "binary_compressed"),
    "off without faces": as_off,
    "obj without faces": as_obj,
    "ply text": lambda points: as_ply(points, "ascii"),
    "ply binary": lambda points: as_ply(points, "binary"),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_of_a_cloud_all_points_are_taken_before_one_is_again(name: str) -> None:
    points = cloud()
    data, extension = CLOUDS[name](points), name[:3]
    assert_same_points(points_of(data, extension, 500), normalized(points))
    assert len(np.unique(points_of(data, extension, 200), axis=0)) == 200
    assert len(np.unique(points_of(data, extension, 700), axis=0)) == 500


def test_chosen_points_are_uniform_over_the_cloud() -> None:
    chosen = np.concatenate([choose_points(10, 4, seed) for seed in range(3000)])
    np.testing.assert_allclose(np.bincount(chosen, minlength=10) / 3000, 0.4, atol=0.04)
    assert sorted(choose_points(5, 5, 1)) == list(range(5))
    assert sorted(set(choose_points(5, 12, 1))) == list(range(5)) and len(choose_points(5, 12, 1)) == 12


@pytest.mark.parametrize("coding", ["ascii", "binary", "binary_compressed"])
def test_points_of_a_scan_that_are_not_numbers_are_left_out(coding: str) -> None:
    points = cloud(100)
    holes = points.copy()
    holes[::4] = np.nan
    holes[1, 2] = np.inf
    kept = holes[np.isfinite(holes).all(1)]
    assert len(kept) == 74
    assert_same_points(points_of(pcd(holes, coding), "pcd", 74), normalized(kept))


@pytest.mark.skipif(not SHAPES.is_dir(), reason="shared/data/shapes4 is not here")
def test_real_clouds_are_those_that_numpy_reads() -> None:
    paths = sorted(SHAPES.rglob("*.pcd"))
    assert len(paths) >= 50
    for path in paths[::3]:
        data = path.read_bytes()
        expected = np.frombuffer(data[data.index(b"DATA binary\n") + 12 :], "<f4").reshape(1024, 3)
        assert_same_points(points_of(data, "pcd", 1024), normalized(expected))


# Odd, damaged and hostile files


@pytest.mark.parametrize("wrong", ["off", "obj", "ply", "stl", "glb", "pcd"])
@pytest.mark.parametrize("kind", ["off", "ply", "glb"])
def test_the_content_decides_where_it_tells_the_format(kind: str, wrong: str) -> None:
    data = saved(BOX, kind)
    np.testing.assert_array_equal(points_of(data, wrong), points_of(data, kind))


def glb(tree: dict[str, Any], content: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if content:
        content += bytes(-len(content) % 4)
        chunks += struct.pack("<I4s", len(content), b"BIN\0") + content
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()


def triangle_tree(**changes: Any) -> dict[str, Any]:
    """glTF of one triangle."""
    tree: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    }
    return tree | changes


def test_a_glb_of_one_triangle_is_read() -> None:
    """By which the damaged ones below differ in what is meant."""
    assert np.ptp(points_of(glb(triangle_tree(), TRIANGLE), "glb")[:, 2]) == 0


MANY_NODES = triangle_tree(nodes=[{"mesh": 0}] * 1000, scenes=[{"nodes": list(range(1000))}])
MISSING = triangle_tree(accessors=[{"componentType": 5126, "count": 10**9, "type": "VEC3"}])
ELSEWHERE = triangle_tree(buffers=[{"byteLength": 36, "uri": "file:///etc/hostname"}])
DRACO = triangle_tree(extensionsRequired=["KHR_draco_mesh_compression", "KHR_materials_unlit"])
MESHOPT = triangle_tree(extensionsRequired=["EXT_meshopt_compression"])
QUANTIZED = triangle_tree(extensionsRequired=["KHR_mesh_quantization"])
CHAIN = triangle_tree(nodes=[{"children": [i + 1]} for i in range(50)] + [{"children": [0], "mesh": 0}])
STL = saved(BOX, "stl")
PLY = saved(BOX, "ply")
ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("bomb.off", b"OFF\n" + bytes(10**6))


@pytest.mark.parametrize(
    ("extension", "data", "message"),
    [
        ("off", b"", r"is empty \(zero bytes\)"),
        ("off", b"a sentence, and no shape", "by its content it is none of off, obj, ply, stl, glb, pcd"),
        ("off", ZIPPED.getvalue(), "by its content it is none of"),
        ("off", gzip.compress(saved(BOX, "off")), "by its content it is none of"),
        ("off", b"OFF\n", "no numbers of vertices and faces"),
        ("off", b"OFF BINARY\n" + bytes(300), "no numbers of vertices and faces"),
        ("off", b"OFF\n0 0 0\n", "no vertices|cannot be decoded"),
        ("off", b"OFF\n1000000 1000000 0\n0 0 0\n", r"header claims 1,000,000 vertices and 1,000,000 faces"),
        ("off", saved(BOX, "off")[:-60], "cannot be decoded|header claims"),
        ("off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "."),
        ("off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", r"not finite \(NaN or infinite\): 1 of 3.* number 2;"),
        ("off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "none of the shape's 1 faces has an area"),
        ("off", b"OFF\n3 1 0\n5 5 5\n5 5 5\n5 5 5\n3 0 1 2\n", "all its points are one"),
        ("off", b"OFF\n3 0 0\n5 5 5\n5 5 5\n5 5 5\n", "all its points are one"),
        ("off", b"OFF\n3 0 0\nnan 5 5\nnan 5 5\nnan 5 5\n", "no vertex that is finite"),
        ("off", b"OFF\n3 1 0\n-1e308 0 0\n1e308 0 0\n0 1e308 0\n3 0 1 2\n", "too large"),
        ("obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "."),
        ("obj", b"# nothing\n", "by its content it is none of"),
        ("stl", STL[:80] + struct.pack("<I", 10**6) + STL[84:], "header claims 0 vertices and 1,000,000 faces"),
        ("stl", STL[:-100], "header claims"),
        ("stl", STL[:50], "shorter than the head"),
        ("stl", b"solid x\nendsolid x\n", "."),
        ("ply", PLY[:40], "header does not end"),
        ("ply", PLY.replace(b"element vertex 8", b"element vertex 80000000"), "header claims 80,000,000 vertices"),
        ("ply", PLY[:-30], "cannot be decoded"),
        ("ply", PLY.replace(b"element face", b"element tristrips"), "strips of triangles"),
        ("glb", b"glTF" + bytes(8), "GLB header is damaged"),
        ("glb", glb({"meshes": 5}), "GLB header is damaged|no vertices|cannot be decoded"),
        ("glb", glb(triangle_tree(), TRIANGLE[:20]), "cannot be decoded"),
        ("glb", glb(ELSEWHERE), "names other files, which are not read"),
        ("glb", glb(DRACO, TRIANGLE), r"not supported \(KHR_draco_mesh_compression\)"),
        ("glb", glb(MESHOPT, TRIANGLE), r"not supported \(EXT_meshopt_compression\)"),
        ("glb", glb(QUANTIZED, TRIANGLE), r"not supported \(KHR_mesh_quantization\)"),
        ("glb", glb(MISSING), "an accessor without bufferView"),
        ("glb", glb(CHAIN, TRIANGLE), "."),
        ("pcd", b"# .PCD v0.7\nVERSION 0.7\n", "does not end with a line DATA"),
        ("pcd", pcd(cloud(), "binary")[:-10], "claims 500 points"),
        ("pcd", pcd(cloud(), "binary", 10**9), "claims 1,000,000,000 points"),
        ("pcd", pcd(cloud(), "ascii")[:-9000], "is cut or damaged"),
        ("pcd", pcd(cloud(), "binary_compressed")[:-10], "is cut or damaged"),
        ("pcd", pcd(cloud(), "binary_compressed", 500, struct.pack("<II", 4, 2**31) + b"abcd"), "is cut or damaged"),
        ("pcd", pcd(cloud(), "binary_compressed", 5, struct.pack("<II", 9, 200) + b"\xe0\xff\xff" * 3), "is damaged"),
        ("pcd", pcd(cloud(), "secret"), "none of its three codings"),
        ("pcd", pcd(cloud()).replace(b"FIELDS rgb x y z", b"FIELDS rgb u v w"), "fields are not x, y, z"),
        ("pcd", pcd(cloud()).replace(b"TYPE U F F F F", b"TYPE U F"), "do not fit together"),
        ("pcd", pcd(cloud()).replace(b"SIZE 4", b"SIZE 3"), "header is damaged"),
        ("pcd", pcd(cloud(), "ascii", 2, b"1 2 x 4 0 0 1\n1 2 3 4 0 0 1\n"), "cannot be decoded"),
    ],
)
def test_a_file_that_is_no_shape_says_where_it_is_and_why(extension: str, data: bytes, message: str) -> None:
    with pytest.raises(XmrError, match=f"^{WHERE}: .*({message})"):
        points_of(data, extension)


@pytest.mark.parametrize("kind", MESHES)
def test_a_mesh_above_the_bounds_is_refused_with_the_option(kind: str) -> None:
    data, extension = saved(BOX, kind), kind[:3]
    points_of(data, extension, max_faces=12)
    with pytest.raises(
        XmrError, match=rf"^{WHERE}: the shape has 12 faces, above the bound of 11; .*--data.media.max-faces"
    ):
        points_of(data, extension, max_faces=11)
    with pytest.raises(XmrError, match=r"--data.media.max-points"):
        points_of(data, extension, max_points=7)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_above_the_bound_is_refused_with_the_option(name: str) -> None:
    with pytest.raises(XmrError, match=rf"^{WHERE}: the shape has 500 vertices or points, .*--data.media.max-points"):
        points_of(CLOUDS[name](cloud()), name[:3], max_points=499)


def test_triangles_of_one_polygon_are_bounded() -> None:
    ring = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 6, 1000)]
    off = (
        "OFF\n1000 1 0\n" + "".join(f"{x} {y} 0\n" for x, y in ring) + "1000 " + " ".join(map(str, range(1000))) + "\n"
    )
    points_of(off.encode(), "off")
    with pytest.raises(XmrError, match=r"998 faces, above the bound of 500; .*--data.media.max-faces"):
        points_of(off.encode(), "off", max_faces=500)


def test_a_part_that_a_scene_shows_a_thousand_times_counts_a_thousand_times() -> None:
    points_of(glb(MANY_NODES, TRIANGLE), "glb", max_faces=1000)
    with pytest.raises(XmrError, match=r"1,000 faces, above the bound of 999; .*--data.media.max-faces"):
        points_of(glb(MANY_NODES, TRIANGLE), "glb", max_faces=999)


def image_tree() -> dict[str, Any]:
    """A triangle whose material has a picture elsewhere."""
    tree = triangle_tree(
        images=[{"uri": "http://127.0.0.1:9/x.png"}, {"uri": "/etc/hostname"}],
        textures=[{"source": 0}, {"source": 1}],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    )
    tree["meshes"][0]["primitives"][0]["material"] = 0
    return tree


@pytest.mark.parametrize(
    ("extension", "data"),
    [
        ("obj", b"mtllib /etc/hostname\nmtllib ../secret.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
        ("glb", glb(image_tree(), TRIANGLE)),
        ("ply", PLY.replace(b"end_header", b"comment TextureFile /etc/hostname\nend_header")),
    ],
)
def test_what_a_shape_refers_to_is_not_opened(extension: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    points_of(saved(BOX, extension), extension)  # so that all modules are imported

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"opened {arguments}")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    points_of(data, extension)


def test_without_trimesh_meshes_say_what_to_install_and_clouds_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: object, **options: object) -> object:
        if name == "trimesh":
            raise ImportError(name)
        return imported(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("xmr_e2e.extras.find_spec", lambda name: None)
    with pytest.raises(XmrError, match=r"pip install 'xmr-e2e\[media\]'"):
        points_of(saved(BOX, "off"), "off")
    points_of(pcd(cloud()), "pcd")


def test_an_stl_of_text_is_known_by_its_facets() -> None:
    corners = "".join(f"vertex {x} {y} 0\n" for x, y in ((0, 0), (1, 0), (0, 1)))
    text = f"solid one\nfacet normal 0 0 1\nouter loop\n{corners}endloop\nendfacet\nendsolid one\n".encode()
    assert np.ptp(points_of(text, "off")[:, 2]) == 0
    with pytest.raises(XmrError, match="by its content it is none of"):
        points_of(b"solid ground is what this text has" * 4, "off")


def test_a_triangle_whose_corners_have_no_numbers_of_their_own_counts_as_one() -> None:
    tree = triangle_tree()
    points_of(glb(tree, TRIANGLE), "glb", max_faces=1)
    tree["accessors"][0]["count"] = -3
    with pytest.raises(XmrError, match="numbers that are not stored in it"):
        points_of(glb(tree, TRIANGLE), "glb")


def test_numbers_that_are_not_finite_are_refused_without_a_warning() -> None:
    mesh = f"OFF\n3 1 0\n0 0 0\n{'9' * 400} 0 0\n0 nan 0\n3 0 1 2\n".encode()
    with warnings.catch_warnings(), pytest.raises(XmrError, match="finite"):
        warnings.simplefilter("error")
        points_of(mesh, "off")


@pytest.mark.parametrize(("mode", "faces"), [(5, 2), (6, 2), (0, 0), (1, 0)])
def test_strips_and_fans_of_triangles_are_counted_and_points_and_lines_are_none(mode: int, faces: int) -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], "<f4").tobytes()
    tree = triangle_tree(
        accessors=[{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}],
        bufferViews=[{"buffer": 0, "byteLength": 48}],
        buffers=[{"byteLength": 48}],
    )
    tree["meshes"] = [{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode}]}]
    assert count_glb(glb(tree, corners)) == (4, faces)


def test_a_binary_stl_is_known_by_its_length_whatever_stands_in_its_head() -> None:
    """The count of triangles is the four bytes behind a head of 80, which programs fill with their name."""
    box = b"made by a program".ljust(80, b"\xff") + STL[80:84] + b"\x01" + STL[85:]  # a normal, which is not read
    assert np.array_equal(points_of(box, "off"), points_of(STL, "stl"))
