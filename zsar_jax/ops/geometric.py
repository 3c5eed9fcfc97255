"""Mirrors clips together with their region planes and, where classes name sides, their labels."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# In place of a label: clips of this class are not flipped.
NO_MIRROR = -1

_OPPOSITE = {'left': 'right', 'Left': 'Right', 'LEFT': 'RIGHT'}
_OPPOSITE |= {right: left for left, right in _OPPOSITE.items()}

# Matches 'left' and 'right' in sentences, snake_case and CamelCase, but not inside other words such
# as 'bright' or 'Lefty'.
_SIDE = re.compile(
  r'(?<![^\W\d_])(left|right)(?![a-z])|(?<![A-Z])(Left|Right)(?![a-z])'
  r'|(?<![^\W\d_])(LEFT|RIGHT)(?![^\W\d_])'
)


def mirror_labels(classes: Sequence[str]) -> np.ndarray:
  """Returns the label that a clip of each class has after a left-right flip.

  Args:
    classes: the vocabulary, in label order.

  Returns:
    i32[C]: the label of the class whose name has left and right exchanged. This is the class itself
    if its name has neither, and `NO_MIRROR` if the vocabulary does not have the exchanged name.
  """
  labels = {name: label for label, name in enumerate(classes)}
  mirrored = [_SIDE.sub(lambda match: _OPPOSITE[match[0]], name) for name in classes]
  return np.array([labels.get(name, NO_MIRROR) for name in mirrored], np.int32)


def flip(
  key: jax.Array,
  frames: jax.Array,
  regions: jax.Array,
  label: jax.Array,
  mirrored: jax.Array,
  probability: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Mirrors one clip with the given probability.

  Args:
    key: the clip's random key.
    frames: [T, H, W, 3] of any dtype.
    regions: u8[T, H, W].
    label: i32[].
    mirrored: i32[C] from `mirror_labels`.
    probability: the probability of a flip.

  Returns:
    frames, regions and label, flipped or not.
  """
  flipped_label = jnp.asarray(mirrored)[label]
  flips = jax.random.bernoulli(key, probability) & (flipped_label != NO_MIRROR)
  return (
    jnp.where(flips, frames[:, :, ::-1], frames),
    jnp.where(flips, regions[:, :, ::-1], regions),
    jnp.where(flips, flipped_label, label),
  )
