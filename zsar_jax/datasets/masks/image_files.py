"""Reads masks that are images, one for each frame: their numbers and their pixels."""

import os
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_matching import FrameNumbering, Stride
from zsar_jax.datasets.masks.numbered_files import infer_first_number
from zsar_jax.storage.folders import Folders

EXTENSIONS = ('.png', '.jpg', '.jpeg')

# The exceptions that Pillow raises for files that are damaged, cut short, or claim an absurd size.
_DAMAGED = (
  OSError,
  SyntaxError,
  ValueError,
  EOFError,
  OverflowError,
  struct.error,
  Image.DecompressionBombError,
)


def image_numbering(
  folders: Folders, first: int | None, spread: bool, stride: Stride
) -> FrameNumbering:
  """Returns how the images in the folders of clips are numbered.

  Args:
    folders: lists the folder of the clips' folders.
    first: the number of the first frame; None infers it.
    spread: whether the masks are spread evenly over the video.
    stride: which frames have a mask; they begin with frame 0 by default.

  Raises:
    UserError: `first` cannot be inferred.
  """
  if spread:
    return FrameNumbering(0, spread)
  given = first is not None
  if first is None:
    first = infer_first_number(folders, EXTENSIONS)
  step, start = stride
  return FrameNumbering(first, first_given=given, stride=step, start=start or 0)


def read_pixels(
  path: str, check_size: Callable[[int, int, str], None], modes: tuple[str, ...], remedy: str
) -> tuple[np.ndarray, str, bool]:
  """Reads the pixels of an image as they are stored.

  Args:
    path: a PNG or JPEG file.
    check_size: is called with the height, the width and `path` before anything is decoded, such
      as `Fitting.check`; raises a `ClipError` for a wrong size.
    modes: the modes of Pillow that are accepted.
    remedy: what to do about an image of another mode, for the error.

  Returns:
    pixels: [h, w] or [h, w, 3] values.
    mode: the image's mode.
    exact: whether the values are those that were saved. The values of a JPEG are not; those of a
      grey PNG of 2 or 4 bits are stretched.

  Raises:
    ClipError: The image cannot be decoded, or has another mode or size.
  """
  try:
    if not os.path.getsize(path):
      raise ClipError(f'{path} is an empty file; make it again')
    with Image.open(path, formats=('PNG', 'JPEG')) as image:
      check_size(image.height, image.width, path)
      if image.mode not in modes:
        raise ClipError(f'{path} is an image of mode {image.mode}; {remedy}')
      # A damaged file may have no tile; decoding then raises the error.
      stretched = image.mode == 'L' and any(tile[3] != 'L' for tile in image.tile)
      exact = image.format == 'PNG' and not stretched
      return np.asarray(image), image.mode, exact
  except _DAMAGED as error:
    raise ClipError(f'{path} cannot be decoded ({error}); make it again') from None
