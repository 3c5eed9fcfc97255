"""Normalization and color changes against NumPy and colorsys."""

import colorsys

import jax
import numpy as np

from zsar_jax.ops import photometric


def test_hue_against_colorsys():
  rng = np.random.default_rng(0)
  rgb = rng.random((50, 3), np.float32)
  rgb[0] = 0.5  # Gray has no hue.
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
  jittered = photometric.jitter(key, video, 0.4, 0.4, 0.4, 0.0, 1.0)
  np.testing.assert_allclose(jittered, expected, atol=1e-5)
  np.testing.assert_array_equal(photometric.jitter(key, video, 0.4, 0.4, 0.4, 0.1, 0.0), video)


def test_grayscale_removes_all_color():
  video = np.random.default_rng(2).random((2, 4, 4, 3), np.float32)
  grey = np.asarray(photometric.random_grayscale(jax.random.key(0), video, 1.0))
  np.testing.assert_allclose(
    grey, (video @ np.array(photometric.LUMA))[..., None] + 0 * video, atol=1e-6
  )


def test_normalize_and_back():
  rgb = np.random.default_rng(3).random((5, 3), np.float32)
  np.testing.assert_allclose(photometric.denormalize(photometric.normalize(rgb)), rgb, atol=1e-6)
