"""Frames without people: their pixels are replaced by what may lie behind them.

Only these pixels change. The people's region is widened first, as HAT does (Chung, Wu and
Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video Dataset Augmentation",
NeurIPS 2022), so that no outline of a person remains.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.image_files import read_pixels
from zsar_jax.errors import UserError
from zsar_jax.mask_making.frame_program import (
  FrameProgram,
  SizeCheck,
  find_images,
  frame_names,
  write_images,
)
from zsar_jax.mask_making.maker import MakerClip
from zsar_jax.recipes.regions import PERSON

# HAT dilates the people in a frame of 240 rows four times by a cross of 3 x 3, as
# ops/backgrounds.py does.
_WIDENING = 4 / 240

# The radius in pixels of the known neighborhood from which Telea's method computes a pixel, as in
# OpenCV's example. 5 takes more than twice the time.
_TELEA_RADIUS = 3

# The color of a frame that shows nothing but people: the mean of CLIP's training images.
_MEAN_COLOR = (123, 117, 104)

# A program leaves people as they are if it changes their pixels, as a mean, by less than a JPEG
# does, in levels of 0 to 255, although the pixels of people deviate from their mean color by more.
_JPEG_DIFFERENCE = 2.0
_CONTRAST = 8.0


class Inpainter(Protocol):
  """Removes people from the frames of clips; a small frozen dataclass that pickles."""

  @property
  def parameters(self) -> dict[str, Any]:
    """Everything that determines the result, as JSON values, for made.json."""

  def inpaint(self, clip: MakerClip, planes: Sequence[bytes]) -> Iterator[bytes]:
    """Removes the people from the frames of a clip; frames are in memory one at a time.

    The other pixels are those of the JPEGs that a data set would store, encoded once more.

    Args:
      clip: the clip, of K frames.
      planes: the encoded plane of each frame, see `MadeFrame.plane`; b'' for a frame whose regions
        are unknown.

    Yields:
      For each frame a JPEG without the pixels of the region 'person'; b'' for a frame that has none
      or is unknown.

    Raises:
      records.ClipError: a program failed, or an image of it is missing or damaged.
    """


def open_inpainter(method: str, jpeg_quality: int) -> Inpainter:
  """Creates an inpainter.

  Args:
    method: 'telea', or the command line of a program, see `ProgramInpainter`.
    jpeg_quality: of the stored frames, 1 to 100.

  Raises:
    UserError: the method is neither, or there is no such program.
  """
  if method == 'telea':
    return TeleaInpainter(jpeg_quality)
  if '{' not in method:
    raise UserError(
      f'--inpaint: {method!r} is neither telea nor a command with {{frames}}, {{masks}} and {{out}}'
    )
  program = FrameProgram('--inpaint', method, ('frames', 'masks', 'out'))
  program.check_exists()
  return ProgramInpainter(program, jpeg_quality)


@dataclasses.dataclass(frozen=True)
class TeleaInpainter:
  """Continues the surroundings into each frame's holes; see `Inpainter`.

  The method (Telea, "An Image Inpainting Technique Based on the Fast Marching Method", Journal of
  Graphics Tools 2004) needs no weights. It invents no texture, so that a large hole becomes a
  smooth patch with streaks, and it fills each frame for itself, so that the patch flickers. A frame
  without any pixel to continue gets the mean color of CLIP's training images.

  Attributes:
    jpeg_quality: 1 to 100.
  """

  jpeg_quality: int

  @property
  def parameters(self) -> dict[str, Any]:
    """See `Inpainter`."""
    return {
      'method': 'telea',
      'radius': _TELEA_RADIUS,
      'widening': _WIDENING,
      'jpeg_quality': self.jpeg_quality,
    }

  def inpaint(self, clip: MakerClip, planes: Sequence[bytes]) -> Iterator[bytes]:
    """See `Inpainter`."""
    for index, hole in enumerate(_holes(clip, planes)):
      if hole is None:
        yield b''
        continue
      frame = clip.frames[index]
      if hole.all():
        filled = np.full_like(frame, _MEAN_COLOR)
      else:
        filled = cv2.inpaint(frame, hole.view(np.uint8), _TELEA_RADIUS, cv2.INPAINT_TELEA)
      yield _composite(frame, hole, filled, self.jpeg_quality)


@dataclasses.dataclass(frozen=True)
class ProgramInpainter:
  """Fills holes with a program of the user's, such as a video inpainter; see `Inpainter`.

  For each clip that shows people it is run once, on three temporary folders. {frames} has the
  frames as PNGs that are named by their number in the video, such as 000123.png; {masks} has, for
  each of them, a grey PNG that is 255 in the hole and 0 elsewhere. The program writes each frame to
  {out}, under the same name and in the same size, as a PNG or JPEG in RGB. Its pixels are used in
  the holes alone.

  Attributes:
    program: the program.
    jpeg_quality: 1 to 100.
  """

  program: FrameProgram
  jpeg_quality: int

  @property
  def parameters(self) -> dict[str, Any]:
    """See `Inpainter`."""
    return {
      'method': 'command',
      'command': self.program.command,
      'widening': _WIDENING,
      'jpeg_quality': self.jpeg_quality,
    }

  def inpaint(self, clip: MakerClip, planes: Sequence[bytes]) -> Iterator[bytes]:
    """See `Inpainter`."""
    if all(hole is None for hole in _holes(clip, planes)):
      yield from [b''] * len(planes)
      return
    size = clip.facts.height, clip.facts.width
    names = frame_names(clip)
    differences, contrasts = [], []
    with self.program.workspace() as root:
      write_images(os.path.join(root, 'frames'), names, clip.frames)
      masks = (
        np.zeros(size, np.uint8) if hole is None else np.where(hole, np.uint8(255), np.uint8(0))
        for hole in _holes(clip, planes)
      )
      write_images(os.path.join(root, 'masks'), names, masks)
      self.program.run(root)
      paths = find_images(os.path.join(root, 'out'), names, self.program.flag)
      for index, hole in enumerate(_holes(clip, planes)):
        if hole is None:
          yield b''
          continue
        frame = clip.frames[index]
        filled, _, _ = read_pixels(paths[index], SizeCheck(*size), ('RGB',), 'save it as RGB')
        before, after = frame[hole].astype(np.float32), filled[hole]
        differences.append(np.abs(before - after).mean())
        contrasts.append(np.abs(before - before.mean(0)).mean())
        yield _composite(frame, hole, filled, self.jpeg_quality)
    if np.mean(differences) < _JPEG_DIFFERENCE and np.mean(contrasts) > _CONTRAST:
      raise ClipError(
        f'the program of {self.program.flag} left the people as they are; masks are 255 where it'
        ' has to paint'
      )


def _holes(clip: MakerClip, planes: Sequence[bytes]) -> Iterator[np.ndarray | None]:
  """Yields bool[H, W] for each frame, the people, widened; None if there are none."""
  height, width = clip.facts.height, clip.facts.width
  cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
  for code in planes:
    person = records.decode_plane(code, height, width) & PERSON if code else None
    if person is None or not person.any():
      yield None
    else:
      yield cv2.dilate(person, cross, iterations=max(1, round(_WIDENING * height))) != 0


def _composite(frame: np.ndarray, hole: np.ndarray, filled: np.ndarray, jpeg_quality: int) -> bytes:
  """Returns the JPEG of a frame whose hole shows another picture."""
  picture = np.where(hole[..., None], filled, frame)
  (jpeg,) = records.encode_frames([picture], jpeg_quality)
  return jpeg
