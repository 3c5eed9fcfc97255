"""Other backgrounds for a clip: other clips' scenes without their people, stripes; and still clips.

They show what a model makes of the same action elsewhere: HAT's action swap (Chung, Wu and
Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video Dataset Augmentation",
NeurIPS 2022) and the stripes and still clips of SCUBA and SCUFO (Li et al., "Mitigating and
Evaluating Static Bias of Action Representations in the Background and the Foreground", ICCV 2023).
Each op takes one clip; `jax.vmap` it over a batch.
"""

import jax
import jax.numpy as jnp

from zsar_jax.recipes.regions import OBJECT, PERSON

# Halves of a pixel are common between boxes: rounding errors are not to decide about them.
_HALF = 0.5 + 1e-3

# HAT widens what it takes out of a frame of 240 rows four times by a cross of 3 x 3.
_WIDENING = 4 / 240

# SCUBA's stripes. Lengths are pixels of a picture whose longer side is 256, the center of a canvas
# of 384. Each range is drawn from evenly.
_PICTURE = 256
_CANVAS = 384
_HALF_WIDTH = (5.0, 20.0)
_SPACING = (3.0, 5.0)  # From the middle of a stripe to the next one's, in half-widths.
_AMPLITUDE = (10.0, 110.0)
_WAVELENGTH = (4.0, 1004.0)
_FIRST_STRIPE = 128.0


def fill_holes(video: jax.Array, holes: jax.Array) -> jax.Array:
  """Paints the holes of each frame from what surrounds them.

  Push and pull, from Gortler et al., "The Lumigraph" (SIGGRAPH 1996), section 4.3: frames are
  halved, known pixels alone being averaged, until one pixel is left; then what is unknown
  is taken from the next coarser picture, bilinearly. Here a pixel is known or not, without degrees.
  HAT fills with a network for inpainting; this needs no weights, and is smooth instead of sharp.

  Args:
    video: f32[T, H, W, 3].
    holes: bool[T, H, W].

  Returns:
    f32[T, H, W, 3]: known pixels as they were; 0, the mean color of normalized space, in frames
    that are one hole.
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
  """The mean of the known pixels in each 2 x 2, and whether there are any.

  Args:
    video: f32[T, H, W, 3].
    known: bool[T, H, W, 1].

  Returns:
    f32[T, h, w, 3] and bool[T, h, w, 1], h and w half of H and W, rounded up.
  """

  def add_up(x: jax.Array) -> jax.Array:
    """f32[T, H, W, C] to f32[T, h, w, C]; beyond an odd side there is nothing."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    frames, height, width, channels = x.shape
    return x.reshape(frames, height // 2, 2, width // 2, 2, channels).sum((2, 4))

  count = add_up(known.astype(video.dtype))
  return add_up(jnp.where(known, video, 0)) / jnp.maximum(count, 1), count > 0


def widen(mask: jax.Array, steps: int) -> jax.Array:
  """Adds to each frame of bool[T, H, W] all pixels at most so many steps, not diagonal, away."""
  for _ in range(steps):
    padded = jnp.pad(mask, ((0, 0), (1, 1), (1, 1)))
    beside = padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
    mask = mask | beside | padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1]
  return mask


def centroid_shift(mask: jax.Array, other: jax.Array) -> jax.Array:
  """How far the figure of one clip must be moved to stand where that of another stands.

  As in HAT, one shift serves the whole clip, so that the figure's own movement stays: it
  is that between the figures' centroids in the first frame of each clip in which there is any.

  Args:
    mask: bool[T, H, W], the figure to be moved.
    other: bool[T, H, W], the figure in whose place it comes.

  Returns:
    i32[2], rows down and columns to the right, halves rounded up; 0 where either clip has no
    figure.
  """
  distance = jnp.floor(_centroid(other) - _centroid(mask) + _HALF).astype(jnp.int32)
  return jnp.where(mask.any() & other.any(), distance, 0)


def _centroid(mask: jax.Array) -> jax.Array:
  """f32[2], row and column, in the first frame of bool[T, H, W] with any pixel; 0 without one."""
  frame = mask[jnp.argmax(mask.any((1, 2)))].astype(jnp.float32)  # [H, W]
  height, width = frame.shape
  moments = jnp.stack(
    [(frame.sum(1) * jnp.arange(height)).sum(), (frame.sum(0) * jnp.arange(width)).sum()]
  )
  return moments / jnp.maximum(frame.sum(), 1)


def shift(x: jax.Array, by: jax.Array) -> jax.Array:
  """Moves frames of any dtype, [T, H, W, ...], by i32[2] rows and columns; zeros come in."""
  inside = []
  for size, distance in zip(x.shape[1:3], by, strict=True):
    source = jnp.arange(size) - distance
    inside.append((source >= 0) & (source < size))
  kept = inside[0][:, None] & inside[1][None, :]  # [H, W]
  kept = kept.reshape(kept.shape + (1,) * (x.ndim - 3))
  return jnp.where(kept, jnp.roll(x, by, axis=(1, 2)), jnp.zeros((), x.dtype))


def swap_background(
  video: jax.Array, regions: jax.Array, other_video: jax.Array, other_regions: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Puts the people and objects of one clip into the scene of another: HAT's action swap.

  Those of the other clip are taken out of its scene by `fill_holes`, or a second actor would
  stay, and with them, as in HAT, a narrow rim, or their blurred outline would. Those that come take
  their place by `centroid_shift`. Frame t goes over frame t: both
  clips are T frames sampled from their whole length, as HAT pairs frames by their share of the
  clip. A frame without people or objects, be it that nobody annotated it, shows the scene alone.

  Args:
    video: f32[T, H, W, 3], normalized.
    regions: u8[T, H, W], its region planes.
    other_video: f32[T, H, W, 3], the clip that gives its scene.
    other_regions: u8[T, H, W], its region planes.

  Returns:
    video: f32[T, H, W, 3].
    regions: u8[T, H, W]: those of the first clip, moved along.
  """
  foreground, other_foreground = _foreground(regions), _foreground(other_regions)
  rim = max(1, round(_WIDENING * video.shape[1]))
  scene = fill_holes(other_video, widen(other_foreground, rim))
  by = centroid_shift(foreground, other_foreground)
  moved = shift(regions, by)
  return jnp.where(_foreground(moved)[..., None], shift(video, by), scene), moved


def _foreground(regions: jax.Array) -> jax.Array:
  """bool[...]: where region planes show a person or an object."""
  return (regions & (PERSON | OBJECT)) != 0


def draw_stripes(key: jax.Array, height: int, width: int) -> jax.Array:
  """Draws SCUBA's background of wavy stripes, in one color and its complement.

  A stripe is what lies within a half-width, measured across the wave's axis, of a sine wave; it
  is repeated at even spacing, and all is turned by an angle.

  Args:
    key: all that is random is drawn from it.
    height: of the picture, in pixels.
    width: of the picture, in pixels.

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
  beyond = (across - wave) % period  # How far a pixel lies beyond the last stripe's middle.
  striped = jnp.minimum(beyond, period - beyond) <= half_width
  ground = jax.random.uniform(color_key, (3,))
  return jnp.where(striped[..., None], 1 - ground, ground)


def freeze(
  video: jax.Array, regions: jax.Array, annotated: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Repeats the middle frame, as SCUFO does: what is recognized then is not recognized by movement.

  Args:
    video: f32[T, H, W, 3].
    regions: u8[T, H, W].
    annotated: bool[T].

  Returns:
    All three, with frame T // 2 in the place of every frame.
  """
  middle = video.shape[0] // 2
  still = [jnp.broadcast_to(x[middle], x.shape) for x in (video, regions, annotated)]
  return still[0], still[1], still[2]
