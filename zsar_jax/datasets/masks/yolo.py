"""Text files of YOLO: polygons, or boxes, one file for each frame.

A line is `class x1 y1 x2 y2 ...` with the corners of a polygon, or `class x y w h` with the center
and the size of a box, as shares of the frame's width and height. After that may come a confidence
and a track's id. ultralytics writes `{clip}_{frame}.txt` for a video, counted from 1, all clips
in one folder, and no file for a frame with nothing in it. With vid_stride=K it detects in the last
of every K frames, and counts those (`LoadImagesAndVideos` in ultralytics/data/loaders.py).
"""

import dataclasses
import functools
import math
import os
import re
import sys
from collections.abc import Collection, Iterator

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_matching import (
  EVERY_FRAME,
  Counting,
  Stride,
  drawn,
  numbered_files,
  numbers_of_folders,
)
from zsar_jax.datasets.masks.left_out import EmptyShape, LeftOut
from zsar_jax.datasets.masks.lookup import Owners, find, folder_of_masks, names, region_names
from zsar_jax.datasets.masks.shapes import draw_checked_box, draw_polygon
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON, PERSON_BOX

_EXTENSIONS = ('.txt',)

_FLAT_NAME = re.compile(r'(.+)_([0-9]+)\.txt')

# How far a coordinate may lie outside of 0 to 1 by rounding.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class YoloLines:
  """How lines are read.

  Attributes:
    bits: the region's bit of each class, in digits, and of '*' for all others.
    score: lines of less confidence are left out.
    extra: how many numbers follow the coordinates; None to tell by their count.
  """

  bits: dict[str, int]
  score: float
  extra: int | None


class YoloSource:
  """A `source.MaskSource` of YOLO's text files."""

  def __init__(
    self,
    path: str,
    values: dict[str, int] | None = None,
    first: int | None = None,
    score: float = 0.5,
    extra: int | None = None,
    spread: bool = False,
    stride: Stride = EVERY_FRAME,
  ):
    """Looks for folders of clips and for clips whose files lie side by side.

    Args:
      path: the folder of `{clip}/{frame}.txt` or `{last part of clip}_{frame}.txt`.
      values: the region's bit of each class, and of '*' for all others.
      first: the number of the first frame; None for 0 if a folder of a clip has that, and for 1,
        as ultralytics counts, where files lie side by side.
      score: lines of less confidence are left out.
      extra: how many numbers follow the coordinates; None to tell by their count.
      spread: whether the files are spread evenly over the video.
      stride: every how many frames there was a detection, and in which frame the first one; None
        for the last of that many frames, as of ultralytics.

    Raises:
      UserError: if the folder is missing, or folders of clips do not tell `first`.
    """
    self._root = folder_of_masks(path)
    self._lines = YoloLines(values or {'0': PERSON}, score, extra)
    step, start = stride
    counting = Counting(
      1 if first is None else first,
      spread=spread,
      first_given=first is not None,
      stride=step,
      start=step - 1 if start is None else start,
    )
    self._counting = counting
    if first is None and not spread:
      self._counting = dataclasses.replace(counting, first=_find_first(self._root))
    self._counting_side_by_side = dataclasses.replace(counting, first_given=True)
    self._owners = Owners()
    self.region_names = region_names(self._lines.bits.values())
    self.parameters = {
      'format': 'yolo',
      'path': self._root,
      'values': self._lines.bits,
      **self._counting.parameters,
      'first_side_by_side': self._counting_side_by_side.first,
      'score': score,
      'extra': extra,
    }

  def for_clip(self, clip: ListedClip) -> 'YoloMasks | None':
    """The masks of a clip, or None where it has neither a folder nor a single file.

    Raises:
      UserError: if they may as well be another clip's.
    """
    folder = find(self._root, clip, ())
    if folder is not None:
      self._owners.claim(folder, clip)
      return YoloMasks(folder, None, (), self._lines, self._counting)
    for name in names(clip):
      stem = name.rpartition('/')[2]
      if stem in self._stems:
        self._owners.claim(f'{self._root}/{stem}_*.txt', clip)
        digits = tuple(self._stems[stem])
        return YoloMasks(self._root, stem, digits, self._lines, self._counting_side_by_side)
    return None

  @functools.cached_property
  def _stems(self) -> dict[str, list[str]]:
    """The numbers of the files that lie side by side, in digits, by what stands before them.

    The folder is listed once, if it is at all.
    """
    stems = {}
    with os.scandir(self._root) as entries:
      for entry in entries:
        if match := _FLAT_NAME.fullmatch(entry.name):
          # Millions of files have the same few numbers.
          stems.setdefault(match[1], []).append(sys.intern(match[2]))
    return stems


def _find_first(root: str) -> int:
  """From which number folders of clips count; 1 where there is none.

  That no file is numbered 0 says nothing: in a frame without one, nothing may have been found.
  """
  folders = list(numbers_of_folders(root, _EXTENSIONS, []))
  if any(0 in numbers for numbers in folders):
    return 0
  if folders:
    raise UserError(
      f'--masks: no file numbered 0 was found in the first folders of {root}, but frames with '
      'nothing in them may have no file; add first=0 or first=1, the number of the first frame'
    )
  return 1


@dataclasses.dataclass(frozen=True)
class YoloMasks:
  """A clip's text files.

  Attributes:
    folder: of the files.
    stem: what their names begin with, before '_', where other clips' files lie there, too.
    digits: their numbers as they are written in their names, where there is a stem.
    lines: how they are read.
    counting: how they are numbered.
  """

  folder: str
  stem: str | None
  digits: tuple[str, ...]
  lines: YoloLines
  counting: Counting

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    return self.counting.looked_at(num_frames, self._places(self._files(), num_frames, own, {}))

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`.

    A frame without a file is annotated, and shows nothing, if it was looked at.
    """
    files = self._files()
    places = self._places(files, video.num_frames, video.numbers, remarks)
    kept = set(video.kept.tolist())
    kept.intersection_update(self.counting.looked_at(video.num_frames, places))
    without = len(kept.difference(places))
    if without:
      remarks['frames without a result'] = f'{without} of {len(kept)}'
    left_out = LeftOut(remarks)

    def draw(number: int | None) -> np.ndarray:
      plane = np.zeros((video.height, video.width), np.uint8)
      if number is not None:
        self._draw(plane, files[number], left_out)
      return plane

    items = {frame: places.get(frame) for frame in kept}
    yield from drawn(video, items, draw, remarks, left_out.check)

  def _places(
    self, files: dict[int, str], num_frames: int, own: np.ndarray | None, remarks: Remarks
  ) -> dict[int, int]:
    where = os.path.join(self.folder, f'{self.stem}_*.txt') if self.stem else self.folder
    if self.counting.spread and min(files, default=0) > 1:
      raise ClipError(
        f'{where}: the first file is numbered {min(files)}, so that it is unknown how the frames '
        'are spread; write an empty file for each frame with nothing in it, or give stride=, the '
        'number of frames from one to the next'
      )
    places = self.counting.places(files, num_frames, own, where, remarks)
    if files and not places:
      raise ClipError(
        f'{where}: files are numbered {min(files)} to {max(files)}, none of which is one of the '
        f"video's {num_frames} frames; number them as the frames are"
      )
    return places

  def _files(self) -> dict[int, str]:
    """The clip's files by number. Where others' lie beside them, the folder is not listed again."""
    if self.stem is None:
      files = numbered_files(self.folder, _EXTENSIONS, number_needed=False)
      if not files and any(not name.startswith('.') for name in os.listdir(self.folder)):
        raise ClipError(f'{self.folder} has no text file with a number; name them {{frame}}.txt')
      return files
    files = {}
    for digits in self.digits:
      path = os.path.join(self.folder, f'{self.stem}_{digits}.txt')
      other = files.setdefault(int(digits), path)
      if other != path:
        raise ClipError(f'{path} and {os.path.basename(other)} have the same number; remove one')
    return files

  def _draw(self, plane: np.ndarray, path: str, left_out: LeftOut) -> None:
    try:
      with open(path, encoding='ascii') as file:
        lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
      raise ClipError(f'{path} cannot be read as text ({error}); make it again') from None
    size = np.array([plane.shape[1], plane.shape[0]], float)
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      where, category = f'{path}, line {number}', line.split()[0]
      try:
        bit, points = parse_line(line, self.lines, where)
        if bit in (PERSON_BOX, OBJECT_BOX):
          corners = np.stack([points.min(axis=0), points.max(axis=0)])
          draw_checked_box(plane, bit, corners * size, where)
        elif bit:
          draw_polygon(plane, bit, points * size, where)
        if bit:
          left_out.count(category)
      except EmptyShape as error:
        left_out.add(category, error)


def parse_line(line: str, lines: YoloLines, where: str) -> tuple[int, np.ndarray]:
  """What a line says.

  Args:
    line: with at least one word.
    lines: how it is read.
    where: the line, for errors.

  Returns:
    bit: the region's, or 0 if the line is to be left out.
    points: f64[P, 2], x and y as shares of the frame: of a polygon with P >= 3, or of two opposite
      corners of a box. Of no meaning where `bit` is 0.

  Raises:
    EmptyShape: if the line has too few coordinates, or one that is no number, or is a box where
      a shape is wanted: ultralytics writes contours of one and of two points, and of none.
    ClipError: if the line is no line of this format.
  """
  try:
    category, *numbers = [float(word) for word in line.split()]
  except ValueError:
    raise ClipError(f'{where}: {line[:40]!r} has more than numbers; make it again') from None
  if not (category >= 0 and category.is_integer()):
    raise ClipError(f'{where}: the class must be a whole number, not {category:g}')
  bit = lines.bits.get(str(int(category)), lines.bits.get('*', 0))
  if not bit:
    return 0, np.empty((0, 2))
  extra = _extra(numbers, where) if lines.extra is None else lines.extra
  coordinates = numbers[: max(0, len(numbers) - extra)]
  points = np.array(coordinates[: len(coordinates) // 2 * 2]).reshape(-1, 2)
  about = f'{where}: {len(numbers)} numbers after the class are neither a box nor a polygon'
  if len(coordinates) >= 4 and len(coordinates) % 2:
    raise ClipError(
      about
      + (f', of which {extra} are no coordinates by extra={extra}' if extra else '')
      + '; give extra=0, 1 or 2, the count of numbers behind the coordinates'
    )
  if len(points) > 1 and np.isfinite(points).all():
    _check_range(points, where)
  confidence = numbers[len(coordinates)] if extra and len(numbers) > len(coordinates) else 1.0
  if not math.isfinite(confidence):
    raise EmptyShape(f'{where}: the confidence must be from 0 to 1, not {confidence:g}')
  if not 0 <= confidence <= 1:
    raise ClipError(
      f'{where}: the confidence must be from 0 to 1, not {confidence:g}; where a track id ends the '
      'line, save it with a confidence or without it'
    )
  if confidence < lines.score:
    return 0, points
  if len(points) < 2:
    raise EmptyShape(about)
  if not np.isfinite(points).all():
    raise EmptyShape(f'{where}: coordinates must be from 0 to 1, and one is no number')
  if len(points) == 2:
    if bit not in (PERSON_BOX, OBJECT_BOX):
      raise EmptyShape(
        f'{where} is a box and not a polygon; give values={int(category)}:person_box or object_box'
      )
    center, size = points
    points = np.stack([center - size / 2, center + size / 2])
  return bit, np.clip(points, 0, 1)


def _check_range(points: np.ndarray, where: str) -> None:
  if not ((points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)).all():
    raise ClipError(
      f'{where}: coordinates must be from 0 to 1; pixels are not taken, and where a track id ends '
      'the line, save without it or give extra=2'
    )


def _extra(numbers: list[float], where: str) -> int:
  """How many numbers follow the coordinates, as far as their count tells."""
  if len(numbers) % 2:
    return 1
  # Coordinates with a confidence and the id 1 look like a polygon with one more corner, on the
  # frame's lower edge, where hardly a polygon ends. Other ids are larger than any coordinate.
  if len(numbers) > 4 and numbers[-1] == 1:
    raise ClipError(
      f"{where}: the last number, 1, may be a coordinate or a track's id; give extra=0 or extra=2"
    )
  return 0
