"""The clips to make masks of: listed from a folder of videos, grouped, and divided into shards."""

import collections
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.boxes import BoxSource, ClipBoxes
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError
from zsar_jax.mask_making.maker import MakerClip, StoredFrames

_Item = TypeVar('_Item')

# Bytes of the name of a video, so that the names of its files of masks fit into 255.
_MAX_NAME = 230


@dataclasses.dataclass(frozen=True)
class ClipWork:
  """A clip to make masks of. It pickles.

  Attributes:
    name: the path of the video below the folder, without its extension.
    path: the video.
    boxes: its boxes, if the maker takes boxes.
    phrases: see `MakerClip`.
  """

  name: str
  path: str
  boxes: ClipBoxes | None = None
  phrases: dict[str, str] | None = None


def list_videos(folder: str) -> list[ListedClip]:
  """Lists the videos below a folder, in the order of their names.

  Raises:
    UserError: there is none, the folder cannot be read, or a name is too long.
  """
  index = VideoIndex(folder)
  paths = sorted(index)
  if not paths:
    raise UserError(f'--videos: {folder} holds no video; give the folder of the videos')
  stems = collections.Counter(os.path.splitext(path)[0].rpartition('/')[2] for path in paths)
  clips = []
  for path in paths:
    stem = os.path.splitext(path)[0].rpartition('/')[2]
    if len(os.fsencode(stem)) > _MAX_NAME:
      raise UserError(
        f'--videos: the name {stem[:40]}... in {folder} has {len(os.fsencode(stem))} bytes; rename'
        f' it to at most {_MAX_NAME}'
      )
    # Files of boxes name a clip of Something-Something by its number alone.
    clip_id = stem if stems[stem] == 1 else path
    clips.append(index.listed_clip(clip_id, 0, [path], path, with_extension=index.has_double(path)))
  return clips


def with_boxes(clips: Sequence[ListedClip], source: BoxSource) -> list[ClipWork]:
  """Returns the work on those clips that have boxes; prints how many have none.

  Raises:
    UserError: no clip has boxes.
  """
  works = []
  for clip in clips:
    boxes = source.for_clip(clip)
    if boxes is not None:
      works.append(ClipWork(clip.name, clip.path, boxes))
  if not works:
    raise UserError(
      f'--boxes: none of the {len(clips)} videos has boxes; their names must be those of the'
      f' videos, such as {clips[0].name!r}'
    )
  if len(works) < len(clips):
    print(
      f'{len(clips) - len(works)} of {len(clips)} videos have no boxes and are left out',
      file=sys.stderr,
    )
  return works


def group_works(
  works: Sequence[ClipWork], batch_frames: int, storage: Storage
) -> list[tuple[ClipWork, ...]]:
  """Groups clips that fill a batch together.

  The groups depend only on the list, so that a maker gets the same clips together in any process,
  and in a run that continues another one.

  Args:
    works: the clips.
    batch_frames: see `maker.MakerSpec`.
    storage: which frames are kept. Only for 'segments:N' is their number known beforehand;
      otherwise each clip is a group.
  """
  rule, _, number = storage.keep.partition(':')
  size = max(1, batch_frames // int(number)) if rule == 'segments' else 1
  return [tuple(works[start : start + size]) for start in range(0, len(works), size)]


def select_shard(groups: Sequence[_Item], shard: tuple[int, int]) -> list[_Item]:
  """Returns every n-th of the groups from the i-th on, for a shard (i, n) counted from 0."""
  index, count = shard
  return list(groups[index::count])


def load_clip(work: ClipWork, storage: Storage) -> MakerClip:
  """Reads the frames of a clip as a data set stores them, and its boxes.

  Raises:
    records.ClipError: the video or its boxes cannot be read.
  """
  annotated = work.boxes.annotated_frames if work.boxes else None
  video = read_video(work.path, storage, annotated=annotated)
  boxes, remarks = None, dict(video.remarks)
  if work.boxes:
    boxes = tuple(
      None if frame is None else tuple(frame) for frame in work.boxes.boxes(video.facts, remarks)
    )
    if all(frame is None for frame in boxes):
      raise ClipError(f'{work.path}: no kept frame has boxes')
  return MakerClip(
    work.name, StoredFrames(video.jpegs), video.facts, video.fps, boxes, work.phrases, remarks
  )
