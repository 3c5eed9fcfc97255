"""Changes the order of a clip's frames: reversed, shuffled, or one frame repeated.

What a model still recognizes then, it recognizes without the order of the frames. `reverse` and
`shuffle` keep all frames. `freeze` keeps the middle one, as in SCUFO (Li et al., "Mitigating and
Evaluating Static Bias of Action Representations in the Background and the Foreground", ICCV 2023).
"""

import jax
import jax.numpy as jnp

from zsar_jax.recipes.language import LAYERS, Effect, Recipe

# A number for each effect, from which its random key is derived. A new effect takes a new number,
# so that the draws of the others stay as they are.
_KEY_NUMBERS = {
  'actorcutmix': 0,
  'be': 1,
  'fame': 2,
  'stillmix': 3,
  'stillmix_bank': 4,
  'freeze': 5,
  'reverse': 6,
  'shuffle': 7,
}


def frame_order(key: jax.Array, recipe: Recipe, num_frames: int) -> jax.Array:
  """Draws the order of a clip's frames under a recipe; `jax.vmap` it over keys.

  Args:
    key: the clip's random key.
    recipe: the recipe; only its `order_effects` are used.
    num_frames: the number of frames, T.

  Returns:
    i32[T], for each position the frame that is shown there.
  """
  order = permuted_frames(key, recipe, num_frames)
  if effect := recipe.effect('freeze'):
    order = jnp.where(draw_effect(key, effect)[1], order[num_frames // 2], order)
  return order


def permuted_frames(key: jax.Array, recipe: Recipe, num_frames: int) -> jax.Array:
  """Draws the order i32[T] of `frame_order` before `freeze`, which is a permutation."""
  order = jnp.arange(num_frames)
  if effect := recipe.effect('reverse'):
    order = jnp.where(draw_effect(key, effect)[1], order[::-1], order)
  if effect := recipe.effect('shuffle'):
    effect_key, applies = draw_effect(key, effect)
    order = jnp.where(applies, order[_draw_permutation(effect_key, num_frames)], order)
  return order


def draw_effect(key: jax.Array, effect: Effect) -> tuple[jax.Array, jax.Array]:
  """Derives from a clip's key the effect's key and whether the effect applies to the clip."""
  effect_key, clip_key = jax.random.split(
    jax.random.fold_in(key, len(LAYERS) + _KEY_NUMBERS[effect.name])
  )
  return effect_key, jax.random.bernoulli(clip_key, effect.probability)


def _draw_permutation(key: jax.Array, size: int) -> jax.Array:
  """Draws a permutation i32[size] that is not the identity, except for a single frame.

  It is uniform among all permutations, but for the identity, in whose place is a rotation by 1 to
  size - 1 places, each as likely.
  """
  identity = jnp.arange(size)
  if size < 2:
    return identity
  order_key, rotation_key = jax.random.split(key)
  order = jax.random.permutation(order_key, size)
  rotated = jnp.roll(identity, jax.random.randint(rotation_key, (), 1, size))
  return jnp.where((order == identity).all(), rotated, order)
