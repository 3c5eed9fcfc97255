"""Reads YOLO's text files: polygons or boxes, one file for each frame.

ultralytics writes `{clip}_{frame}.txt` for a video, with frames counted from 1, the files of all
clips in one folder, and no file for a frame without a detection. With vid_stride=K it detects in
the last of every K frames and counts only those (`LoadImagesAndVideos` in
ultralytics/data/loaders.py). `yolo_lines` describes the lines.
"""

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.datasets.masks.frame_masks import BoxDrawer, FrameBoxes
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, FrameNumbering, Stride
from zsar_jax.datasets.masks.numbered_files import numbered_files, sampled_numbers
from zsar_jax.datasets.masks.per_clip import (
  MaskOwners,
  candidate_names,
  find_path,
  require_folder,
)
from zsar_jax.datasets.masks.region_labels import box_bits, enclosed_region, region_names
from zsar_jax.datasets.masks.remote import RemoteMasks, masks_at
from zsar_jax.datasets.masks.shapes import check_box, draw_polygon
from zsar_jax.datasets.masks.skipped_shapes import EmptyShape
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.masks.yolo_lines import LineFormat, parse_line
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON, PERSON_BOX, draw_box
from zsar_jax.storage.folders import Folders

_EXTENSIONS = ('.txt',)

_FLAT_NAME = re.compile(r'(.+)_([0-9]+)\.txt')


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
    """Opens a folder that has folders of clips, or the files of all clips side by side.

    Args:
      path: the folder of `{clip}/{frame}.txt` or `{last part of clip}_{frame}.txt`.
      values: the region's bit of each class, and of '*' for all others; class 0 is people by
        default.
      first: the number of the first frame; None infers it for folders of clips, and stands for 1,
        as ultralytics counts, for files side by side.
      score: lines with a lower confidence are left out.
      extra: how many numbers follow the coordinates; None infers it from their count.
      spread: whether the files are spread evenly over the video.
      stride: in which frames the detector ran; by default it begins with the last frame of the
        first stride, as ultralytics does.

    Raises:
      UserError: The folder is missing, or `first` cannot be inferred.
    """
    self._folders = require_folder(path)
    self._root = self._folders.root
    self._line_format = LineFormat(values or {'0': PERSON}, score, extra)
    step, start = stride
    numbering = FrameNumbering(
      1 if first is None else first,
      spread=spread,
      first_given=first is not None,
      stride=step,
      start=step - 1 if start is None else start,
    )
    self._numbering = numbering
    if first is None and not spread:
      self._numbering = dataclasses.replace(numbering, first=_infer_first_number(self._folders))
    self._flat_numbering = dataclasses.replace(numbering, first_given=True)
    self._owners = MaskOwners()
    self.region_names = region_names(self._line_format.bits.values())
    self.parameters = {
      'format': 'yolo',
      'path': self._root,
      'values': self._line_format.bits,
      **self._numbering.parameters,
      'first_side_by_side': self._flat_numbering.first,
      'score': score,
      'extra': extra,
    }

  def for_clip(self, clip: ListedClip) -> 'YoloMasks | RemoteMasks | None':
    """Returns the masks of a clip, or None if it has neither a folder nor a file.

    Raises:
      UserError: The masks may belong to another clip.
    """
    folder = find_path(self._folders, clip, ())
    if folder is not None:
      self._owners.claim(folder, clip)
      return masks_at(folder, self._open(None, (), self._numbering))
    for name in candidate_names(clip):
      stem = name.rpartition('/')[2]
      if stem in self._flat_files:
        self._owners.claim(f'{self._root}/{stem}_*.txt', clip)
        digits = tuple(self._flat_files[stem])
        names = tuple(f'{stem}_{number}.txt' for number in digits)
        return masks_at(self._root, self._open(stem, digits, self._flat_numbering), names)
    return None

  def _open(
    self, stem: str | None, digits: tuple[str, ...], numbering: FrameNumbering
  ) -> Callable[[str], 'YoloMasks']:
    """Returns what creates the masks of a clip from their folder; see `YoloMasks`."""
    return functools.partial(
      YoloMasks, stem=stem, digits=digits, line_format=self._line_format, numbering=numbering
    )

  @functools.cached_property
  def _flat_files(self) -> dict[str, list[str]]:
    """{stem: numbers in digits}, for the files `{stem}_{number}.txt` side by side.

    The folder is listed once, and only if a clip has no folder.
    """
    numbers: dict[str, list[str]] = {}
    for name, _ in self._folders.entries(self._root):
      if match := _FLAT_NAME.fullmatch(name):
        # Millions of files have the same few numbers.
        numbers.setdefault(match[1], []).append(sys.intern(match[2]))
    return numbers


def _infer_first_number(folders: Folders) -> int:
  """Infers from which number the folders of clips count; 1 if there are no folders.

  That no file is numbered 0 says nothing: the detector may have found nothing in that frame.
  """
  samples = list(sampled_numbers(folders, _EXTENSIONS, []))
  if any(0 in numbers for numbers in samples):
    return 0
  if samples:
    raise UserError(
      f'--masks: no file numbered 0 was found in the first folders of {folders.root}, but frames '
      'without a detection may have no file; add first=0 or first=1, the number of the first frame'
    )
  return 1


@dataclasses.dataclass(frozen=True)
class YoloMasks(FrameBoxes):
  """The text files of a clip.

  Attributes:
    folder: the folder of the files.
    stem: the text before '_' in their names, if the folder also has files of other clips.
    digits: the numbers in their names as written, if there is a stem.
    line_format: how their lines are read.
    numbering: how they are numbered.
  """

  folder: str
  stem: str | None
  digits: tuple[str, ...]
  line_format: LineFormat
  numbering: FrameNumbering

  def open(self) -> AbstractContextManager[dict[int, str]]:
    """Returns a context manager that gives {number: file}."""
    return nullcontext(self._files_in_folder() if self.stem is None else self._flat_files())

  def match(
    self,
    content: dict[int, str],
    num_frames: int,
    frame_numbers: np.ndarray | None,
    remarks: Remarks,
  ) -> dict[int, int | None]:
    """Returns {frame: number of its file}, with None for frames without a detection."""
    where = os.path.join(self.folder, f'{self.stem}_*.txt') if self.stem else self.folder
    if self.numbering.spread and min(content, default=0) > 1:
      raise ClipError(
        f'{where}: the first file is numbered {min(content)}, so it is unknown how the frames are '
        'spread; write an empty file for each frame without a detection, or give stride=, the '
        'number of frames from one file to the next'
      )
    matches = self.numbering.match(content, num_frames, frame_numbers, where, remarks)
    if content and not matches:
      raise ClipError(
        f'{where}: files are numbered {min(content)} to {max(content)}, none of which is one of '
        f"the video's {num_frames} frames; give the files the numbers of the frames"
      )
    searched = self.numbering.searched_frames(num_frames, matches)
    return {frame: matches.get(frame) for frame in searched}

  def drawer(self, content: dict[int, str], video: VideoFacts, remarks: Remarks) -> BoxDrawer:
    """See `FrameMasks`."""
    return _YoloDrawer(self.line_format, content, video, remarks)

  def _files_in_folder(self) -> dict[int, str]:
    """Lists a folder with files of this clip alone."""
    files = numbered_files(self.folder, _EXTENSIONS, number_required=False)
    if not files and any(not name.startswith('.') for name in os.listdir(self.folder)):
      raise ClipError(f'{self.folder} has no text file with a number; name them {{frame}}.txt')
    return files

  def _flat_files(self) -> dict[int, str]:
    """Returns the clip's files among those of other clips, without listing the folder again."""
    files: dict[int, str] = {}
    for digits in self.digits:
      path = os.path.join(self.folder, f'{self.stem}_{digits}.txt')
      other = files.setdefault(int(digits), path)
      if other != path:
        raise ClipError(f'{path} and {os.path.basename(other)} have the same number; remove one')
    return files


class _YoloDrawer(BoxDrawer):
  """Draws text files."""

  def __init__(
    self, line_format: LineFormat, files: dict[int, str], video: VideoFacts, remarks: Remarks
  ):
    super().__init__(video, remarks)
    self._line_format, self._files = line_format, files

  def draw(self, mask: int | None) -> np.ndarray:
    """Draws the file of a number."""
    plane = self.empty_plane()
    self._draw_file(mask, plane, self._line_format)
    return plane

  def boxes(self, mask: int | None) -> list[RegionBox]:
    """Returns the boxes in the file of a number, and those around its polygons."""
    line_format = dataclasses.replace(self._line_format, bits=box_bits(self._line_format.bits))
    return self._draw_file(mask, self.empty_plane(), line_format)

  def _draw_file(
    self, mask: int | None, plane: np.ndarray, line_format: LineFormat
  ) -> list[RegionBox]:
    """Draws the file of a number; returns the boxes that were drawn."""
    if mask is None:
      return []
    path = self._files[mask]
    try:
      with open(path, encoding='ascii') as file:
        lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
      raise ClipError(f'{path} cannot be read as text ({error}); make it again') from None
    boxes: list[RegionBox] = []
    for number, line in enumerate(lines, 1):
      if line.strip():
        boxes += self._draw_line(plane, line, line_format, f'{path}, line {number}')
    return boxes

  def _draw_line(
    self, plane: np.ndarray, line: str, line_format: LineFormat, where: str
  ) -> list[RegionBox]:
    boxes: list[RegionBox] = []
    size = np.array([plane.shape[1], plane.shape[0]], float)
    category = line.split()[0]
    try:
      bit, points, confidence = parse_line(line, line_format, where)
      if bit in (PERSON_BOX, OBJECT_BOX):
        corners = np.stack([points.min(axis=0), points.max(axis=0)])
        edges = check_box(corners * size, plane.shape, where)
        draw_box(plane, bit, *edges)
        boxes.append(RegionBox(enclosed_region(bit), *edges, score=confidence))
      elif bit:
        draw_polygon(plane, bit, points * size, where)
      if bit:
        self.skipped.count_drawn(category)
    except EmptyShape as error:
      self.skipped.skip(category, error)
    return boxes
