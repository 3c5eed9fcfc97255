"""The random keys that a network's parameters are drawn from."""

import jax
from flax import nnx


class ParameterKeys(nnx.Rngs):
  """The keys of `nnx.Rngs(key).params`, counted with a Python number.

  `nnx.Rngs` counts with an array. While JAX traces, each key makes Flax ask for the sharding of
  that array, and JAX then searches everything traced so far to describe the array in an error that
  Flax ignores. For a ViT-B this takes five times as long as the rest of the initialization.
  """

  def __init__(self, key: jax.Array):
    """Takes the key that all others are derived from."""
    super().__init__()
    self._key, self._count = nnx.data(key), 0

  def params(self) -> jax.Array:
    """Returns the next key."""
    self._count += 1
    return jax.random.fold_in(self._key, self._count - 1)
