"""Replaces a clip's background by another clip's scene or by stripes.

These probes test how a model recognizes the same action in another scene: HAT's action swap (Chung,
Wu and Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video Dataset
Augmentation", NeurIPS 2022), and the stripes of SCUBA (Li et al., "Mitigating and Evaluating Static
Bias of Action Representations in the Background and the Foreground", ICCV 2023). Each function
takes one clip; `jax.vmap` it over a batch.
"""

import jax
import jax.numpy as jnp

from zsar_jax.recipes.regions import OBJECT, PERSON

# Distances of exactly half a pixel are common between boxes. The small excess keeps rounding errors
# from deciding about them.
_HALF = 0.5 + 1e-3

# HAT dilates what it removes from a frame of 240 rows four times by a cross of 3 x 3.
_WIDENING = 4 / 240

# SCUBA's stripes. Lengths are pixels of a picture whose longer side is 256; it is the center of a
# canvas of 384. Values are drawn uniformly from the ranges.
_PICTURE = 256
_CANVAS = 384
_HALF_WIDTH = (5.0, 20.0)
_SPACING = (3.0, 5.0)  # Between the centers of neighboring stripes, in half-widths.
_AMPLITUDE = (10.0, 110.0)
_WAVELENGTH = (4.0, 1004.0)
_FIRST_STRIPE = 128.0


def fill_holes(video: jax.Array, holes: jax.Array) -> jax.Array:
  """Fills the holes of each frame from the surrounding pixels.

  The method is push-pull, from Gortler et al., "The Lumigraph" (SIGGRAPH 1996), section 4.3. Frames
  are halved, averaging known pixels only, until one pixel is left. Then unknown pixels are
  interpolated bilinearly from the next coarser picture. Unlike the original, a pixel is either
  known or unknown. HAT uses an inpainting network; push-pull needs no weights, and its result is
  smooth instead of sharp.

  Args:
    video: f32[T, H, W, 3].
    holes: bool[T, H, W].

  Returns:
    f32[T, H, W, 3]. Known pixels are unchanged. A frame without known pixels is 0, the mean color
    of normalized space.
  """
  num_frames, height, width, channels = video.shape
  known = ~holes[..., None]
  if height == width == 1:
    return jnp.where(known, video, 0)
  half_video, half_known = _halve(video, known)
  filled = fill_holes(half_video, ~half_known[..., 0])
  doubled = (num_frames, 2 * filled.shape[1], 2 * filled.shape[2], channels)
  coarse = jax.image.resize(filled, doubled, 'bilinear')[:, :height, :width]
  return jnp.where(known, video, coarse)


def _halve(video: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Averages the known pixels of each 2 x 2 block.

  Args:
    video: f32[T, H, W, 3].
    known: bool[T, H, W, 1].

  Returns:
    f32[T, h, w, 3] the averages, and bool[T, h, w, 1] whether a block has known pixels. h and w are
    half of H and W, rounded up.
  """

  def sum_blocks(x: jax.Array) -> jax.Array:
    """Maps f32[T, H, W, C] to f32[T, h, w, C]; odd sides are padded with zeros."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    frames, height, width, channels = x.shape
    return x.reshape(frames, height // 2, 2, width // 2, 2, channels).sum((2, 4))

  count = sum_blocks(known.astype(video.dtype))
  return sum_blocks(jnp.where(known, video, 0)) / jnp.maximum(count, 1), count > 0


def widen(mask: jax.Array, steps: int) -> jax.Array:
  """Dilates bool[T, H, W] in each frame by `steps` pixels, counted along rows and columns."""
  for _ in range(steps):
    padded = jnp.pad(mask, ((0, 0), (1, 1), (1, 1)))
    beside = padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
    mask = mask | beside | padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1]
  return mask


def centroid_shift(mask: jax.Array, other: jax.Array) -> jax.Array:
  """Returns the shift that moves the figure of one clip to the figure of another clip.

  As in HAT, all frames are shifted equally, which preserves the figure's motion. The shift is the
  difference between the figures' centroids, each in the first frame of its clip that has a figure.

  Args:
    mask: bool[T, H, W], the figure to move.
    other: bool[T, H, W], the figure that it replaces.

  Returns:
    i32[2], rows down and columns to the right, with halves rounded up; 0 if either clip has no
    figure.
  """
  distance = jnp.floor(_centroid(other) - _centroid(mask) + _HALF).astype(jnp.int32)
  return jnp.where(mask.any() & other.any(), distance, 0)


def _centroid(mask: jax.Array) -> jax.Array:
  """Returns f32[2], the centroid in the first frame of bool[T, H, W] that has pixels, or 0."""
  frame = mask[jnp.argmax(mask.any((1, 2)))].astype(jnp.float32)  # [H, W]
  height, width = frame.shape
  moments = jnp.stack(
    [(frame.sum(1) * jnp.arange(height)).sum(), (frame.sum(0) * jnp.arange(width)).sum()]
  )
  return moments / jnp.maximum(frame.sum(), 1)


def shift(x: jax.Array, by: jax.Array) -> jax.Array:
  """Shifts frames [T, H, W, ...] of any dtype by i32[2] rows and columns, filling with zeros."""
  inside = []
  for size, distance in zip(x.shape[1:3], by, strict=True):
    source = jnp.arange(size) - distance
    inside.append((source >= 0) & (source < size))
  has_source = inside[0][:, None] & inside[1][None, :]  # [H, W]
  has_source = has_source.reshape(has_source.shape + (1,) * (x.ndim - 3))
  return jnp.where(has_source, jnp.roll(x, by, axis=(1, 2)), jnp.zeros((), x.dtype))


def empty_scene(video: jax.Array, regions: jax.Array, filled: int = PERSON | OBJECT) -> jax.Array:
  """Removes people and objects from a clip by `fill_holes`, so that its scene is left.

  As in HAT, a narrow rim around them is removed too, which would show their blurred outline.

  Args:
    video: f32[T, H, W, 3], normalized.
    regions: u8[T, H, W], its region planes.
    filled: the bits of the regions to remove; OBJECT alone if an inpainter has removed the people.

  Returns:
    f32[T, H, W, 3].
  """
  rim = max(1, round(_WIDENING * video.shape[1]))
  return fill_holes(video, widen((regions & filled) != 0, rim))


def swap_background(
  video: jax.Array, regions: jax.Array, scene: jax.Array, other_regions: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Puts the people and objects of one clip into the scene of another clip: HAT's action swap.

  No second actor is left in the scene, see `empty_scene`. `centroid_shift` gives the position of
  the people and objects that are put in. Frame t goes over frame t of the scene: both clips are T
  frames sampled from their full length, and HAT also pairs frames by their relative time. A frame
  without people or objects, or without annotation, shows the scene alone.

  Args:
    video: f32[T, H, W, 3], normalized, the clip that gives people and objects.
    regions: u8[T, H, W], its region planes.
    scene: f32[T, H, W, 3], of the other clip.
    other_regions: u8[T, H, W], the other clip's region planes.

  Returns:
    video: f32[T, H, W, 3].
    regions: u8[T, H, W], the first clip's planes after the shift.
  """
  by = centroid_shift(_foreground(regions), _foreground(other_regions))
  moved = shift(regions, by)
  return jnp.where(_foreground(moved)[..., None], shift(video, by), scene), moved


def _foreground(regions: jax.Array) -> jax.Array:
  """Returns bool[...]: the pixels of region planes that show a person or an object."""
  return (regions & (PERSON | OBJECT)) != 0


def draw_stripes(key: jax.Array, height: int, width: int) -> jax.Array:
  """Draws SCUBA's background of wavy stripes, in one color and its complement.

  A stripe is the set of points whose distance from a sine wave, measured across the wave's axis, is
  at most a half-width. Stripes are repeated at even spacing, and the pattern is rotated by an
  angle.

  Args:
    key: a random key.
    height: height of the picture in pixels.
    width: width of the picture in pixels.

  Returns:
    f32[H, W, 3], RGB in [0, 1].
  """
  color_key, shape_key, turn_key = jax.random.split(key, 3)
  ranges = jnp.array([_HALF_WIDTH, _SPACING, _AMPLITUDE, _WAVELENGTH])
  half_width, spacing, amplitude, wavelength = jax.random.uniform(
    shape_key, (4,), minval=ranges[:, 0], maxval=ranges[:, 1]
  )
  phase, angle = jax.random.uniform(turn_key, (2,), maxval=2 * jnp.pi)

  unit = _PICTURE / max(height, width)
  down = (jnp.arange(height)[:, None] - (height - 1) / 2) * unit
  right = (jnp.arange(width)[None, :] - (width - 1) / 2) * unit
  along = _CANVAS / 2 + right * jnp.cos(angle) + down * jnp.sin(angle)  # [H, W]
  across = _CANVAS / 2 - right * jnp.sin(angle) + down * jnp.cos(angle)  # [H, W]

  wave = amplitude * jnp.sin(2 * jnp.pi * along / wavelength + phase) + _FIRST_STRIPE
  period = spacing * half_width
  offset = (across - wave) % period  # From the center of the stripe before a pixel.
  striped = jnp.minimum(offset, period - offset) <= half_width
  ground = jax.random.uniform(color_key, (3,))
  return jnp.where(striped[..., None], 1 - ground, ground)
