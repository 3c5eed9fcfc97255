"""The training state."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime import sharding, trees

# {params, opt, step}, and where weights are averaged {average, averaged}: the mean so far of the
# trained parameters and the number of states that it is of.
State = dict[str, Any]

# What of the state bears on its weights.
WEIGHTS = ('params', 'average', 'averaged')


def init_state(
  optimizer: optax.GradientTransformation, trained: Any, averaging: bool, params: Params
) -> State:
  """The state before the first step."""
  part, _ = trees.partition(params, trained)
  state = {'params': params, 'opt': optimizer.init(part), 'step': jnp.zeros((), jnp.int32)}
  if averaging:
    state['average'] = jax.tree.map(jnp.zeros_like, part)
    state['averaged'] = jnp.zeros((), jnp.int32)
  return state


def sharded_state(
  config: ConfigDict,
  model: VideoModel,
  optimizer: optax.GradientTransformation,
  trained: Any,
  mesh: Mesh,
) -> tuple[Callable[[Params], State], State]:
  """The function that makes the first state of parameters, and the state's sharded shapes."""
  init = functools.partial(init_state, optimizer, trained, config.optim.average_every > 0)
  shapes = jax.eval_shape(init, model.abstract_params)
  return init, sharding.sharded_shapes(shapes, mesh, config.mesh.fsdp_min_bytes)
