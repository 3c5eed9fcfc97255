"""A data set of a few tiny clips of noise, whose encoding tests can make fail, stop or wait."""

import dataclasses
import pathlib
import time

import numpy as np
import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.datasets.builder import ClipBuilder

CLASSES = ('waving, slowly', 'kicking', 'idle')


@dataclasses.dataclass(frozen=True)
class NoiseTask:
  """A clip of noise.

  Attributes:
    id: of the clip.
    number: the seed of the noise.
    folder: of files whose names control how the clip is encoded, see `encode_noise`.
  """

  id: str
  number: int
  folder: str


def encode_noise(task: NoiseTask) -> records.EncodedClip:
  """Returns 1 to 3 frames drawn from the clip's number; every other clip is annotated.

  A file '{control}-{clip id}' in the task's folder makes the clip 'missing', 'broken', 'interrupt'
  the process, or 'wait' until the file is deleted. A file 'encoded-{clip id}' is written.
  """
  folder = pathlib.Path(task.folder)
  if (folder / f'missing-{task.id}').exists():
    raise records.ClipError(f'{task.id} does not exist', missing=True)
  if (folder / f'broken-{task.id}').exists():
    raise records.ClipError(f'{task.id} is broken')
  if (folder / f'interrupt-{task.id}').exists():
    raise KeyboardInterrupt
  (folder / f'encoded-{task.id}').touch()
  while (folder / f'wait-{task.id}').exists():
    time.sleep(0.02)
  rng = np.random.default_rng(task.number)
  length = 1 + task.number % 3
  frames = rng.integers(0, 256, (length, 8, 12, 3)).astype(np.uint8)
  regions = rng.integers(0, 16, (length, 8, 12)).astype(np.uint8) if task.number % 2 else None
  jpegs = records.encode_frames(frames)
  remarks = {'odd': f'number {task.number}'} if task.number in (5, 7) else {}
  attributes = {'number': str(task.number)}
  return records.encode_clip(
    task.id, task.number % 3, jpegs, regions, (8, 12), 10.0, attributes, remarks
  )


class NoiseBuilder(ClipBuilder, skip_registration=True):
  """Builds the data set 'toy'; its split 'odd' is a part of 'train'."""

  name = 'toy'
  VERSION = tfds.core.Version('1.0.0')
  encode = staticmethod(encode_noise)

  def __init__(self, out, folder, train=10, validation=3, quality=90):
    self.classes = CLASSES
    self.class_splits = {'base': CLASSES[:2], 'novel': CLASSES[2:]}
    self.region_names = ('person', 'object')
    self.parameters = {'quality': quality}
    self.clip_splits = {'odd': [f'train-{n}' for n in (9, 3, 1, 77)], 'none': ['gone']}
    self.remarks = {'train': {'listed twice': {'train-2': 'line 9'}}}
    self._sizes = {'train': train, 'validation': validation}
    self._folder = folder
    folder.mkdir(exist_ok=True)
    super().__init__(out)

  def tasks(self):
    return {
      split: [NoiseTask(f'{split}-{n}', n, str(self._folder)) for n in range(size)]
      for split, size in self._sizes.items()
    }


def encoded_clips(folder: pathlib.Path) -> set[str]:
  """Returns the clips that were encoded since the last call."""
  names = set()
  for path in folder.glob('encoded-*'):
    names.add(path.name.removeprefix('encoded-'))
    path.unlink()
  return names
