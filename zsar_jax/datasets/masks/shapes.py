"""Draws polygons from files into region planes; checks coordinates of polygons and boxes."""

import numpy as np
from pycocotools import mask as coco_mask

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import rle
from zsar_jax.datasets.masks.skipped_shapes import EmptyShape

# How far outside the image a coordinate may be, as a fraction of the image's side. Detectors draw a
# little over the edge.
_MARGIN = 1.0

# Edges of boxes are rounded to this many decimals, so that an edge between two rows of pixels does
# not touch the next row because of the rounding in the file.
_DECIMALS = 2

# In pixels: a thinner polygon is a line.
_MIN_THICKNESS = 1e-6

# In pixels. pycocotools allocates about 80 bytes for each, whatever the image's size.
_MAX_OUTLINE = 1 << 22


def draw_polygon(plane: np.ndarray, bit: int, points: np.ndarray, where: str) -> None:
  """Sets `bit` in `plane` inside a polygon, as pycocotools does for COCO.

  Args:
    plane: u8[H, W], changed in place.
    bit: the region's bit.
    points: f64[P, 2], x and y in pixels of the plane; parts beyond its edges are cut off.
    where: the polygon, for errors.

  Raises:
    EmptyShape: There are fewer than 3 points, or all are on one line, or a coordinate is not
      finite.
    ClipError: The coordinates are far outside the plane.
  """
  if len(points) < 3:
    raise EmptyShape(f'{where}: a polygon needs 3 points, not {len(points)}')
  _check_points(points, plane.shape, where)
  steps = np.abs(np.diff(points, axis=0, append=points[:1]))
  if steps.max(axis=1).sum() > _MAX_OUTLINE:
    raise ClipError(f'{where}: a polygon has an outline of more than {_MAX_OUTLINE} pixels')
  sides = points[1:] - points[0]
  if np.linalg.matrix_rank(sides, tol=_MIN_THICKNESS) < 2:
    raise EmptyShape(f'{where}: the points of a polygon lie on one line')
  encoded = coco_mask.frPyObjects([points.ravel().tolist()], *plane.shape)[0]
  inside = rle.decode({'size': list(plane.shape), 'counts': encoded['counts'].decode()}, where)
  plane |= inside * np.uint8(bit)


def check_box(
  corners: np.ndarray, shape: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
  """Returns the left, upper, right and lower edge of a box in pixels, which are checked.

  Args:
    corners: f64[2, 2], the x and y of two opposite corners, the upper left one first, in pixels.
    shape: the height and width of the plane in pixels.
    where: the box, for errors.

  Raises:
    EmptyShape: The box has no size, or a coordinate is not finite.
    ClipError: The coordinates are far outside the plane.
  """
  _check_points(corners, shape, where)
  (x1, y1), (x2, y2) = corners.round(_DECIMALS).tolist()
  if x2 <= x1 or y2 <= y1:
    raise EmptyShape(f'{where}: a box of {x2 - x1:g} x {y2 - y1:g} pixels has no size')
  return x1, y1, x2, y2


def _check_points(points: np.ndarray, shape: tuple[int, int], where: str) -> None:
  height, width = shape
  size = np.array([width, height], float)
  if not np.isfinite(points).all():
    raise EmptyShape(f'{where}: a coordinate is not a finite number')
  if not ((points >= -_MARGIN * size) & (points <= (1 + _MARGIN) * size)).all():
    raise ClipError(
      f'{where}: coordinates from {np.min(points):g} to {np.max(points):g} are far outside of the '
      f'image, which is {width} x {height} after scaling; check their unit and the size'
    )
