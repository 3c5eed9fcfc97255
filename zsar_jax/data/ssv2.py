"""Something-Something v2, with the boxes of Something-Else where they are given.

The annotations are three JSON files: train and validation list the clips,

    {"id": "2", "template": "Pretending to pick [something] up", ...}

and labels is an object from each template without its brackets to its label, a string.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.data.builder import ClipBuilder
from zsar_jax.data.something_else import VideoBoxes, read_boxes
from zsar_jax.data.splits import base_to_novel
from zsar_jax.data.video import read_video
from zsar_jax.errors import UserError

_SPLITS = ('train', 'validation')

# The names under which the annotation files are found: as in the download's two packagings.
_FILE_NAMES = ('something-something-v2-{}.json', '{}.json', 'labels/{}.json')

# As it is published, and as many copies are converted.
_EXTENSIONS = ('.webm', '.mp4')


@dataclasses.dataclass(frozen=True)
class Ssv2Task:
  """One clip of Something-Something v2.

  Attributes:
    id: the video's.
    label: place in the vocabulary.
    videos: the folder of the videos.
    boxes: the video's boxes, or None if it has none.
    short_side: of the frames in pixels, or None to keep their size.
    jpeg_quality: 1 to 100.
  """

  id: str
  label: int
  videos: str
  boxes: VideoBoxes | None
  short_side: int | None
  jpeg_quality: int


def encode_task(task: Ssv2Task) -> dict[str, Any]:
  """The clip's record; raises `records.ClipError`."""
  paths = [pathlib.Path(task.videos, task.id + extension) for extension in _EXTENSIONS]
  path = next((path for path in paths if path.exists()), paths[0])
  frames, fps = read_video(path, task.short_side)
  regions, annotated = task.boxes.planes(*frames.shape[:3]) if task.boxes else (None, None)
  return records.encode_clip(
    task.id, task.label, frames, regions, annotated, fps, task.jpeg_quality
  )


class Ssv2(ClipBuilder, skip_registration=True):
  """Builds Something-Something v2."""

  name = 'ssv2'
  VERSION = tfds.core.Version('1.0.0')
  encode = staticmethod(encode_task)

  def __init__(
    self,
    data_dir: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    boxes: Sequence[str | os.PathLike[str]] = (),
    short_side: int | None = None,
    jpeg_quality: int = records.JPEG_QUALITY,
  ):
    """Reads the annotations, but not the boxes yet.

    Args:
      data_dir: the folder of data sets to build in.
      videos: the folder of {id}.webm.
      annotations: the folder of the three JSON files.
      boxes: the files of Something-Else boxes, which are published in parts.
      short_side: scale frames to this shorter side in pixels; None keeps their size, 240.
      jpeg_quality: 1 to 100.

    Raises:
      UserError: if an annotation is missing or wrong.
    """
    if not os.path.isdir(videos):
      raise UserError(f'--videos: {videos} is not a folder; give the folder of the {{id}}.webm')
    self._videos = os.path.abspath(videos)
    self._boxes = tuple(boxes)
    self._short_side = short_side
    self._jpeg_quality = jpeg_quality
    self.classes = _read_classes(_find(annotations, 'labels'))
    self._labels = {
      split: _read_labels(_find(annotations, split), self.classes) for split in _SPLITS
    }
    self.class_splits = base_to_novel(self.classes, list(self._labels['train'].values()))
    self.region_names = ('person_box', 'object_box') if boxes else ()
    self.parameters = {
      'jpeg_quality': jpeg_quality,
      'short_side': short_side,
      'boxes': sorted(os.path.basename(path) for path in boxes),
      'clips': {split: len(labels) for split, labels in self._labels.items()},
      'lists': hashlib.sha256(json.dumps(self._labels).encode()).hexdigest(),
    }
    super().__init__(data_dir)

  def tasks(self) -> dict[str, list[Ssv2Task]]:
    """One task for each video of the train and validation lists, in their order."""
    wanted = set().union(*self._labels.values())
    boxes = dict(pair for path in self._boxes for pair in read_boxes(path, wanted))
    if self._boxes and not boxes:
      raise UserError(f'--boxes: {self._boxes[0]} has no box for any listed clip; check the file')
    return {
      split: [
        Ssv2Task(
          clip_id,
          label,
          self._videos,
          boxes.get(clip_id),
          self._short_side,
          self._jpeg_quality,
        )
        for clip_id, label in labels.items()
      ]
      for split, labels in self._labels.items()
    }


def _find(folder: str | os.PathLike[str], what: str) -> pathlib.Path:
  """The annotation file of a split, or of the labels."""
  names = [name.format(what) for name in _FILE_NAMES]
  for name in names:
    if (path := pathlib.Path(folder, name)).is_file():
      return path
  raise UserError(f'--annotations: {folder} has none of {", ".join(names)}; copy one there')


def _read_json(path: pathlib.Path, kind: type) -> Any:
  try:
    content = json.loads(path.read_text())
  except ValueError as error:
    raise UserError(f'{path} is not JSON: {error}; copy it again') from None
  if not isinstance(content, kind):
    raise UserError(f'{path} must be a {kind.__name__}, not a {type(content).__name__}')
  return content


def _read_classes(path: pathlib.Path) -> tuple[str, ...]:
  """The class names in the order of their labels."""
  labels = _read_json(path, dict)
  by_label = {}
  for name, label in labels.items():
    if not str(label).isdecimal():
      raise UserError(f'{path}: the label of {name!r} must be a whole number, not {label!r}')
    by_label[int(label)] = name
  if sorted(by_label) != list(range(len(labels))):
    raise UserError(
      f'{path}: {len(labels)} classes must have the labels 0 to {len(labels) - 1}, each once'
    )
  return tuple(by_label[label] for label in range(len(labels)))


def _read_labels(path: pathlib.Path, classes: tuple[str, ...]) -> dict[str, int]:
  """The label of each clip of a split, in the order of the list."""
  label_of = {name: label for label, name in enumerate(classes)}
  labels = {}
  for number, entry in enumerate(_read_json(path, list)):
    where = f'{path}: entry {number}'
    for field in ('id', 'template'):
      if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
        raise UserError(f'{where}: field {field!r} must be a string')
    clip_id = entry['id']
    name = entry['template'].replace('[', '').replace(']', '')
    if name not in label_of:
      raise UserError(f'{where}, clip {clip_id}: template {name!r} is not in the labels file')
    if clip_id in labels:
      raise UserError(f'{where}: clip {clip_id} is listed twice; remove one')
    labels[clip_id] = label_of[name]
  return labels
