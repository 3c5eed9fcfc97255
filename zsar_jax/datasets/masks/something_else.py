"""Something-Else: hand and object boxes for the frames of Something-Something v2.

The format (github.com/joaanna/something_else) is a JSON object from video id to a list of frames:

    {"name": "2/0001.jpg", "labels": [{"standard_category": "hand" or "0000", ...,
     "box2d": {"x1": 0, "y1": 0, "x2": 0, "y2": 0}}], ...}

A frame is known by its name, counted from 1; the place in the list says nothing, and a list may
be shorter than the video. A frame that is not listed is unannotated. One that is listed with
no labels is annotated, and shows neither a hand nor an object.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Collection, Container, Iterator, Sequence
from typing import Any

import numpy as np

from zsar_jax.datasets.masks.frame_matching import Counting, drawn
from zsar_jax.datasets.masks.left_out import EmptyShape, LeftOut
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON_BOX, draw_box

# Boxes are in pixels of the frames that were annotated, which all have this height. Their
# width is not stated anywhere: both axes scale alike.
_ANNOTATED_HEIGHT = 240

_SPACE = re.compile(r'[ \t\n\r]*')
_CORNERS = ('x1', 'y1', 'x2', 'y2')


@dataclasses.dataclass(frozen=True, eq=False)
class VideoBoxes:
  """The boxes of one video, a `source.ClipMasks`.

  Hundreds of thousands of them are held at once, each of a few kilobytes.

  Attributes:
    frames: i32[K], the annotated frames, from 0.
    box_frames: i32[M], the frame of each box.
    box_bits: u8[M], its region's bit.
    corners: f32[M, 4], its x1, y1, x2, y2 in pixels of a frame that is 240 pixels high.
  """

  frames: np.ndarray
  box_frames: np.ndarray
  box_bits: np.ndarray
  corners: np.ndarray

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    return self._places(num_frames, own, {})

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    places = self._places(video.num_frames, video.numbers, remarks)
    # The annotated frames were as wide as the video is at their height.
    annotated_width = video.source_width * _ANNOTATED_HEIGHT / video.source_height
    scale = np.array([video.width / annotated_width, video.height / _ANNOTATED_HEIGHT])
    corners = self.corners * np.tile(scale, 2).astype(np.float32)
    left_out = LeftOut(remarks)

    def draw(number: int) -> np.ndarray:
      plane = np.zeros((video.height, video.width), np.uint8)
      for box in np.flatnonzero(self.box_frames == number - 1):
        x1, y1, x2, y2 = corners[box]
        bit = int(self.box_bits[box])
        if x1 < x2 and y1 < y2 and np.isfinite(corners[box]).all():
          draw_box(plane, bit, x1, y1, x2, y2)
          left_out.count(bit)
        else:
          about = f'--boxes: frame {number} has a box {self.corners[box].tolist()} without a size'
          left_out.add(bit, EmptyShape(about))
      return plane

    yield from drawn(video, places, draw, remarks, left_out.check)

  def _places(self, num_frames: int, own: np.ndarray | None, remarks: Remarks) -> dict[int, int]:
    numbers = set((self.frames + 1).tolist())
    counting = Counting(1, first_given=True, options=())
    return counting.places(numbers, num_frames, own, '--boxes', remarks)


class SomethingElseBoxes:
  """A `source.MaskSource` of the boxes in some files, all of them read at once."""

  region_names = ('person_box', 'object_box')

  def __init__(self, paths: Sequence[str | os.PathLike[str]], clip_ids: Container[str]):
    """Reads the files.

    Args:
      paths: of the files, which are published in parts.
      clip_ids: the clips whose boxes are kept.

    Raises:
      UserError: if a file cannot be read, or no clip has boxes.
    """
    self.parameters = {'boxes': sorted(os.path.abspath(path) for path in paths)}
    self._boxes = dict(pair for path in paths for pair in read_boxes(path, clip_ids))
    if not self._boxes:
      raise UserError(f'--boxes: {paths[0]} has no box for any listed clip; check the file')

  def for_clip(self, clip: ListedClip) -> VideoBoxes | None:
    """The boxes of the clip of that id, or None where it has none."""
    return self._boxes.get(clip.id)


def read_boxes(
  path: str | os.PathLike[str], video_ids: Container[str]
) -> Iterator[tuple[str, VideoBoxes]]:
  """Reads a file of boxes.

  Args:
    path: the JSON file, of any size: one video at a time is held as Python objects.
    video_ids: the videos to read; the others are skipped.

  Yields:
    A video's id and its boxes.

  Raises:
    UserError: if the file is missing, is not JSON, or a field is missing or of a wrong type.
  """
  for video_id, frames in _members(pathlib.Path(path)):
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
    names = {list: 'a list', dict: 'an object', str: 'a string'}
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
  """The members of the object in a JSON file, decoded one by one."""
  try:
    text = path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path} cannot be read ({error}); give a file of boxes') from None
  decoder = json.JSONDecoder()

  def after(token: str, position: int) -> int:
    """The place after `token` and the space around it."""
    position = _SPACE.match(text, position).end()
    if not text.startswith(token, position):
      raise json.JSONDecodeError(f'expected {token!r}', text, position)
    return _SPACE.match(text, position + len(token)).end()

  try:
    position = after('{', 0)
    closing = text.startswith('}', position)
    while not closing:
      key, position = decoder.raw_decode(text, position)
      if not isinstance(key, str):
        raise json.JSONDecodeError('expected a video id', text, position)
      value, position = decoder.raw_decode(text, after(':', position))
      yield key, value
      position = _SPACE.match(text, position).end()
      closing = text.startswith('}', position)
      if not closing:
        position = after(',', position)
    if after('}', position) != len(text):
      raise json.JSONDecodeError('expected the end', text, position + 1)
  except json.JSONDecodeError as error:
    raise UserError(f'{path} is not a JSON object of videos: {error}; copy it again') from None
