"""Saliency: the shares of the input gradient on people, objects and background."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from zsar_jax.ops.masking import is_known
from zsar_jax.recipes.regions import OBJECT, PERSON


def region_shares(
  score: Callable[[jax.Array], jax.Array],
  video: jax.Array,
  regions: jax.Array,
  annotated: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Computes how much of the gradient of the predicted class's logit falls on each region.

  The gradient is that with respect to the pixels (Simonyan et al., arXiv 1312.6034), its magnitude
  summed over the colors. Frames without annotation, and frames whose people or objects are unknown,
  are left out.

  Args:
    score: a function from clips f32[B, T, H, W, 3] to logits f32[B, C] that treats each clip
      independently.
    video: f32[B, T, H, W, 3], normalized.
    regions: u8[B, T, H, W], region planes.
    annotated: bool[B, T].

  Returns:
    shares: f32[B, 3], the share of the magnitude on each of `predictions.PARTS`; NaN for a clip
      without annotated frames.
    areas: f32[B, 3], the share of the pixels of the same frames on each of them.
  """
  gradient = jax.grad(lambda video: score(video).max(axis=-1).sum())(video)
  magnitude = jnp.abs(gradient).sum(axis=-1)  # [B, T, H, W]
  person = (regions & PERSON) != 0
  object_ = ((regions & OBJECT) != 0) & ~person
  parts = jnp.stack([person, object_, ~(person | object_)], axis=-1)  # [B, T, H, W, 3]
  annotated_pixels = is_known(regions, PERSON | OBJECT) & annotated[:, :, None, None]
  parts = parts & annotated_pixels[..., None]

  def shares(weight: jax.Array) -> jax.Array:
    sums = (weight[..., None] * parts).sum(axis=(1, 2, 3))  # [B, 3]
    return sums / sums.sum(axis=-1, keepdims=True)

  return shares(magnitude), shares(jnp.ones_like(magnitude))
