"""Flip and color changes against NumPy and colorsys."""

import colorsys

import jax
import numpy as np

from zsar_jax.ops import photometric
from zsar_jax.ops.geometric import NO_MIRROR, flip, mirror_labels
from zsar_jax.ops.prepare import Augmentation, training_input
from zsar_jax.recipes.language import parse


def test_hue_against_colorsys():
  rng = np.random.default_rng(0)
  rgb = rng.random((50, 3), np.float32)
  rgb[0] = 0.5  # Grey has no hue to turn.
  for turns in (0.0, 0.1, -0.27, 0.5):
    expected = []
    for pixel in rgb:
      hue, saturation, value = colorsys.rgb_to_hsv(*map(float, pixel))
      expected.append(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value))
    np.testing.assert_allclose(photometric.shift_hue(rgb, turns), expected, atol=1e-5)


def test_jitter_against_numpy():
  rng = np.random.default_rng(1)
  video = rng.random((2, 4, 4, 3), np.float32)
  key = jax.random.key(7)
  keys = jax.random.split(key, 5)
  factors = [float(jax.random.uniform(k, minval=0.6, maxval=1.4)) for k in keys[:3]]
  luma = np.array(photometric.LUMA)
  expected = np.clip(video * factors[0], 0, 1)
  mean = (expected @ luma).mean()
  expected = np.clip(mean + factors[1] * (expected - mean), 0, 1)
  grey = (expected @ luma)[..., None]
  expected = np.clip(grey + factors[2] * (expected - grey), 0, 1)
  got = photometric.jitter(key, video, 0.4, 0.4, 0.4, 0.0, 1.0)
  np.testing.assert_allclose(got, expected, atol=1e-5)
  np.testing.assert_array_equal(photometric.jitter(key, video, 0.4, 0.4, 0.4, 0.1, 0.0), video)


def test_greyscale_takes_all_color():
  video = np.random.default_rng(2).random((2, 4, 4, 3), np.float32)
  grey = np.asarray(photometric.random_grayscale(jax.random.key(0), video, 1.0))
  np.testing.assert_allclose(
    grey, (video @ np.array(photometric.LUMA))[..., None] + 0 * video, atol=1e-6
  )


def test_normalize_and_back():
  rgb = np.random.default_rng(3).random((5, 3), np.float32)
  np.testing.assert_allclose(photometric.denormalize(photometric.normalize(rgb)), rgb, atol=1e-6)


def test_mirror_labels():
  classes = [
    'pushing something from left to right',
    'pushing something from right to left',
    'Leftover soup',
    'Turning left',
    'Turning right',
    'moving something to the left',
  ]
  assert mirror_labels(classes).tolist() == [1, 0, 2, 4, 3, NO_MIRROR]
  pairs = [('turn_left', 'turn_right'), ('TurnLeft', 'TurnRight'), ('WAVE_LEFT', 'WAVE_RIGHT')]
  pairs += [('leftHandUp', 'rightHandUp'), ('left-hand up', 'right-hand up')]
  assert mirror_labels(sum(pairs, ())).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
  assert mirror_labels(['bright light', 'UPRIGHT', 'Cleft_lip', 'turn_left']).tolist() == [
    *(0, 1, 2, NO_MIRROR)
  ]


def test_flip_moves_frames_planes_and_label_together():
  rng = np.random.default_rng(4)
  frames = rng.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
  regions = rng.integers(0, 16, (3, 5, 6), dtype=np.uint8)
  mirrored = np.array([1, 0, NO_MIRROR], np.int32)
  for label, expected in ((0, 1), (1, 0)):
    got = flip(jax.random.key(0), frames, regions, np.int32(label), mirrored, 1.0)
    np.testing.assert_array_equal(got[0], frames[:, :, ::-1])
    np.testing.assert_array_equal(got[1], regions[:, :, ::-1])
    assert got[2] == expected
  got = flip(jax.random.key(0), frames, regions, np.int32(2), mirrored, 1.0)
  np.testing.assert_array_equal(got[0], frames)
  assert got[2] == 2


def test_augmentation_follows_the_clip_and_not_its_place():
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

  def run(clips):
    return training_input(jax.random.key(1), clips, settings, mirrored, recipe)

  whole = run(batch)
  order = [4, 0, 3]
  some = run({name: array[order] for name, array in batch.items()})
  np.testing.assert_allclose(some.video, np.asarray(whole.video)[order], atol=1e-6)
  np.testing.assert_array_equal(some.targets, np.asarray(whole.targets)[order])
  np.testing.assert_array_equal(some.regions, np.asarray(whole.regions)[order])
