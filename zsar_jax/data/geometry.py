"""Crop and resize on the host, in uint8, the same for frames and region planes."""

import dataclasses
import math

import cv2
import numpy as np

INTERPOLATIONS = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}
# How a frame becomes a square where nothing is random: cut, or squashed.
RESIZES = ('shortest', 'squash')


@dataclasses.dataclass(frozen=True)
class Box:
  """A crop in whole pixels."""

  top: int
  left: int
  height: int
  width: int


def center_crop(
  height: int, width: int, fraction: float, place: float = 0.5, resize: str = 'shortest'
) -> Box:
  """The square whose side is `fraction` of the frame's short side, and which is centered on that.

  With fraction = size / short this is the field's resize of the short side to `short`
  followed by a center crop of `size`, in one resampling. With 'squash' both sides are resized to
  `short`, and the box has the frame's shape.

  Args:
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    fraction: in (0, 1].
    place: where the square lies on the long side: 0 at its start, 0.5 in its middle, 1 at its
      end. Of a square frame the width is the long side. Of what is squashed it is the middle.
    resize: one of `RESIZES`.
  """
  if resize == 'squash':
    rows, columns = (max(1, round(side * fraction)) for side in (height, width))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)
  side = max(1, round(min(height, width) * fraction))
  top, left = (0.5, place) if width >= height else (place, 0.5)
  return Box(int((height - side) * top), int((width - side) * left), side, side)


def random_crop(
  rng: np.random.Generator,
  height: int,
  width: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> Box:
  """A random box, as in Inception's training (Szegedy et al., CVPR 2015).

  Args:
    rng: draws the box.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    scale: smallest and largest share of the frame's area.
    ratio: smallest and largest width / height; drawn evenly in its logarithm.

  Returns:
    A box inside the frame; where the drawn one sticks out, it is cut at the frame's border.
  """
  area = height * width * rng.uniform(*scale)
  aspect = math.exp(rng.uniform(*map(math.log, ratio)))
  crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
  crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
  top = int(rng.integers(height - crop_height + 1))
  left = int(rng.integers(width - crop_width + 1))
  return Box(top, left, crop_height, crop_width)


def random_square(
  rng: np.random.Generator, height: int, width: int, side: tuple[float, float]
) -> Box:
  """A random square, whose side is drawn evenly as a share of the frame's short side.

  Args:
    rng: draws the square.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    side: smallest and largest share of the short side, in (0, 1].
  """
  pixels = max(1, round(min(height, width) * rng.uniform(*side)))
  top = int(rng.integers(height - pixels + 1))
  left = int(rng.integers(width - pixels + 1))
  return Box(top, left, pixels, pixels)


def resize_frame(
  frame: np.ndarray, box: Box, size: int, interpolation: str, out: np.ndarray | None = None
) -> np.ndarray:
  """Cuts `box` from u8[H, W, 3] and resizes it to u8[size, size, 3], in `out` if given.

  OpenCV interpolates between the nearest pixels alone, so what is more than twice as large is
  averaged instead: otherwise it would alias.
  """
  large = min(box.height, box.width) > 2 * size
  method = cv2.INTER_AREA if large else INTERPOLATIONS[interpolation]
  return cv2.resize(_cut(frame, box), (size, size), dst=out, interpolation=method)


def resize_plane(
  plane: np.ndarray, box: Box, size: int, out: np.ndarray | None = None
) -> np.ndarray:
  """Cuts `box` from u8[H, W] and resizes it to u8[size, size] by nearest neighbor.

  INTER_NEAREST_EXACT looks at pixel centers, as the frames' interpolation does; plain
  INTER_NEAREST looks at corners and would shift the planes against the frames.
  """
  method = cv2.INTER_NEAREST_EXACT
  return cv2.resize(_cut(plane, box), (size, size), dst=out, interpolation=method)


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
  return image[box.top : box.top + box.height, box.left : box.left + box.width]
