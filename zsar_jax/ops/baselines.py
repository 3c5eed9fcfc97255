"""Published augmentations against static bias.

Each function takes one clip; `jax.vmap` it over a batch. Its docstring names the paper and says
where the function differs from it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.ops.photometric import denormalize, hsv_cone, normalize

# ActorCutMix: the weight of the scene's label is this power of the scene's share of the pixels.
_LABEL_POWER = 4

# FAME: the shares of a frame's pixels that are taken for foreground, taken for background, and kept
# in the end.
_MOVING_SHARE = 0.5
_STILL_SHARE = 0.1
_KEPT_SHARE = 0.5
# FAME: the bins of color in each direction of the HSV cone, and the side of the blur in frame
# heights.
_BINS = 10
_BLUR_SIZE = 0.1
# With an even number of bins, gray lies on the edge between two. This offset moves it off the edge,
# so that rounding errors do not decide about it.
_EDGE = 1e-3


def actor_cutmix(
  video: jax.Array,
  actors: jax.Array,
  targets: jax.Array,
  other_video: jax.Array,
  other_actors: jax.Array,
  other_targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Lays the actors of one clip over the scene of another, whose own actors are blackened.

  ActorCutMix, from Zou et al., "Learning Representational Invariances for Data-Efficient Action
  Recognition" (CVIU 2023, arXiv 2103.16565). Actors cover the share r of the clip's pixels; it
  keeps 1 - (1 - r)^4 of its label, and the rest is the label of the scene's clip.

  A clip with no actors, or with actors everywhere, stays unchanged. Difference from the published
  code: that code blackens the entire scene if the scene's clip has no actors.

  Args:
    video: f32[T, H, W, 3], normalized.
    actors: bool[T, H, W]; the paper takes boxes of people.
    targets: f32[C], a distribution over the classes.
    other_video: f32[T, H, W, 3], the clip that gives the scene.
    other_actors: bool[T, H, W].
    other_targets: f32[C].

  Returns:
    video: f32[T, H, W, 3].
    targets: f32[C].
  """
  valid = actors.any() & ~actors.all()
  scene = jnp.where(other_actors[..., None], normalize(jnp.zeros(3)), other_video)
  mixed = jnp.where(actors[..., None], video, scene)
  share = 1 - (1 - actors.mean()) ** _LABEL_POWER
  blended = share * targets + (1 - share) * other_targets
  return jnp.where(valid, mixed, video), jnp.where(valid, blended, targets)


def background_erasing(key: jax.Array, video: jax.Array, strength: float = 0.3) -> jax.Array:
  """Blends one random frame of the clip into all of its frames.

  From Wang et al., "Removing the Background by Adding the Background: Towards Background Robust
  Self-supervised Video Representation Learning" (CVPR 2021). The label stays.

  Args:
    key: the clip's random key.
    video: f32[T, H, W, 3].
    strength: the frame's weight is drawn uniformly from 0 to `strength`.

  Returns:
    f32[T, H, W, 3].
  """
  frame_key, share_key = jax.random.split(key)
  frame = video[jax.random.randint(frame_key, (), 0, video.shape[0])]
  share = jax.random.uniform(share_key, maxval=strength)
  return (1 - share) * video + share * frame


def still_mix(
  key: jax.Array, video: jax.Array, frame: jax.Array, alpha: float, beta: float
) -> jax.Array:
  """Blends a frame of another clip into all frames of a clip: StillMix.

  From Li et al., "Mitigating and Evaluating Static Bias of Action Representations in the
  Background and the Foreground" (ICCV 2023). They draw the frame at random or from a bank of frames
  from which a network recognizes the action. The label stays.

  Args:
    key: the clip's random key.
    video: f32[T, H, W, 3].
    frame: f32[H, W, 3].
    alpha: the clip's weight is drawn from Beta(alpha, beta).
    beta: see alpha.

  Returns:
    f32[T, H, W, 3].
  """
  share = jax.random.beta(key, alpha, beta)
  return share * video + (1 - share) * frame


def fame(video: jax.Array, other_video: jax.Array) -> jax.Array:
  """Lays the moving foreground of one clip over another clip: FAME.

  From Ding et al., "Motion-aware Contrastive Video Representation Learning via Foreground-
  background Merging" (CVPR 2022). The label stays.

  Args:
    video: f32[T, H, W, 3], normalized.
    other_video: f32[T, H, W, 3].

  Returns:
    f32[T, H, W, 3].
  """
  return jnp.where(fame_foreground(video)[..., None], video, other_video)


def fame_foreground(video: jax.Array) -> jax.Array:
  """Returns FAME's foreground: the half of the pixels whose colors are most like moving ones.

  The half of the pixels at which frames differ most is taken for foreground, and the tenth at which
  they differ least for background. Colors are counted in both. A pixel's score is that of its
  color, averaged over frames. The function sorts all pixels three times, twice for the motion and
  once for the score, which makes it more expensive than the other augmentations.

  Differences from the published code:
  - Hue is converted to an angle once; the published code multiplies radians by 2 pi again.
  - Among equal pixels the first in reading order are taken, on any device.
  - Motion and color scores are not scaled to [0, 1], which does not change their order.
  - A clip without motion is foreground everywhere; the published mask would be arbitrary.

  Args:
    video: f32[T, H, W, 3], normalized.

  Returns:
    bool[H, W], one mask for all frames.
  """
  rgb = jnp.clip(denormalize(video), 0, 1)
  num_frames, height, width, _ = rgb.shape
  pixels = height * width
  change = jnp.abs(rgb[1:] - rgb[:-1]).sum((0, 3)) / max(num_frames - 1, 1)  # [H, W]
  motion = _blur(change)

  moving = _largest(motion, _count(_MOVING_SHARE, pixels))
  still = ~_largest(motion, pixels - _count(_STILL_SHARE, pixels))
  bins = _color_bins(rgb.mean(0))  # [H, W]
  foreground = jnp.zeros(_BINS**3).at[bins].add(moving)
  background = jnp.zeros(_BINS**3).at[bins].add(still) + 1
  foreground /= foreground.sum()
  background /= background.sum()
  score = _blur((foreground / (foreground + background))[bins])
  return _largest(score, _count(_KEPT_SHARE, pixels)) | ~change.any()


def _count(share: float, pixels: int) -> int:
  return max(1, int(share * pixels))


def _largest(x: jax.Array, count: int) -> jax.Array:
  """Returns bool[H, W]: the `count` largest of f32[H, W]; of equal ones, the first in order."""
  threshold = jnp.sort(x, axis=None)[x.size - count] if count else jnp.inf
  above, equal = x > threshold, x == threshold
  rank = jnp.cumsum(equal).reshape(x.shape)  # From 1, among the equal ones.
  return above | (equal & (rank <= count - above.sum()))


def _color_bins(rgb: jax.Array) -> jax.Array:
  """Returns i32[...], the bin in the HSV cone of each color, f32[..., 3] in [0, 1]."""
  sixths, chroma, value = hsv_cone(rgb)
  angle = sixths * (jnp.pi / 3)
  saturation = chroma / jnp.where(value > 0, value, 1)

  def to_bin(x: jax.Array) -> jax.Array:
    """Maps [0, 1] to the nearest of 0, 1, ..., 9."""
    return jnp.floor(x * (_BINS - 1) + 0.5 + _EDGE).astype(jnp.int32)

  x = to_bin((saturation * jnp.cos(angle) + 1) / 2)
  y = to_bin((saturation * jnp.sin(angle) + 1) / 2)
  return x + _BINS * (y + _BINS * to_bin(value))


def _blur(x: jax.Array) -> jax.Array:
  """Blurs f32[H, W] by a Gaussian; sigma is a third of its odd size, borders are mirrored."""
  radius = int(_BLUR_SIZE * x.shape[0]) // 2
  size = 2 * radius + 1
  weights = jnp.exp(-0.5 * ((jnp.arange(size) - radius) / (size / 3)) ** 2)
  weights /= weights.sum()
  for axis in (0, 1):
    length = x.shape[axis]
    margin = [(0, 0), (0, 0)]
    margin[axis] = (radius, radius)
    padded = jnp.pad(x, margin, mode='reflect')
    blurred: Any = sum(
      weights[i] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(size)
    )
    x = blurred
  return x
