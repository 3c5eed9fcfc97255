"""Where a model looks: how much of the input gradient falls on people, objects and background."""

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
  """Shares out the gradient of the predicted class's logit over the regions.

  The gradient with respect to the pixels, as in Simonyan et al. (arXiv 1312.6034), its magnitude
  summed over the colors. Frames that nobody annotated have no part in it, nor have those of which
  people or objects are unknown.

  Args:
    score: from f32[B, T, H, W, 3] to logits f32[B, C], each clip by itself.
    video: f32[B, T, H, W, 3], normalized.
    regions: u8[B, T, H, W], region planes.
    annotated: bool[B, T].

  Returns:
    shares: f32[B, 3], of the magnitude on each of `predictions.PARTS`; NaN where no frame is
      annotated.
    areas: f32[B, 3], of the pixels that each of them has in the same frames.
  """
  gradient = jax.grad(lambda video: score(video).max(axis=-1).sum())(video)
  magnitude = jnp.abs(gradient).sum(axis=-1)  # [B, T, H, W]
  person = (regions & PERSON) != 0
  thing = ((regions & OBJECT) != 0) & ~person
  parts = jnp.stack([person, thing, ~(person | thing)], axis=-1)  # [B, T, H, W, 3]
  known = is_known(regions, PERSON | OBJECT) & annotated[:, :, None, None]
  parts = parts & known[..., None]

  def shares(weight: jax.Array) -> jax.Array:
    sums = (weight[..., None] * parts).sum(axis=(1, 2, 3))  # [B, 3]
    return sums / sums.sum(axis=-1, keepdims=True)

  return shares(magnitude), shares(jnp.ones_like(magnitude))
