"""Builds a data set from listed videos and the sources of their masks."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets import mask_gates, mask_provenance
from zsar_jax.datasets.borrowing import name_originals
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.masks.combine import CombinedMasks
from zsar_jax.datasets.masks.made import MadeSource
from zsar_jax.datasets.masks.source import ClipMasks, MaskSource
from zsar_jax.datasets.sources.listing import ListedClip, Listing
from zsar_jax.datasets.video import DEFAULT_FPS, Storage, StoredVideo
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS


@dataclasses.dataclass(frozen=True)
class VideoTask:
  """A listed clip and everything that is needed to encode it.

  Attributes:
    clip: the clip.
    masks: its masks, or None if nobody annotated it.
    regions: the names in `regions.REGION_BITS` that clips of the data set are annotated with.
    remarks: the remarks on its masks so far, by kind.
    storage: which frames and pixels are stored.
    folder_fps: frames per second, if it is a folder of frames.
  """

  clip: ListedClip
  masks: CombinedMasks | None
  regions: tuple[str, ...]
  remarks: dict[str, str]
  storage: Storage
  folder_fps: float

  @property
  def id(self) -> str:
    """The clip's id."""
    return self.clip.id


def encode_task(task: VideoTask) -> records.EncodedClip:
  """Decodes the video, draws and measures its planes, and encodes both.

  Raises:
    records.ClipError: if the video or its masks cannot be read.
  """
  with task.masks.copied() if task.masks else contextlib.nullcontext() as masks:
    encoded = _encode(dataclasses.replace(task, masks=masks))
    remarks = {kind: name_originals(details) for kind, details in encoded.remarks.items()}
    return dataclasses.replace(encoded, remarks=remarks)


def _encode(task: VideoTask) -> records.EncodedClip:
  """`encode_task` for masks on this machine."""
  clip = task.clip
  video = _read_any_copy(task)
  facts, remarks = video.facts, {**video.remarks, **task.remarks}
  attributes = dict(clip.attributes)
  listed = attributes.pop('listed_frames', None)
  if listed and int(listed) != facts.num_frames:
    remarks['frames differ from the list'] = f'{facts.num_frames}, listed {listed}'
  meter = mask_gates.MaskMeter(task.regions)
  planes = inpainted = None
  if task.masks:
    planes = meter.watch(task.masks.planes(facts, remarks), task.masks.made_frames(facts))
    inpainted = task.masks.inpainted(facts, task.storage.jpeg_quality, remarks)
  encoded = records.encode_clip(
    clip.id,
    clip.label,
    video.jpegs,
    planes,
    (facts.height, facts.width),
    video.fps,
    attributes,
    remarks,
    inpainted,
  )
  return dataclasses.replace(encoded, failed_gates=mask_gates.failed_gates(meter.measures()))


def _read_any_copy(task: VideoTask) -> StoredVideo:
  """Returns the clip's video, or the first of its copies that can be read."""
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


class VideoBuilder(ClipBuilder, skip_registration=True):  # type: ignore[call-arg]  # As in builder.
  """Builds any data set of videos; its `Listing` determines which one."""

  name = 'video'  # Each instance sets its own.
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
    """Configures the data set.

    Args:
      data_dir: the folder of data sets to build in.
      name: the name of the data set.
      listing: its clips.
      storage: which frames and pixels of each video to store.
      masks: where its regions come from. A clip is annotated by the sources that have masks of it;
        a frame counts as annotated if all of these sources have annotated it.
      boxes_from_shapes: whether to draw boxes around the shapes.
      folder_fps: frames per second of clips that are folders of frames.

    Raises:
      UserError: if boxes are to be drawn and no source has shapes, or the inpainted frames of a
        source may show people of another one.
    """
    drawn = {region for source in masks for region in source.region_names}
    shapes = [region for region in REGION_BITS if region in drawn and not region.endswith('_box')]
    if boxes_from_shapes:
      if not shapes:
        raise UserError('--boxes-from-shapes needs shapes; give --masks as well')
      drawn |= {f'{region}_box' for region in shapes}
    _check_inpainted(masks)
    self.has_inpainted = any(map(_has_inpainted, masks))
    self.name = name
    self.classes = listing.classes
    self.class_splits = listing.class_splits
    self.class_texts = listing.class_texts
    self.clip_splits = listing.clip_splits
    self.remarks = listing.remarks
    self.region_names = tuple(region for region in REGION_BITS if region in drawn)
    self.mask_sources = [mask_provenance.summarize(source.parameters) for source in masks]
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
    """Returns one task for each listed clip, in the order of the lists.

    Raises:
      UserError: if a source has masks of none of the clips.
    """
    unmatched = dict(enumerate(self._masks))
    tasks: dict[str, list[VideoTask]] = {}
    for split, clips in self._listing.splits.items():
      tasks[split] = []
      for clip in clips:
        by_source = [source.for_clip(clip) for source in self._masks]
        for number, masks in enumerate(by_source):
          if masks is not None:
            unmatched.pop(number, None)
        masks, remarks = self._combine(by_source)
        tasks[split].append(
          VideoTask(clip, masks, self.region_names, remarks, self._storage, self._folder_fps)
        )
    for source in unmatched.values():
      mask_format, path = source.parameters.get('format'), source.parameters.get('path')
      boxes = source.parameters.get('boxes', ())
      location = f'{mask_format}:{path}' if mask_format and path else ', '.join(boxes)
      raise UserError(
        f'--masks: none of the clips has masks in {location}; the files there must be named as the'
        f' videos are, such as {clip.name!r}'
      )
    return tasks

  def _combine(
    self, by_source: Sequence[ClipMasks | None]
  ) -> tuple[CombinedMasks | None, dict[str, str]]:
    """Combines the masks of a clip; remarks if only some of the sources have any.

    Args:
      by_source: the clip's masks in each of the sources.
    """
    pairs = [
      (source, masks)
      for source, masks in zip(self._masks, by_source, strict=True)
      if masks is not None
    ]
    if not pairs:
      return None, {'no masks': 'not annotated'} if by_source else {}
    sources, parts = zip(*pairs, strict=True)
    regions = {region for source in sources for region in source.region_names}
    if self._boxes_from_shapes:
      regions |= {f'{region}_box' for region in regions & {'person', 'object'}}
    unknown = tuple(region for region in self.region_names if region not in regions)
    remarks = {}
    if len(parts) < len(by_source):
      names = ' and '.join(map(_source_name, sources))
      remarks[f'masks of {names} alone'] = (
        f'{", ".join(unknown)} unknown' if unknown else 'all regions known'
      )
    return CombinedMasks(parts, self._boxes_from_shapes, unknown), remarks


def _check_inpainted(masks: Sequence[MaskSource]) -> None:
  """Raises a `UserError` if inpainted frames may still show people whom another source masks."""
  inpainted = next(filter(_has_inpainted, masks), None)
  for source in masks:
    has_people = _has_inpainted(source) or 'person' in source.region_names
    if inpainted and source is not inpainted and has_people:
      raise UserError(
        f'--masks: {_source_name(inpainted)} has inpainted frames, which may still show people of'
        f' {_source_name(source)}; give one source of people alone, or masks without --inpaint'
      )


def _has_inpainted(source: MaskSource) -> bool:
  return isinstance(source, MadeSource) and source.has_inpainted


def _source_name(source: MaskSource) -> str:
  """Returns a source as it was given on the command line."""
  if 'boxes' in source.parameters:
    return '--boxes'
  return f'{source.parameters["format"]}:{source.parameters["path"]}'
