"""Reads Something-Else: boxes of hands and objects in the frames of Something-Something v2.

The format (github.com/joaanna/something_else) is a JSON object from video id to a list of frames:

    {"name": "2/0001.jpg", "labels": [{"standard_category": "hand" or "0000", ...,
     "box2d": {"x1": 0, "y1": 0, "x2": 0, "y2": 0}}], ...}

The number in a frame's name, counted from 1, identifies the frame; its position in the list says
nothing, and a list may be shorter than the video. A frame that is not listed is not annotated. A
frame that is listed without labels is annotated and shows neither a hand nor an object.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.datasets.masks.frame_masks import BoxDrawer, FrameBoxes
from zsar_jax.datasets.masks.frame_matching import FrameNumbering
from zsar_jax.datasets.masks.region_labels import enclosed_region
from zsar_jax.datasets.masks.skipped_shapes import EmptyShape
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError, error_reason
from zsar_jax.recipes.regions import BOX_SHIFT, OBJECT_BOX, PERSON_BOX, REGION_BITS, draw_box
from zsar_jax.storage.folders import open_folders
from zsar_jax.storage.paths import as_path

# Boxes are in pixels of the annotated frames, which all have this height. Their width is not
# stated anywhere; both axes have the same scale.
_ANNOTATED_HEIGHT = 240

_SPACE = re.compile(r'[ \t\n\r]*')
_CORNERS = ('x1', 'y1', 'x2', 'y2')


@dataclasses.dataclass(frozen=True, eq=False)
class VideoBoxes(FrameBoxes):
  """The boxes of one video.

  Hundreds of thousands of these are in memory at once, each of a few kilobytes.

  Attributes:
    frames: i32[K], the annotated frames, counted from 0.
    box_frames: i32[M], the frame of each box.
    box_bits: u8[M], the bit of each box's region.
    corners: f32[M, 4], x1, y1, x2, y2 of each box in pixels of a frame 240 pixels high.
  """

  frames: np.ndarray
  box_frames: np.ndarray
  box_bits: np.ndarray
  corners: np.ndarray

  def open(self) -> AbstractContextManager['VideoBoxes']:
    """Returns a context manager that gives the boxes."""
    return nullcontext(self)

  def match(
    self,
    content: 'VideoBoxes',
    num_frames: int,
    frame_numbers: np.ndarray | None,
    remarks: Remarks,
  ) -> dict[int, int]:
    """Returns {frame: its number, counted from 1}."""
    numbers = set((content.frames + 1).tolist())
    numbering = FrameNumbering(1, first_given=True, options=())
    return numbering.match(numbers, num_frames, frame_numbers, '--boxes', remarks)

  def drawer(self, content: 'VideoBoxes', video: VideoFacts, remarks: Remarks) -> BoxDrawer:
    """See `FrameMasks`."""
    return _Drawer(content, video, remarks)


class _Drawer(BoxDrawer):
  """Draws the boxes of frames."""

  def __init__(self, boxes: VideoBoxes, video: VideoFacts, remarks: Remarks):
    super().__init__(video, remarks)
    self._boxes = boxes
    # The annotated frames were as wide as the video is when scaled to their height.
    annotated_width = video.source_width * _ANNOTATED_HEIGHT / video.source_height
    scale = np.array([video.width / annotated_width, video.height / _ANNOTATED_HEIGHT])
    self._corners = boxes.corners * np.tile(scale, 2).astype(np.float32)

  def draw(self, mask: int) -> np.ndarray:
    """Draws the boxes of a frame number."""
    plane = self.empty_plane()
    for box in self.boxes(mask):
      bit = REGION_BITS[box.region] << BOX_SHIFT
      draw_box(plane, bit, box.x1, box.y1, box.x2, box.y2)
    return plane

  def boxes(self, mask: int) -> list[RegionBox]:
    """Returns the boxes of a frame number."""
    boxes = []
    for box in np.flatnonzero(self._boxes.box_frames == mask - 1):
      x1, y1, x2, y2 = self._corners[box].tolist()
      bit = int(self._boxes.box_bits[box])
      if x1 < x2 and y1 < y2 and np.isfinite(self._corners[box]).all():
        boxes.append(RegionBox(enclosed_region(bit), x1, y1, x2, y2))
        self.skipped.count_drawn(bit)
      else:
        corners = self._boxes.corners[box].tolist()
        error = EmptyShape(f'--boxes: frame {mask} has a box {corners} without a size')
        self.skipped.skip(bit, error)
    return boxes


class SomethingElseBoxes:
  """A `source.MaskSource` of boxes, which reads all files when it is created."""

  region_names = ('person_box', 'object_box')

  def __init__(self, paths: Sequence[str | os.PathLike[str]], clip_ids: Container[str]):
    """Reads the files.

    Args:
      paths: the files; the boxes are published in parts.
      clip_ids: the clips whose boxes are kept.

    Raises:
      UserError: A file cannot be read, or no clip has boxes.
    """
    self.parameters: dict[str, object] = {
      'boxes': sorted(open_folders(path, '--boxes').root for path in paths)
    }
    self._boxes = dict(pair for path in paths for pair in read_boxes(path, clip_ids))
    if not self._boxes:
      raise UserError(f'--boxes: {paths[0]} has no box for any listed clip; check the file')

  def for_clip(self, clip: ListedClip) -> VideoBoxes | None:
    """Returns the boxes of the clip with this id, or None if it has none."""
    return self._boxes.get(clip.id)


def read_boxes(
  path: str | os.PathLike[str], video_ids: Container[str]
) -> Iterator[tuple[str, VideoBoxes]]:
  """Reads a file of boxes.

  Args:
    path: the JSON file, of any size: Python objects exist for one video at a time.
    video_ids: the videos to read; others are skipped.

  Yields:
    A video's id and its boxes.

  Raises:
    UserError: The file is missing or is not JSON, or a field is missing or has a wrong type.
  """
  for video_id, frames in _members(as_path(path, '--boxes')):
    if video_id in video_ids:
      yield video_id, _parse_video(frames, video_id, f'{path}: video {video_id}')


def _parse_video(frames: Any, video_id: str, where: str) -> VideoBoxes:
  numbers, box_frames, bits, corners = [], [], [], []
  for frame in _expect(frames, list, where):
    name = _field(_expect(frame, dict, f'{where}: a frame'), 'name', str, where)
    match = re.fullmatch(rf'{re.escape(video_id)}/(\d+)\.\w+', name)
    if not match or not int(match[1]):
      raise UserError(f'{where}: frame name {name!r} is not like {video_id}/0001.jpg')
    number = int(match[1]) - 1
    numbers.append(number)
    where_frame = f'{where}, frame {name}'
    for label in _field(frame, 'labels', list, where_frame):
      _expect(label, dict, f'{where_frame}: a label')
      category = _field(label, 'standard_category', str, where_frame)
      box = _field(label, 'box2d', dict, where_frame)
      box_frames.append(number)
      bits.append(PERSON_BOX if category == 'hand' else OBJECT_BOX)
      corners.append([_number(box, corner, f'{where_frame}: box2d') for corner in _CORNERS])
  return VideoBoxes(
    frames=np.array(numbers, np.int32),
    box_frames=np.array(box_frames, np.int32),
    box_bits=np.array(bits, np.uint8),
    corners=np.array(corners, np.float32).reshape(-1, len(_CORNERS)),
  )


def _expect(value: Any, kind: type, where: str) -> Any:
  if not isinstance(value, kind):
    names: dict[type, str] = {list: 'a list', dict: 'an object', str: 'a string'}
    raise UserError(f'{where} must be {names[kind]}, not {type(value).__name__}')
  return value


def _field(values: dict[str, Any], field: str, kind: type, where: str) -> Any:
  if field not in values:
    raise UserError(f'{where}: field {field!r} is missing')
  return _expect(values[field], kind, f'{where}: field {field!r}')


def _number(values: dict[str, Any], field: str, where: str) -> float:
  value = values.get(field)
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise UserError(f'{where}: field {field!r} must be a number, not {value!r}')
  return value


def _members(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
  """Yields the members of the object in a JSON file, which are decoded one at a time."""
  try:
    text = path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'--boxes: {path} cannot be read ({error_reason(error)}); give a file of boxes'
    ) from None
  decoder = json.JSONDecoder()

  def after(token: str, position: int) -> int:
    """Returns the position after `token` and the white space around it."""
    position = _skip_space(text, position)
    if not text.startswith(token, position):
      raise json.JSONDecodeError(f'expected {token!r}', text, position)
    return _skip_space(text, position + len(token))

  try:
    position = after('{', 0)
    closing = text.startswith('}', position)
    while not closing:
      key, position = decoder.raw_decode(text, position)
      if not isinstance(key, str):
        raise json.JSONDecodeError('expected a video id', text, position)
      value, position = decoder.raw_decode(text, after(':', position))
      yield key, value
      position = _skip_space(text, position)
      closing = text.startswith('}', position)
      if not closing:
        position = after(',', position)
    if after('}', position) != len(text):
      raise json.JSONDecodeError('expected the end', text, position + 1)
  except json.JSONDecodeError as error:
    raise UserError(
      f'--boxes: {path} is not a JSON object of videos: {error}; copy it again'
    ) from None


def _skip_space(text: str, position: int) -> int:
  """Returns the position after the white space at `position`, if there is any."""
  match = _SPACE.match(text, position)
  assert match is not None  # It matches an empty string too.
  return match.end()
