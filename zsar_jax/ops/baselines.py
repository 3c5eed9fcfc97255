"""Published augmentations against static bias, as ops on one clip; `jax.vmap` them over a batch.

Each docstring names its paper, and says where what was published is not followed.
"""

import jax
import jax.numpy as jnp

from zsar_jax.ops.photometric import denormalize, hsv_cone, normalize

# ActorCutMix: the label's share of the scene falls with this power of the scene's area.
_LABEL_POWER = 4

# FAME's shares of a frame's pixels: surely foreground, surely background, and kept in the end.
_MOVING_SHARE = 0.5
_STILL_SHARE = 0.1
_KEPT_SHARE = 0.5
# Its bins of color in each direction of the HSV cone, and the side of its blur in frame heights.
_BINS = 10
_BLUR_SIZE = 0.1
# With an even number of bins grey lies on an edge. So far beyond it, rounding errors do not count.
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
  keeps 1 - (1 - r)^4 of its label, and the scene's clip gives the rest.

  A clip with actors nowhere or everywhere stays as it is. Other than published, the scene is looked
  at no further: the published code blackens the whole of it where its clip has no actors.

  Args:
    video: f32[T, H, W, 3], normalized.
    actors: bool[T, H, W]; the paper takes boxes of people.
    targets: f32[C], a distribution over the classes.
    other_video: f32[T, H, W, 3], the clip that gives its scene.
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
    strength: the frame's share is drawn evenly from 0 to this.

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
  """Blends one frame of elsewhere into all frames of a clip.

  From Li et al., "Mitigating and Evaluating Static Bias of Action Representations in the
  Background and the Foreground" (ICCV 2023), who draw the frame from a bank of those that a network
  recognizes by themselves, or at random. The label stays.

  Args:
    key: the clip's random key.
    video: f32[T, H, W, 3].
    frame: f32[H, W, 3].
    alpha: the clip's share is drawn from Beta(alpha, beta).
    beta: see alpha.

  Returns:
    f32[T, H, W, 3].
  """
  share = jax.random.beta(key, alpha, beta)
  return share * video + (1 - share) * frame


def fame(video: jax.Array, other_video: jax.Array) -> jax.Array:
  """Lays what moves in one clip over another clip; the label stays.

  From Ding et al., "Motion-aware Contrastive Video Representation Learning via Foreground-
  background Merging" (CVPR 2022).

  Args:
    video: f32[T, H, W, 3], normalized.
    other_video: f32[T, H, W, 3].

  Returns:
    f32[T, H, W, 3].
  """
  return jnp.where(fame_foreground(video)[..., None], video, other_video)


def fame_foreground(video: jax.Array) -> jax.Array:
  """FAME's foreground: the half of the picture whose colors are those of what moves.

  Half of the pixels, where frames differ most, are taken for foreground, and the tenth where they
  differ least for background; colors are counted in both, and each pixel is judged by the
  color that it has on the average of the frames. Finding the halves sorts all pixels, two sorts
  for the movement and one for the result: a cost that none of the other ops has.

  Other than published: hue is an angle once (the published code multiplies radians by 2 pi
  again); the first pixels in reading order win where many are equal, on any device; movement and
  color scores are not stretched to [0, 1], which changes no order; a clip without any movement is
  foreground everywhere, where the published mask would be arbitrary.

  Args:
    video: f32[T, H, W, 3], normalized.

  Returns:
    bool[H, W], one mask for all frames.
  """
  rgb = jnp.clip(denormalize(video), 0, 1)
  num_frames, height, width, _ = rgb.shape
  pixels = height * width
  change = jnp.abs(rgb[1:] - rgb[:-1]).sum((0, 3)) / max(num_frames - 1, 1)  # [H, W]
  movement = _blur(change)

  moving = _largest(movement, _count(_MOVING_SHARE, pixels))
  still = ~_largest(movement, pixels - _count(_STILL_SHARE, pixels))
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
  """bool[H, W]: the `count` largest of f32[H, W]; of equals the first in reading order."""
  least = jnp.sort(x, axis=None)[x.size - count] if count else jnp.inf
  above, equal = x > least, x == least
  place = jnp.cumsum(equal).reshape(x.shape)  # From 1, among the equal ones.
  return above | (equal & (place <= count - above.sum()))


def _color_bins(rgb: jax.Array) -> jax.Array:
  """i32[...]: the bin of each color, f32[..., 3] in [0, 1], in the cone of HSV."""
  sixths, chroma, value = hsv_cone(rgb)
  angle = sixths * (jnp.pi / 3)
  saturation = chroma / jnp.where(value > 0, value, 1)

  def to_bin(x: jax.Array) -> jax.Array:
    """[0, 1] to the nearest of 0, 1, ..., 9."""
    return jnp.floor(x * (_BINS - 1) + 0.5 + _EDGE).astype(jnp.int32)

  x = to_bin((saturation * jnp.cos(angle) + 1) / 2)
  y = to_bin((saturation * jnp.sin(angle) + 1) / 2)
  return x + _BINS * (y + _BINS * to_bin(value))


def _blur(x: jax.Array) -> jax.Array:
  """A Gaussian over f32[H, W], of odd size and a third of it as sigma; mirrored at the border."""
  radius = int(_BLUR_SIZE * x.shape[0]) // 2
  size = 2 * radius + 1
  weights = jnp.exp(-0.5 * ((jnp.arange(size) - radius) / (size / 3)) ** 2)
  weights /= weights.sum()
  for axis in (0, 1):
    length = x.shape[axis]
    margin = [(0, 0), (0, 0)]
    margin[axis] = (radius, radius)
    padded = jnp.pad(x, margin, mode='reflect')
    x = sum(
      weights[i] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(size)
    )
  return x
