"""A small data set of clips in plain grey, written by the project's own builder."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.staging import ClipError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON_BOX

CLASSES = ('moving left', 'moving right', 'resting', 'jumping', 'turning')


@dataclasses.dataclass(frozen=True)
class ToyTask:
  """One clip, whose frame n has the grey level 4 n and the boxes of a person and an object."""

  id: str
  label: int
  num_frames: int
  annotated: tuple[bool, ...]


def encode_toy(task: ToyTask) -> records.EncodedClip:
  """Returns the record of a clip."""
  if task.num_frames == 0:
    raise ClipError('it has no frames')
  shape = (task.num_frames, 20, 30)
  levels = (4 * np.arange(task.num_frames)).astype(np.uint8)
  frames = np.broadcast_to(levels[:, None, None, None], (*shape, 3)).copy()
  planes = np.zeros(shape, np.uint8)
  planes[:, :, :15] = PERSON_BOX
  planes[:, :10] |= OBJECT_BOX
  annotated = np.resize(np.array(task.annotated), task.num_frames)
  annotated_planes = [plane if on else None for plane, on in zip(planes, annotated, strict=True)]
  jpegs = records.encode_frames(frames)
  return records.encode_clip(task.id, task.label, jpegs, annotated_planes, (20, 30), 12.0)


class Toy(ClipBuilder):
  """The builder."""

  name = 'toy'
  VERSION = tfds.core.Version('1.0.0')
  classes = CLASSES
  class_splits = {'base': CLASSES[:3], 'novel': CLASSES[3:]}
  region_names = ('person_box', 'object_box')
  parameters = {}
  encode = encode_toy

  def tasks(self) -> dict:
    """Returns 37 training and 11 validation clips; every third has frames without annotation."""
    return {
      split: [
        ToyTask(f'{split}{i}', i % len(CLASSES), 5 + i, (i % 3 != 0, True)) for i in range(count)
      ]
      for split, count in (('train', 37), ('validation', 11))
    }


def build_toy(folder) -> str:
  """Builds the data set in `folder`, and returns the folder as text."""
  build(Toy(folder), workers=0)
  return str(folder)
