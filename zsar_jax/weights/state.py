"""The training state: the arrays that a step changes and that a checkpoint holds."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Sharding

from zsar_jax.models.video_model import Params
from zsar_jax.runtime import trees

# {params, opt, step}. Runs that average their weights also have {average, averaged}: the running
# mean of the trained parameters (None for frozen ones), and the number of states in that mean.
State = dict[str, Any]


def init_state(
  optimizer: optax.GradientTransformation, trained: Any, averaging: bool, params: Params
) -> State:
  """Returns the state before the first step.

  Args:
    optimizer: for the trained part of the parameters.
    trained: a tree of bools, True where a parameter is trained.
    averaging: whether the run averages its weights.
    params: all parameters.
  """
  part, _ = trees.partition(params, trained)
  state = {'params': params, 'opt': optimizer.init(part), 'step': jnp.zeros((), jnp.int32)}
  if averaging:
    state['average'] = jax.tree.map(jnp.zeros_like, part)
    state['averaged'] = jnp.zeros((), jnp.int32)
  return state


def weight_entries(params: Params, scalar: Sharding, saved: Collection[str]) -> State:
  """Returns the shapes of the state entries that determine a run's weights.

  These are `params`, and `average` and `averaged` where the checkpoint has them. The optimizer's
  state and the step are left out, so nothing here depends on how the run was trained.

  Args:
    params: ShapeDtypeStructs of all parameters, with shardings.
    scalar: the sharding of scalars.
    saved: the paths of the arrays in the checkpoint, such as 'params/logit_scale'.
  """
  entries: State = {'params': params}
  if 'averaged' in saved:
    entries['average'] = trees.map_with_path(
      lambda path, leaf: leaf if f'average/{path}' in saved else None, params
    )
    entries['averaged'] = jax.ShapeDtypeStruct((), jnp.int32, sharding=scalar)
  return entries
