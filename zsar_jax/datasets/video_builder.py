"""Builds a data set out of listed videos and the sources of their masks."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.masks.combine import CombinedMasks
from zsar_jax.datasets.masks.source import ClipMasks, MaskSource
from zsar_jax.datasets.sources.listing import ListedClip, Listing
from zsar_jax.datasets.video import DEFAULT_FPS, Storage, StoredVideo, read_video
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS


@dataclasses.dataclass(frozen=True)
class VideoTask:
  """A listed clip and all that it takes to encode it.

  Attributes:
    clip: the clip.
    masks: its masks, or None if nobody annotated it.
    remarks: what was noticed of its masks so far, by kind.
    storage: what is stored of it.
    folder_fps: frames per second, where it is a folder of frames.
  """

  clip: ListedClip
  masks: ClipMasks | None
  remarks: dict[str, str]
  storage: Storage
  folder_fps: float

  @property
  def id(self) -> str:
    """The clip's id."""
    return self.clip.id


def encode_task(task: VideoTask) -> records.EncodedClip:
  """Decodes the video, draws its planes and encodes both; raises `records.ClipError`."""
  clip = task.clip
  video = _read(task)
  facts, remarks = video.facts, {**video.remarks, **task.remarks}
  attributes = dict(clip.attributes)
  listed = attributes.pop('listed_frames', None)
  if listed and int(listed) != facts.num_frames:
    remarks['frames differ from the list'] = f'{facts.num_frames}, listed {listed}'
  planes = task.masks.planes(facts, remarks) if task.masks else None
  return records.encode_clip(
    clip.id,
    clip.label,
    video.jpegs,
    planes,
    (facts.height, facts.width),
    video.fps,
    attributes,
    remarks,
  )


def _read(task: VideoTask) -> StoredVideo:
  """The clip's video, or the first of its copies that can be read."""
  annotated = task.masks.annotated_frames if task.masks else None
  try:
    return read_video(task.clip.path, task.storage, task.folder_fps, annotated)
  except ClipError:
    for path in task.clip.copies:
      with contextlib.suppress(ClipError):
        video = read_video(path, task.storage, task.folder_fps, annotated)
        video.remarks['another copy was read'] = f'{path} for {task.clip.path}'
        return video
    raise


class VideoBuilder(ClipBuilder, skip_registration=True):
  """Builds any data set of videos; what sets one apart is its `Listing`."""

  name = 'video'  # Each instance has its own.
  VERSION = tfds.core.Version('1.0.0')
  encode = staticmethod(encode_task)

  def __init__(
    self,
    data_dir: str | os.PathLike[str],
    name: str,
    listing: Listing,
    storage: Storage,
    masks: Sequence[MaskSource] = (),
    boxes_from_shapes: bool = False,
    folder_fps: float = DEFAULT_FPS,
  ):
    """Sets what to build.

    Args:
      data_dir: the folder of data sets to build in.
      name: of the data set.
      listing: its clips.
      storage: what to store of each.
      masks: where its regions come from. A clip is annotated by those that know it, and a frame of
        it if all of these know it.
      boxes_from_shapes: whether the boxes are drawn around the shapes.
      folder_fps: frames per second of clips that are folders of frames.

    Raises:
      UserError: if there are boxes to draw and no shapes.
    """
    drawn = {region for source in masks for region in source.region_names}
    shapes = [region for region in REGION_BITS if region in drawn and not region.endswith('_box')]
    if boxes_from_shapes:
      if not shapes:
        raise UserError('--boxes-from-shapes needs shapes; give --masks as well')
      drawn |= {f'{region}_box' for region in shapes}
    self.name = name
    self.classes = listing.classes
    self.class_splits = listing.class_splits
    self.class_texts = listing.class_texts
    self.clip_splits = listing.clip_splits
    self.remarks = listing.remarks
    self.region_names = tuple(region for region in REGION_BITS if region in drawn)
    self._listing, self._storage, self._masks = listing, storage, tuple(masks)
    self._boxes_from_shapes, self._folder_fps = boxes_from_shapes, folder_fps
    lists = {
      split: [(clip.id, clip.label, clip.name, clip.attributes) for clip in clips]
      for split, clips in listing.splits.items()
    }
    first = next(iter(listing.splits.values()))[0]
    self.parameters = {
      **dataclasses.asdict(storage),
      'videos': first.path[: first.path.rindex(first.name)],
      'folder_fps': folder_fps,
      'masks': [source.parameters for source in masks],
      'boxes_from_shapes': boxes_from_shapes,
      'clips': {split: len(clips) for split, clips in lists.items()},
      'lists': hashlib.sha256(json.dumps(lists).encode()).hexdigest(),
    }
    super().__init__(data_dir)

  def tasks(self) -> dict[str, list[VideoTask]]:
    """One task for each listed clip, in the order of the lists.

    Raises:
      UserError: where a source has masks for none of the clips.
    """
    unmatched = dict(enumerate(self._masks))
    tasks = {}
    for split, clips in self._listing.splits.items():
      tasks[split] = []
      for clip in clips:
        found = [source.for_clip(clip) for source in self._masks]
        for number, masks in enumerate(found):
          if masks is not None:
            unmatched.pop(number, None)
        masks, remarks = self._combined(found)
        tasks[split].append(VideoTask(clip, masks, remarks, self._storage, self._folder_fps))
    for source in unmatched.values():
      known = source.parameters
      format_and_path = known.get('format'), known.get('path')
      about = ':'.join(format_and_path) if all(format_and_path) else ', '.join(known['boxes'])
      raise UserError(
        f'--masks: none of the clips has masks in {about}; what lies there must be named as the'
        f' videos are, such as {clip.name!r}'
      )
    return tasks

  def _combined(
    self, found: Sequence[ClipMasks | None]
  ) -> tuple[CombinedMasks | None, dict[str, str]]:
    """What all sources know of a clip, and what is to be remarked of that.

    Args:
      found: the clip's masks of each source.
    """
    known = [source for source, masks in zip(self._masks, found, strict=True) if masks is not None]
    parts = tuple(masks for masks in found if masks is not None)
    if not parts:
      return None, {'no masks': 'not annotated'} if found else {}
    regions = {region for source in known for region in source.region_names}
    if self._boxes_from_shapes:
      regions |= {f'{region}_box' for region in regions & {'person', 'object'}}
    unknown = tuple(region for region in self.region_names if region not in regions)
    remarks = {}
    if len(parts) < len(found):
      of_sources = ' and '.join(map(_source_name, known))
      remarks[f'masks of {of_sources} alone'] = (
        f'{", ".join(unknown)} unknown' if unknown else 'all regions known'
      )
    return CombinedMasks(parts, self._boxes_from_shapes, unknown), remarks


def _source_name(source: MaskSource) -> str:
  """A source as it was given."""
  if 'boxes' in source.parameters:
    return '--boxes'
  return f'{source.parameters["format"]}:{source.parameters["path"]}'
