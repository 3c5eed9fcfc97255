"""Mixup and CutMix of clips, which mix the region planes and the labels alike.

Each clip is mixed with the one at its place in the batch counted from the end. Everything random
is drawn for each clip (X-CLIP and ViFi-CLIP draw one share and one box for a whole batch).
Clips are mixed before they are painted: a mixed clip has one background, in one color.
"""

import jax
import jax.numpy as jnp


def mix(
  keys: jax.Array,
  video: jax.Array,
  regions: jax.Array,
  annotated: jax.Array,
  targets: jax.Array,
  mixup: float,
  cutmix: float,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Mixes the clips of a batch.

  The share of the clip itself is drawn from Beta(alpha, alpha). Mixup (Zhang et al., arXiv
  1710.09412) blends all pixels, and a region is where either clip has it. CutMix (Yun et al.,
  arXiv 1905.04899) pastes a box, the same in every frame, of pixels and planes; the share
  is then what is left of the clip's area.

  Args:
    keys: a random key for each clip.
    video: f32[B, T, H, W, 3].
    regions: u8[B, T, H, W].
    annotated: bool[B, T].
    targets: f32[B, C], a distribution over the classes for each clip.
    mixup: its alpha; 0 does not mix so.
    cutmix: its alpha; with both, each clip is mixed in one of the two ways, evenly drawn.

  Returns:
    All four, mixed; a frame stays annotated where both are.
  """

  def one_clip(key, video, regions, annotated, targets):
    (video, video2), (regions, regions2) = video, regions
    choice_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 4)
    blended = jax.random.beta(mixup_key, mixup, mixup) if mixup else jnp.float32(1)
    cut = jax.random.beta(cutmix_key, cutmix, cutmix) if cutmix else jnp.float32(1)
    chance = 1.0 if not mixup else 0.5 if cutmix else 0.0
    cutting = jax.random.bernoulli(choice_key, chance)
    box = random_box(box_key, *video.shape[1:3], cut)  # [H, W]
    share = jnp.where(cutting, 1 - box.mean(), blended)
    weight = jnp.where(cutting, 1.0 - box, blended)  # [H, W], of the clip itself
    video = weight[..., None] * video + (1 - weight[..., None]) * video2
    regions = jnp.where(cutting, jnp.where(box, regions2, regions), regions | regions2)
    return video, regions, annotated.all(0), share * targets[0] + (1 - share) * targets[1]

  pairs = jax.tree.map(lambda x: (x, x[::-1]), (video, regions))
  both = jax.tree.map(lambda x: jnp.stack([x, x[::-1]], axis=1), (annotated, targets))
  return jax.vmap(one_clip)(keys, *pairs, *both)


def random_box(key: jax.Array, height: int, width: int, share: jax.Array) -> jax.Array:
  """bool[H, W]: a box with sqrt(1 - share) of each side, at a random center, cut at the border."""
  row, column = jax.random.uniform(key, (2,))
  inside = []
  for size, center in ((height, row), (width, column)):
    half = jnp.sqrt(1 - share) * size / 2
    place = jnp.arange(size)
    start, end = jnp.round(center * size - half), jnp.round(center * size + half)
    inside.append((place >= start) & (place < end))
  return inside[0][:, None] & inside[1][None, :]
