"""3D shapes to points on their surface: meshes are sampled by area, of clouds points are chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.data.randomness import uniform
from xmr_e2e.data.shape_files import Shape, read_shape
from xmr_e2e.errors import XmrError

_FACE, _FIRST_SIDE, _SECOND_SIDE, _ORDER, _AGAIN = range(5)
"""streams of random numbers"""


def decode_points(
    data: bytes, where: str, *, points: int, extension: str, seed: int, bounds: MediaBounds = DEFAULT_BOUNDS
) -> NDArray[np.float32]:
    """Points on a shape's surface, centered and scaled into the unit ball: float32 (points, 3).

    On a mesh, a face is chosen with the chance of its area and a point uniformly on it (Osada et al., 2002, Eq. 1). Of
    a cloud, which is what a file without faces is, points are chosen without replacement; one of fewer points gives all
    of them, and some again. Their mean then becomes the origin and the farthest has a distance of 1, as in PointNet
    (Qi et al., 2017). Axes stay as they are in the file.

    Args:
        where: shard and key, for the error.
        extension: without the dot. The content decides where it tells the format; OBJ has no mark of its own.
        seed: of the points, from 0 to 2**64 - 1: the same for the same points, on every machine.

    Raises:
        XmrError: no shape that can be read, one above the bounds, or one without an extent; begins with `where`.
    """
    shape = read_shape(data, where, extension=extension, bounds=bounds)
    vertices = _within_unit_cube(shape, where)
    if not len(shape.faces):
        return _normalized(vertices[choose_points(len(vertices), points, seed)])
    chosen = sample_surface(vertices[shape.faces], points, seed)
    if chosen is None:
        raise XmrError(f"{where}: none of the shape's {len(shape.faces):,} faces has an area")
    return _normalized(chosen)


def sample_surface(triangles: NDArray[np.float64], points: int, seed: int) -> NDArray[np.float64] | None:
    """Points (points, 3) that are uniform on the surface of triangles (faces, 3, 3); None if these have no area."""
    origin, first, second = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = np.cumsum(np.linalg.norm(np.cross(first, second), axis=1))
    if not area[-1] > 0:
        return None
    face = np.searchsorted(area, _random(seed, points, _FACE) * area[-1], side="right")
    # The square root: of the lines parallel to a side, those nearer to it are longer.
    along = np.sqrt(_random(seed, points, _FIRST_SIDE))[:, None]
    across = _random(seed, points, _SECOND_SIDE)[:, None]
    found: NDArray[np.float64] = origin[face] + along * ((1 - across) * first[face] + across * second[face])
    return found


def choose_points(count: int, points: int, seed: int) -> NDArray[np.int64]:
    """Numbers (points,) of points of a cloud of so many: none twice before all are there once."""
    order = np.argsort(_random(seed, count, _ORDER), kind="stable")[:points]
    again = (_random(seed, max(0, points - count), _AGAIN) * count).astype(np.int64)
    return np.concatenate([order, again])


def _random(seed: int, count: int, stream: int) -> NDArray[np.float64]:
    return uniform(seed, 0, np.arange(count), stream)


def _within_unit_cube(shape: Shape, where: str) -> NDArray[np.float64]:
    """The vertices, moved and scaled so that areas of shapes of any size are in the range of numbers."""
    used = shape.vertices[shape.faces.reshape(-1)] if len(shape.faces) else shape.vertices
    low, high = used.min(0), used.max(0)
    with np.errstate(over="ignore"):
        extent = float((high - low).max())
    if not 0 < extent < np.inf:
        fault = "all its points are one" if extent == 0 else "its coordinates are too large"
        raise XmrError(f"{where}: the shape has no extent: {fault}")
    with np.errstate(over="ignore", invalid="ignore"):  # of vertices without a face, which are not looked at
        moved: NDArray[np.float64] = (shape.vertices - low) / extent
    return moved


def _normalized(points: NDArray[np.float64]) -> NDArray[np.float32]:
    centered = points - points.mean(0)
    radius = np.linalg.norm(centered, axis=1).max()
    return (centered / (radius or 1)).astype(np.float32)
