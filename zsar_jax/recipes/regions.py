"""Region planes: which pixels of a frame show a person, an object, or their boxes.

A plane is u8[H, W], one bit for each region, so that a silhouette and a box of the same
thing can overlap. Background is what neither a person nor an object covers. A plane says
nothing about a frame that nobody annotated: that is kept apart, as `annotated = False`. Where
some regions of a frame are known and others are not, the plane has a bit for each unknown one.
"""

from collections.abc import Collection

import numpy as np

PERSON = 1
OBJECT = 2
PERSON_BOX = 4
OBJECT_BOX = 8

# The names used in recipes, in data set metadata and in reports.
REGION_BITS = {
  'person': PERSON,
  'object': OBJECT,
  'person_box': PERSON_BOX,
  'object_box': OBJECT_BOX,
}

# A box's bit lies this many places above the bit of the shape that it encloses.
BOX_SHIFT = 2

# The bit that says that a region is unknown lies this many places above the region's own.
UNKNOWN_SHIFT = 4


def shapes_from_boxes(plane: np.ndarray, shapes: Collection[str]) -> np.ndarray:
  """Lets boxes stand in for the shapes that they enclose.

  Args:
    plane: u8[..., H, W] region planes.
    shapes: which, of 'person' and 'object'.

  Returns:
    u8[..., H, W], the planes with the bits of these shapes set wherever those of their boxes are,
    and unknown wherever their boxes are.
  """
  bits = sum(REGION_BITS[name] for name in shapes)
  bits = np.uint8(bits | bits << UNKNOWN_SHIFT)
  return plane | (plane >> BOX_SHIFT) & bits


def draw_box(plane: np.ndarray, bit: int, x1: float, y1: float, x2: float, y2: float) -> None:
  """Sets `bit` in `plane` on every pixel that the box touches.

  Args:
    plane: u8[H, W], changed in place.
    bit: the region's bit.
    x1: left edge in pixels; the four edges are clipped to the plane.
    y1: upper edge in pixels.
    x2: right edge in pixels, exclusive where it is whole.
    y2: lower edge in pixels, exclusive where it is whole.
  """
  height, width = plane.shape
  left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
  right, bottom = min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))
  if left < right and top < bottom:
    plane[top:bottom, left:right] |= np.uint8(bit)
