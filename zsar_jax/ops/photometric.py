"""Normalization of pixels, and color jitter and grayscale that are drawn once per clip."""

import jax
import jax.numpy as jnp

from zsar_jax.models.presets import NORMALIZATIONS

# Clips are painted in the normalized space of OpenAI's CLIP, also for models with another one.
CLIP_MEAN, CLIP_STD = NORMALIZATIONS['clip']

# ITU-R BT.601 luma, as in PIL and OpenCV.
LUMA = (0.299, 0.587, 0.114)


def to_float(frames: jax.Array) -> jax.Array:
  """Maps u8 pixels to f32 in [0, 1]."""
  return frames.astype(jnp.float32) / 255


def normalize(rgb: jax.Array) -> jax.Array:
  """Maps RGB in [0, 1], f32[..., 3], to the normalized space of CLIP's input."""
  return (rgb - jnp.array(CLIP_MEAN)) / jnp.array(CLIP_STD)


def denormalize(pixels: jax.Array) -> jax.Array:
  """Inverts `normalize`: maps f32[..., 3] to RGB."""
  return pixels * jnp.array(CLIP_STD) + jnp.array(CLIP_MEAN)


def to_uint8(pixels: jax.Array) -> jax.Array:
  """Maps normalized pixels f32[..., 3] to RGB u8; colors outside of its range are clipped."""
  return jnp.round(255 * jnp.clip(denormalize(pixels), 0, 1)).astype(jnp.uint8)


def jitter(
  key: jax.Array,
  video: jax.Array,
  brightness: float,
  contrast: float,
  saturation: float,
  hue: float,
  probability: float,
  reference: jax.Array | None = None,
) -> jax.Array:
  """Applies color jitter to one clip, in the order of the arguments.

  The factors are drawn once per clip. Drawing them for each frame, as some published recipes do,
  adds a flicker that a video model can mistake for motion.

  Args:
    key: the clip's random key.
    video: f32[T, H, W, 3] in [0, 1].
    brightness: the factor is drawn from 1 - brightness to 1 + brightness.
    contrast: spread of the factor of differences from the clip's mean luma.
    saturation: spread of the factor of differences from each pixel's luma.
    hue: the shift is drawn from -hue to hue, in turns of the color circle.
    probability: the probability that the clip is changed.
    reference: f32[T, H, W, 3], another version of the clip, which gives the mean luma; None takes
      `video`. With the same key, both versions are changed by the same function of a pixel.

  Returns:
    f32[T, H, W, 3] in [0, 1].
  """
  reference = video if reference is None else reference
  keys = jax.random.split(key, 5)

  def factor(key: jax.Array, spread: float) -> jax.Array:
    return jax.random.uniform(key, minval=1 - spread, maxval=1 + spread)

  brighter = factor(keys[0], brightness)
  mean = luma(jnp.clip(reference * brighter, 0, 1)).mean()
  changed = _blend(mean, jnp.clip(video * brighter, 0, 1), factor(keys[1], contrast))
  changed = _blend(luma(changed), changed, factor(keys[2], saturation))
  if hue:
    changed = shift_hue(changed, jax.random.uniform(keys[3], minval=-hue, maxval=hue))
  return jnp.where(jax.random.bernoulli(keys[4], probability), changed, video)


def random_grayscale(key: jax.Array, video: jax.Array, probability: float) -> jax.Array:
  """Turns one clip, f32[T, H, W, 3], gray with the given probability."""
  return jnp.where(jax.random.bernoulli(key, probability), luma(video), video)


def luma(video: jax.Array) -> jax.Array:
  """Maps RGB, f32[..., 3], to its luma, f32[..., 1]."""
  return (video * jnp.array(LUMA)).sum(-1, keepdims=True)


def hsv_cone(rgb: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Maps RGB in [0, 1], f32[..., 3], to coordinates in the HSV cone.

  Returns:
    Each f32[...]: the angle in sixths of the color circle (0 for grays), chroma and value.
  """
  value = rgb.max(-1)
  chroma = value - rgb.min(-1)
  r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
  divisor = jnp.where(chroma > 0, chroma, 1)
  sixths = jnp.where(
    value == r,
    (g - b) / divisor,
    jnp.where(value == g, (b - r) / divisor + 2, (r - g) / divisor + 4),
  )
  return sixths, chroma, value


def shift_hue(rgb: jax.Array, turns: jax.Array) -> jax.Array:
  """Shifts the hue of RGB in [0, 1], f32[..., 3], by a fraction of the color circle."""
  sixths, chroma, value = hsv_cone(rgb)
  # As a function of the angle, each channel is a trapezoid; the three are a third of a turn apart.
  angle = (jnp.array([5.0, 3.0, 1.0]) + (sixths + 6 * turns)[..., None]) % 6
  dip = jnp.clip(jnp.minimum(angle, 4 - angle), 0, 1)
  return value[..., None] - chroma[..., None] * dip


def _blend(base: jax.Array, video: jax.Array, factor: jax.Array) -> jax.Array:
  return jnp.clip(base + factor * (video - base), 0, 1)
