"""Builds Pantomime, the embedded data set, with one configuration for each of its worlds."""

import dataclasses
import os
from collections.abc import Collection

import tensorflow_datasets as tfds

from zsar_jax import pantomime
from zsar_jax.data import records
from zsar_jax.data.catalog import find_dataset
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.recipes.regions import REGION_BITS

TRAIN_CLIPS = 2000
VALIDATION_CLIPS = 640
TEST_CLIPS = 640
SIZE = 64
NUM_FRAMES = 12


@dataclasses.dataclass(frozen=True)
class PantomimeTask:
  """A clip, as the arguments of `pantomime.render_clip`."""

  id: str
  world: str
  split: str
  index: int
  seed: int
  size: int
  num_frames: int
  jpeg_quality: int


def encode_task(task: PantomimeTask) -> records.EncodedClip:
  """Renders and encodes the clip."""
  clip = pantomime.render_clip(
    task.world, task.split, task.index, task.seed, size=task.size, num_frames=task.num_frames
  )
  jpegs = records.encode_frames(clip.frames, task.jpeg_quality)
  return records.encode_clip(
    clip.id, clip.label, jpegs, clip.regions, clip.frames.shape[1:3], clip.fps
  )


class Pantomime(ClipBuilder, skip_registration=True):  # type: ignore[call-arg]  # As in builder.
  """Builds one world of Pantomime."""

  name = 'pantomime'
  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {'1.1.0': 'The split test; train and validation are those of 1.0.0.'}
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=world) for world in pantomime.WORLDS]
  encode = staticmethod(encode_task)

  def __init__(
    self,
    data_dir: str | os.PathLike[str],
    world: str,
    seed: int = 0,
    train_clips: int = TRAIN_CLIPS,
    validation_clips: int = VALIDATION_CLIPS,
    test_clips: int = TEST_CLIPS,
    jpeg_quality: int = records.JPEG_QUALITY,
  ):
    """Configures the rendering.

    Args:
      data_dir: the folder of data sets to build in.
      world: one of `pantomime.WORLDS`.
      seed: the seed of everything random.
      train_clips: number of clips in the split 'train'.
      validation_clips: number of clips in the split 'validation', for the choice of settings.
      test_clips: number of clips in the split 'test'.
      jpeg_quality: 1 to 100.
    """
    self.classes = pantomime.class_names(world)
    self.class_splits = pantomime.class_split(world)
    self.region_names = tuple(REGION_BITS)
    self.parameters = {
      'seed': seed,
      'clips': {'train': train_clips, 'validation': validation_clips, 'test': test_clips},
      'size': SIZE,
      'num_frames': NUM_FRAMES,
      'jpeg_quality': jpeg_quality,
    }
    self._world = world
    super().__init__(data_dir, world)

  def tasks(self) -> dict[str, list[PantomimeTask]]:
    """Returns one task for each clip."""
    options = dict(self.parameters)
    clips = options.pop('clips')
    return {
      split: [
        PantomimeTask(clip_id, self._world, split, index, **options)
        for index, clip_id in enumerate(pantomime.clip_ids(self._world, split, count))
      ]
      for split, count in clips.items()
    }


def build_worlds(data_dir: str | os.PathLike[str], names: Collection[str]) -> None:
  """Builds the worlds of Pantomime among some data sets, unless their current version exists.

  Args:
    data_dir: the folder of data sets.
    names: the names of data sets, such as 'pantomime/scenes'.
  """
  for world in pantomime.WORLDS:
    name = f'{Pantomime.name}/{world}'
    if name in names:
      directory = find_dataset(data_dir, name)
      if directory is None or directory.name != str(Pantomime.VERSION):
        build(Pantomime(data_dir, world))
