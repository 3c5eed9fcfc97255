"""Polygons and boxes from files, drawn into region planes after their coordinates are checked."""

import numpy as np
from pycocotools import mask as coco_mask

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import rle
from zsar_jax.datasets.masks.left_out import EmptyShape
from zsar_jax.recipes.regions import draw_box

# Detectors draw a little over the edge; further out than the image is long is no coordinate.
_MARGIN = 1.0

# Boxes are written with so many digits that a whole edge is whole when it is rounded to these,
# and does not touch another row of pixels.
_DECIMALS = 2

# In pixels: what is thinner is a line.
_THINNEST = 1e-6

# In pixels. pycocotools allocates some 80 bytes for each, whatever the image's size.
_MAX_OUTLINE = 1 << 22


def draw_polygon(plane: np.ndarray, bit: int, points: np.ndarray, where: str) -> None:
  """Sets `bit` in `plane` inside of a polygon, as pycocotools does for COCO.

  Args:
    plane: u8[H, W], changed in place.
    bit: the region's bit.
    points: f64[P, 2], x and y in pixels of the plane; what lies beyond its edges is cut off.
    where: the polygon, for the error.

  Raises:
    EmptyShape: for fewer than 3 points, points on one line, and coordinates that are not finite.
    ClipError: for coordinates that are no pixels of the plane.
  """
  if len(points) < 3:
    raise EmptyShape(f'{where}: a polygon needs 3 points, not {len(points)}')
  _check_near(points, plane.shape, where)
  steps = np.abs(np.diff(points, axis=0, append=points[:1]))
  if steps.max(axis=1).sum() > _MAX_OUTLINE:
    raise ClipError(f'{where}: a polygon has an outline of more than {_MAX_OUTLINE} pixels')
  sides = points[1:] - points[0]
  if np.linalg.matrix_rank(sides, tol=_THINNEST) < 2:
    raise EmptyShape(f'{where}: the points of a polygon lie on one line')
  encoded = coco_mask.frPyObjects([points.ravel().tolist()], *plane.shape)[0]
  inside = rle.decode({'size': list(plane.shape), 'counts': encoded['counts'].decode()}, where)
  plane |= inside * np.uint8(bit)


def draw_checked_box(plane: np.ndarray, bit: int, corners: np.ndarray, where: str) -> None:
  """Sets `bit` in `plane` on every pixel that a box touches.

  Args:
    plane: u8[H, W], changed in place.
    bit: the region's bit.
    corners: f64[2, 2], the x and y of two opposite corners, the upper left one first, in pixels.
    where: the box, for the error.

  Raises:
    EmptyShape: for a box without a size, and coordinates that are not finite.
    ClipError: for coordinates that are no pixels of the plane.
  """
  _check_near(corners, plane.shape, where)
  (x1, y1), (x2, y2) = corners.round(_DECIMALS).tolist()
  if x2 <= x1 or y2 <= y1:
    raise EmptyShape(f'{where}: a box of {x2 - x1:g} x {y2 - y1:g} pixels has no size')
  draw_box(plane, bit, x1, y1, x2, y2)


def _check_near(points: np.ndarray, shape: tuple[int, int], where: str) -> None:
  height, width = shape
  size = np.array([width, height], float)
  if not np.isfinite(points).all():
    raise EmptyShape(
      f'{where}: coordinates that are no numbers do not lie in an image of {width} x {height}'
    )
  if not ((points >= -_MARGIN * size) & (points <= (1 + _MARGIN) * size)).all():
    raise ClipError(
      f'{where}: coordinates from {np.min(points):g} to {np.max(points):g} do not lie in an image '
      f'of {width} x {height}, to which they are scaled; check their unit and the size'
    )
