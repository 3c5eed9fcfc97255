"""A data set of as many clips as Kinetics has, each of a few pixels, which is built in seconds."""

import dataclasses
import functools
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.recipes.regions import OBJECT, PERSON

# The shape of every clip.
_FRAMES, _HEIGHT, _WIDTH = 4, 16, 16


@dataclasses.dataclass(frozen=True)
class _Task:
  """A clip: its name and class. The pixels of all clips are the same."""

  id: str
  label: int


@functools.cache
def _pixels() -> records.EncodedClip:
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 255, (_FRAMES, _HEIGHT, _WIDTH, 3), np.uint8)
  plane = np.zeros((_HEIGHT, _WIDTH), np.uint8)
  plane[4:12, 4:8] = PERSON
  plane[10:14, 6:12] |= OBJECT
  size = (_HEIGHT, _WIDTH)
  return records.encode_clip('', 0, records.encode_frames(frames), [plane] * _FRAMES, size, 12.0)


def _encode(task: _Task) -> records.EncodedClip:
  clip = _pixels()
  return dataclasses.replace(clip, record=clip.record | {'id': task.id, 'label': task.label})


class TinyClips(ClipBuilder, skip_registration=True):  # type: ignore[call-arg]  # As in builder.
  """The builder of the data set 'tiny_clips'."""

  name = 'tiny_clips'
  VERSION = tfds.core.Version('1.0.0')
  class_splits: dict[str, tuple[str, ...]] = {}
  region_names = ('person', 'object')
  parameters: dict[str, int] = {}
  encode = staticmethod(_encode)

  def __init__(self, data_dir: pathlib.Path, splits: dict[str, int], classes: int):
    """Describes the data set.

    Args:
      data_dir: the folder of data sets.
      splits: the number of clips of each split; from 8,192 on, a split has 256 files of records.
      classes: the number of classes.
    """
    self.classes = tuple(f'action {n}' for n in range(classes))
    self._splits = splits
    super().__init__(data_dir)

  def tasks(self) -> dict[str, list[_Task]]:
    """Returns the clips of each split, whose names have as many letters as Kinetics'."""
    return {
      split: [_Task(f'{split}-{n:011d}', n % len(self.classes)) for n in range(count)]
      for split, count in self._splits.items()
    }


def build_tiny_clips(
  data_dir: pathlib.Path, splits: dict[str, int], classes: int = 400, workers: int | None = None
) -> None:
  """Builds the data set; see `TinyClips` and `datasets.build.build`."""
  build(TinyClips(data_dir, splits, classes), workers)
