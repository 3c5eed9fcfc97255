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
import sys
from collections.abc import Iterator

import numpy as np

from zsar_jax.data.masks.frames import Counting, drawn, numbered_files, numbers_of_folders
from zsar_jax.data.masks.lookup import Owners, find, folder_of_masks, names, region_names
from zsar_jax.data.masks.shapes import draw_checked_box, draw_polygon
from zsar_jax.data.masks.source import Remarks
from zsar_jax.data.records import ClipError
from zsar_jax.data.regions import OBJECT_BOX, PERSON, PERSON_BOX
from zsar_jax.data.sources.listing import ListedClip
from zsar_jax.data.video import VideoFacts
from zsar_jax.errors import UserError

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
  ):
    """Looks for folders of clips and for clips whose files lie side by side.

    Args:
      path: the folder of `{clip}/{frame}.txt` or `{last part of clip}_{frame}.txt`.
      values: the region's bit of each class, and of '*' for all others.
      first: the number of the first frame; None for 0 if a folder of a clip has that, and for 1,
        as ultralytics counts, where files lie side by side.
      score: lines of less confidence are left out.
      extra: how many numbers follow the coordinates; None to tell by their count.

    Raises:
      UserError: if the folder is missing, or folders of clips do not tell `first`.
    """
    self._root = folder_of_masks(path)
    self._lines = YoloLines(values or {'0': PERSON}, score, extra)
    found = _find_first(self._root) if first is None else first
    self._counting = Counting(found, first_given=first is not None)
    self._counting_side_by_side = Counting(1 if first is None else first, first_given=True)
    self._owners = Owners()
    self.region_names = region_names(self._lines.bits.values())
    self.parameters = {
      'format': 'yolo',
      'path': self._root,
      'values': self._lines.bits,
      'first': self._counting.first,
      'first_given': self._counting.first_given,
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
  folders = list(numbers_of_folders(root, _EXTENSIONS))
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

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`; a frame without a file is annotated, and shows nothing."""
    files = self._files()
    where = os.path.join(self.folder, f'{self.stem}_*.txt') if self.stem else self.folder
    places = self.counting.places(files, video, where, remarks)
    if files and not places:
      raise ClipError(
        f'{where}: files are numbered {min(files)} to {max(files)}, none of which is one of the '
        f"video's {video.num_frames} frames; number them as the frames are"
      )
    without = sum(frame not in places for frame in video.kept.tolist())
    if without:
      remarks['frames without a result'] = f'{without} of {len(video.kept)}'

    def draw(frame: int) -> np.ndarray:
      plane = np.zeros((video.height, video.width), np.uint8)
      if frame in places:
        self._draw(plane, files[places[frame]])
      return plane

    yield from drawn(video, {frame: frame for frame in video.kept.tolist()}, draw, remarks)

  def _files(self) -> dict[int, str]:
    """The clip's files by number. Where others' lie beside them, the folder is not listed again."""
    if self.stem is None:
      files = numbered_files(self.folder, _EXTENSIONS, number_needed=False)
      if not files and os.listdir(self.folder):
        raise ClipError(f'{self.folder} has no text file with a number; name them {{frame}}.txt')
      return files
    files = {}
    for digits in self.digits:
      path = os.path.join(self.folder, f'{self.stem}_{digits}.txt')
      other = files.setdefault(int(digits), path)
      if other != path:
        raise ClipError(f'{path} and {os.path.basename(other)} have the same number; remove one')
    return files

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
