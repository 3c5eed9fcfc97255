"""Mixup and CutMix of clips, including their region planes and labels.

In a batch of B, clip i is mixed with clip B - 1 - i. All random numbers are drawn per clip, while
X-CLIP and ViFi-CLIP draw one share and one box per batch. Clips are mixed before they are painted,
so that a mixed clip has one background in one color.
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

  The weight of the clip itself is drawn from Beta(alpha, alpha). Mixup (Zhang et al., arXiv
  1710.09412) blends all pixels; the mixed clip has a region wherever either clip has it. CutMix
  (Yun et al., arXiv 1905.04899) pastes a box of the partner's pixels and planes, the same box in
  every frame; the label's weight is then the share of the area that remains.

  Args:
    keys: a random key for each clip.
    video: f32[B, T, H, W, 3].
    regions: u8[B, T, H, W].
    annotated: bool[B, T].
    targets: f32[B, C], a distribution over the classes for each clip.
    mixup: alpha of mixup; 0 turns it off.
    cutmix: alpha of CutMix; 0 turns it off. With both, each clip is mixed in one of the two ways,
      with equal probability.

  Returns:
    All four, mixed. A frame of a mixed clip is annotated if both frames are.
  """

  def mix_clip(key, clip, partner):
    video, regions, annotated, targets = clip
    partner_video, partner_regions, partner_annotated, partner_targets = partner
    choice_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 4)
    # Weights of the clip itself.
    mixup_weight = jax.random.beta(mixup_key, mixup, mixup) if mixup else jnp.float32(1)
    cutmix_weight = jax.random.beta(cutmix_key, cutmix, cutmix) if cutmix else jnp.float32(1)
    cutmix_probability = 1.0 if not mixup else 0.5 if cutmix else 0.0
    use_cutmix = jax.random.bernoulli(choice_key, cutmix_probability)
    box = random_box(box_key, *video.shape[1:3], cutmix_weight)  # [H, W]
    weight = jnp.where(use_cutmix, 1 - box.mean(), mixup_weight)
    pixel_weight = jnp.where(use_cutmix, 1.0 - box, mixup_weight)[..., None]  # [H, W, 1]
    video = pixel_weight * video + (1 - pixel_weight) * partner_video
    regions = jnp.where(
      use_cutmix, jnp.where(box, partner_regions, regions), regions | partner_regions
    )
    targets = weight * targets + (1 - weight) * partner_targets
    return video, regions, annotated & partner_annotated, targets

  clips = (video, regions, annotated, targets)
  return jax.vmap(mix_clip)(keys, clips, jax.tree.map(lambda x: x[::-1], clips))


def random_box(key: jax.Array, height: int, width: int, share: jax.Array) -> jax.Array:
  """Draws a box at a random center, clipped at the border.

  Args:
    key: a random key.
    height: H.
    width: W.
    share: f32[], the share of the area that stays outside the box, before clipping.

  Returns:
    bool[H, W], whether a pixel lies in the box.
  """
  row, column = jax.random.uniform(key, (2,))
  inside = []
  for size, center in ((height, row), (width, column)):
    half = jnp.sqrt(1 - share) * size / 2
    index = jnp.arange(size)
    start, end = jnp.round(center * size - half), jnp.round(center * size + half)
    inside.append((index >= start) & (index < end))
  return inside[0][:, None] & inside[1][None, :]
