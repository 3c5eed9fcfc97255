"""Parameters are drawn from the keys of Flax's own class."""

import jax
import numpy as np
from flax import nnx

from zsar_jax.models.parameter_keys import ParameterKeys


def test_keys_are_those_of_flax():
  @jax.jit
  def draw(key):
    ours, flax = ParameterKeys(key), nnx.Rngs(key)
    return [jax.random.key_data(rngs.params()) for rngs in (ours, flax) for _ in range(5)]

  keys = np.stack(draw(jax.random.key(3)))
  np.testing.assert_array_equal(keys[:5], keys[5:])
  assert len(np.unique(keys, axis=0)) == 5
