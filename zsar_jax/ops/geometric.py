"""Mirroring clips, together with their region planes and, where it matters, their labels."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

NO_MIRROR = -1

_OPPOSITE = {'left': 'right', 'Left': 'Right', 'LEFT': 'RIGHT'}
_OPPOSITE |= {right: left for left, right in _OPPOSITE.items()}

# Words in sentences, snake_case and CamelCase, and no parts of words: 'bright', 'Lefty'.
_SIDE = re.compile(
  r'(?<![^\W\d_])(left|right)(?![a-z])|(?<![A-Z])(Left|Right)(?![a-z])'
  r'|(?<![^\W\d_])(LEFT|RIGHT)(?![^\W\d_])'
)


def mirror_labels(classes: Sequence[str]) -> np.ndarray:
  """The label that a clip of each class has after a left-right flip.

  Args:
    classes: the vocabulary, in label order.

  Returns:
    i32[C]: the class whose name has left and right exchanged; the class itself where its
    name has neither; `NO_MIRROR` where the exchanged name is not in the vocabulary, so that
    such a clip is never flipped.
  """
  place = {name: label for label, name in enumerate(classes)}
  swapped = [_SIDE.sub(lambda match: _OPPOSITE[match[0]], name) for name in classes]
  return np.array([place.get(name, NO_MIRROR) for name in swapped], np.int32)


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
    probability: the share of clips that are flipped.

  Returns:
    frames, regions and label, flipped or not.
  """
  flipped_label = jnp.asarray(mirrored)[label]
  do = jax.random.bernoulli(key, probability) & (flipped_label != NO_MIRROR)
  return (
    jnp.where(do, frames[:, :, ::-1], frames),
    jnp.where(do, regions[:, :, ::-1], regions),
    jnp.where(do, flipped_label, label),
  )
