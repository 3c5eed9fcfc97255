"""Losses against static bias: on clips without people, and on clips without movement.

Choi et al., "Why Can't I Dance in the Mall? Learning to Mitigate Scene Bias in Action Recognition"
(SDN, NeurIPS 2019): where people are painted over, the model should not know the action. Fioresi et
al., "ALBAR: Adversarial Learning approach to mitigate Biases in Action Recognition" (ICLR 2025):
nor should it from one frame.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from zsar_jax.recipes.regions import PERSON, PERSON_BOX


def fill_people(video: jax.Array, regions: jax.Array) -> jax.Array:
  """Paints the people of one clip over, each frame's in that frame's mean color (SDN).

  Args:
    video: f32[T, H, W, 3].
    regions: u8[T, H, W]: people are their boxes, or their shapes in a clip without boxes.

  Returns:
    f32[T, H, W, 3].
  """
  color = video.mean((1, 2), keepdims=True)  # [T, 1, 1, 3]
  return jnp.where(_people(regions)[..., None], color, video)


def detected(regions: jax.Array, annotated: jax.Array, share: float = 0.7) -> jax.Array:
  """Whether there are people in at least a share of one clip's frames (SDN counts only such clips).

  Args:
    regions: u8[T, H, W], see `fill_people`.
    annotated: bool[T]; a frame that nobody annotated has no people.
    share: from 0 to 1.

  Returns:
    bool[].
  """
  # 0.55 * 20 is a little more than 11 in floating point.
  least = math.ceil(share * len(annotated) - 1e-6)
  return (_people(regions).any((1, 2)) & annotated).sum() >= least


def _people(regions: jax.Array) -> jax.Array:
  """bool[T, H, W]: boxes of people, or their shapes in a clip without boxes."""
  boxes = (regions & PERSON_BOX) != 0
  return jnp.where(boxes.any(), boxes, (regions & PERSON) != 0)


def confusion(logits: jax.Array, counted: jax.Array) -> jax.Array:
  """SDN's loss on clips whose people are painted over: minus the entropy of the prediction.

  The least, -log C, is reached where every class is equally likely.

  Args:
    logits: f32[B, C].
    counted: bool[B], the clips that count, see `detected`.

  Returns:
    f32[], the mean over the clips that count; 0 without any.
  """
  logits = jnp.where(counted[:, None], logits, 0)
  return (counted * _minus_entropy(logits)).sum() / jnp.maximum(counted.sum(), 1)


def _minus_entropy(logits: jax.Array) -> jax.Array:
  """The sum of p log p over the classes: f32[B, C] to f32[B]."""
  log_probabilities = jax.nn.log_softmax(logits)
  return (jnp.exp(log_probabilities) * log_probabilities).sum(-1)


def still_clip(key: jax.Array, video: jax.Array) -> jax.Array:
  """One random frame of a clip, f32[T, H, W, 3], in the place of each of its frames (ALBAR)."""
  frame = jax.random.randint(key, (), 0, video.shape[0])
  return jnp.broadcast_to(video[frame], video.shape)


def static_losses(
  score: Callable[[jax.Array], jax.Array], still: jax.Array, targets: jax.Array
) -> dict[str, jax.Array]:
  """ALBAR's three terms on still clips; the caller weighs them.

  The gradient of 'gradient' with respect to the parameters of `score` is of second order.

  Args:
    score: f32[B, T, H, W, 3] to logits, f32[B, C]; those of a clip depend on that clip alone.
    still: f32[B, T, H, W, 3], see `still_clip`.
    targets: f32[B, C], a distribution over the classes for each clip.

  Returns:
    Three f32[], means over the clips:
    'static', cross-entropy with the targets, which is to be SUBTRACTED from the loss: a model
      should fail on a still clip;
    'entropy', minus the entropy of the prediction: it should fail by not knowing;
    'gradient', the L2 norm of the gradient of the sum of a clip's logits with respect to its
      pixels: they should not matter.
  """
  logits, pull_back = jax.vjp(score, still)
  (gradient,) = pull_back(jnp.ones_like(logits))
  # A norm whose own gradient is 0 instead of NaN where the norm is 0.
  norms = jax.vmap(lambda clip: optax.safe_norm(clip.ravel(), 0.0))(gradient)
  return {
    'static': optax.softmax_cross_entropy(logits, targets).mean(),
    'entropy': _minus_entropy(logits).mean(),
    'gradient': norms.mean(),
  }
