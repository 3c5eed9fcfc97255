"""Parameters are drawn from the keys of Flax's own class."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zsar_jax.models.parameter_keys import ParameterKeys
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_model import VideoModel


def test_keys_are_those_of_flax():
  @jax.jit
  def draw(key):
    ours, flax = ParameterKeys(key), nnx.Rngs(key)
    return [jax.random.key_data(rngs.params()) for rngs in (ours, flax) for _ in range(5)]

  keys = np.stack(draw(jax.random.key(3)))
  np.testing.assert_array_equal(keys[:5], keys[5:])
  assert len(np.unique(keys, axis=0)) == 5


def test_a_network_counts_its_keys_while_it_is_traced():
  """An array that counts would be added to once for each parameter."""
  model = VideoModel(preset('tiny'), VideoSpec(2))
  equations = jax.make_jaxpr(model.init)(jax.random.key(0)).eqns
  added = [e.outvars[0].aval for e in equations if e.primitive.name == 'add']
  assert len(equations) > 100
  assert not [aval for aval in added if jnp.issubdtype(aval.dtype, jnp.integer)]
