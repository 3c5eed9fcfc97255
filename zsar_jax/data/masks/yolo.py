"""Text files of YOLO: polygons, or boxes, one file for each frame.

A line is `class x1 y1 x2 y2 ...` with the corners of a polygon, or `class x y w h` with the centre
and the size of a box, as shares of the frame's width and height. After that may come a confidence
and a track's id. ultralytics writes `{clip}_{frame}.txt` for a video, counted from 1, all clips
in one folder, and no file for a frame with nothing in it.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator

import numpy as np

from zsar_jax.data.masks.frames import Counting, drawn, find_first, numbered_files
from zsar_jax.data.masks.lookup import find, folder_of_masks, names, region_names
from zsar_jax.data.masks.shapes import draw_checked_box, draw_polygon
from zsar_jax.data.masks.source import Remarks
from zsar_jax.data.records import ClipError
from zsar_jax.data.regions import OBJECT_BOX, PERSON, PERSON_BOX
from zsar_jax.data.sources.listing import ListedClip
from zsar_jax.data.video import VideoFacts
from zsar_jax.errors import UserError

_EXTENSIONS = ('.txt',)

_FLAT_NAME = re.compile(r'(.+)_[0-9]+\.txt')

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
  ):
    """Looks for folders of clips and for clips whose files lie side by side.

    Args:
      path: the folder of `{clip}/{frame}.txt` or `{last part of clip}_{frame}.txt`.
      values: the region's bit of each class, and of '*' for all others.
      first: the number of the first frame; None for what the files tell, or else 1.
      score: lines of less confidence are left out.
      extra: how many numbers follow the coordinates; None to tell by their count.

    Raises:
      UserError: if the folder is missing.
    """
    self._root = folder_of_masks(path)
    self._lines = YoloLines(values or {'0': PERSON}, score, extra)
    found = find_first(self._root, _EXTENSIONS) if first is None else first
    self._counting = Counting(1 if found is None else found)
    self._counting_side_by_side = Counting(1 if first is None else first)
    self._clip_of_stem = {}
    self.region_names = region_names(self._lines.bits.values())
    self.parameters = {
      'format': 'yolo',
      'path': os.path.basename(self._root),
      'values': self._lines.bits,
      'first': self._counting.first,
      'first_side_by_side': self._counting_side_by_side.first,
      'score': score,
      'extra': extra,
    }

  def for_clip(self, clip: ListedClip) -> 'YoloMasks | None':
    """The masks of a clip, or None where it has neither a folder nor a single file."""
    folder = find(self._root, clip, ())
    if folder is not None:
      return YoloMasks(folder, None, self._lines, self._counting)
    for name in names(clip):
      stem = name.rpartition('/')[2]
      if stem in self._stems:
        other = self._clip_of_stem.setdefault(stem, clip.name)
        if other != clip.name:
          raise UserError(
            f'--masks: {self._root}/{stem}_*.txt may be of {other} or of {clip.name}; move them to '
            "a folder of the clip's name"
          )
        return YoloMasks(self._root, stem, self._lines, self._counting_side_by_side)
    return None

  @functools.cached_property
  def _stems(self) -> frozenset[str]:
    """The clips whose files lie side by side: the folder is listed once, if it is at all."""
    with os.scandir(self._root) as entries:
      matches = (_FLAT_NAME.fullmatch(entry.name) for entry in entries)
      return frozenset(match[1] for match in matches if match)


@dataclasses.dataclass(frozen=True)
class YoloMasks:
  """A clip's text files.

  Attributes:
    folder: of the files.
    stem: what their names begin with, before '_', where other clips' files lie there, too.
    lines: how they are read.
    counting: how they are numbered.
  """

  folder: str
  stem: str | None
  lines: YoloLines
  counting: Counting

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`; a frame without a file is annotated, and shows nothing."""
    files = self._files(video)
    where = os.path.join(self.folder, self.stem or '')
    places = self.counting.places(files, video, where, remarks)
    without = sum(frame not in places for frame in video.kept.tolist())
    if without:
      remarks['frames without a result'] = f'{without} of {len(video.kept)}'

    def draw(frame: int) -> np.ndarray:
      plane = np.zeros((video.height, video.width), np.uint8)
      if frame in places:
        self._draw(plane, files[places[frame]])
      return plane

    yield from drawn(video, {frame: frame for frame in video.kept.tolist()}, draw, remarks)

  def _files(self, video: VideoFacts) -> dict[int, str]:
    """The clip's files by number. Where others' lie beside them, the folder is not listed."""
    if self.stem is None:
      return numbered_files(self.folder, _EXTENSIONS, number_needed=False)
    # Number 0 and the one after the last show how frames are counted.
    numbers = {0, video.num_frames + self.counting.first}
    numbers.update(frame + self.counting.first for frame in video.kept.tolist())
    paths = {number: os.path.join(self.folder, f'{self.stem}_{number}.txt') for number in numbers}
    return {number: path for number, path in paths.items() if os.path.isfile(path)}

  def _draw(self, plane: np.ndarray, path: str) -> None:
    try:
      with open(path, encoding='ascii') as file:
        lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
      raise ClipError(f'{path} cannot be read as text ({error}); make it again') from None
    size = np.array([plane.shape[1], plane.shape[0]], float)
    for number, line in enumerate(lines, 1):
      if line.strip():
        where = f'{path}, line {number}'
        bit, points = parse_line(line, self.lines, where)
        if bit in (PERSON_BOX, OBJECT_BOX):
          corners = np.stack([points.min(axis=0), points.max(axis=0)])
          draw_checked_box(plane, bit, corners * size, where)
        elif bit:
          draw_polygon(plane, bit, points * size, where)


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
    ClipError: if the line is neither, or a box is to be a shape.
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
  coordinates = numbers[: len(numbers) - extra]
  if len(coordinates) < 4 or len(coordinates) % 2:
    raise ClipError(
      f'{where}: {len(numbers)} numbers after the class are neither a box nor a polygon'
      + (f', of which {extra} are no coordinates by extra={extra}' if extra else '')
      + '; give extra=0, 1 or 2, the count of numbers behind the coordinates'
    )
  points = np.array(coordinates).reshape(-1, 2)
  if not ((points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)).all():
    raise ClipError(
      f'{where}: coordinates must be from 0 to 1; pixels are not taken, and where a track id ends '
      'the line, save without it or give extra=2'
    )
  confidence = numbers[len(coordinates)] if extra else 1.0
  if not 0 <= confidence <= 1:
    raise ClipError(
      f'{where}: the confidence must be from 0 to 1, not {confidence:g}; where a track id ends the '
      'line, save it with a confidence or without it'
    )
  if confidence < lines.score:
    return 0, points
  if len(points) == 2:
    if bit not in (PERSON_BOX, OBJECT_BOX):
      raise ClipError(
        f'{where} is a box and not a polygon; give values={int(category)}:person_box or object_box'
      )
    centre, size = points
    points = np.stack([centre - size / 2, centre + size / 2])
  return bit, np.clip(points, 0, 1)


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
