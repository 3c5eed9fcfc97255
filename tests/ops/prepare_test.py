"""The model's input in training."""

import jax
import numpy as np

from zsar_jax.ops.prepare import Augmentation, training_input
from zsar_jax.recipes.language import parse


def test_augmentation_depends_on_the_clip_and_not_on_its_batch():
  rng = np.random.default_rng(5)
  batch = {
    'frames': rng.integers(0, 256, (6, 2, 8, 8, 3), dtype=np.uint8),
    'regions': rng.integers(0, 16, (6, 2, 8, 8), dtype=np.uint8),
    'annotated': np.ones((6, 2), bool),
    'label': rng.integers(0, 3, 6, dtype=np.int32),
    'seed': rng.integers(0, 2**32, 6, dtype=np.uint32),
  }
  settings = Augmentation(flip=0.5, jitter=0.8, greyscale=0.2)
  recipe = parse('background=normal@0.5')
  mirrored = np.array([1, 0, 2])

  def run(batch):
    return training_input(jax.random.key(1), batch, settings, mirrored, recipe)

  clips = run(batch)
  order = [4, 0, 3]
  subset = run({name: array[order] for name, array in batch.items()})
  np.testing.assert_allclose(subset.video, np.asarray(clips.video)[order], atol=1e-6)
  np.testing.assert_array_equal(subset.targets, np.asarray(clips.targets)[order])
  np.testing.assert_array_equal(subset.regions, np.asarray(clips.regions)[order])
