"""The weights that training begins with, and those that are evaluated."""

import pathlib
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import optim, sharding, trees
from zsar_jax.checkpoint import has_checkpoint, load_meta, load_state
from zsar_jax.errors import UserError
from zsar_jax.interop.load import load_weights
from zsar_jax.models.video_clip import Params, VideoModel
from zsar_jax.step import WEIGHTS, State, init_state
from zsar_jax.writers import say

# The training classes in the JSON object that is saved with a checkpoint.
SEEN_CLASSES = 'seen_classes'


class Start:
  """The weights of `config.model.init_from`, read when they are needed."""

  def __init__(self, config: ConfigDict, model: VideoModel, template: Params):
    """Sets what to read.

    Args:
      config: a validated config.
      model: the model.
      template: its parameters' ShapeDtypeStructs, with shardings.

    Raises:
      UserError: where weights are needed and none are named.
    """
    self._model = model
    self._config = config.model
    self._template = template
    for field in ('eval.interpolate', 'optim.distillation'):
      section, name = field.split('.')
      if config[section][name] and not config.model.init_from:
        raise UserError(
          f'config.{field} needs the weights that training began with; set config.model.init_from'
        )

  def params(self, key: jax.Array) -> Params:
    """The parameters to begin with, on the devices: what was not read is drawn from `key`."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    if not self._config.init_from:
      return jax.jit(self._model.init, out_shardings=shardings)(key)
    found = self._read(self._model, say_what=True)
    if any(leaf is None for leaf in jax.tree.leaves(found, is_leaf=lambda leaf: leaf is None)):
      found = trees.merge(found, jax.device_get(jax.jit(self._model.init)(key)))
    return jax.tree.map(sharding.place_whole, found, shardings)

  def known(self) -> Params:
    """The parameters that were read, on the devices, and None for the others."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    found = self._read(self._model)
    return jax.tree.map(
      lambda leaf, where: None if leaf is None else sharding.place_whole(leaf, where),
      found,
      shardings,
      is_leaf=lambda leaf: leaf is None,
    )

  def teacher(self, teacher: VideoModel) -> Params:
    """The parameters of the CLIP that distillation stays close to."""
    found = self._read(teacher)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    return trees.map_with_path(
      lambda path, leaf: sharding.place_whole(leaf, _at(shardings, path)), found
    )

  def _read(self, model: VideoModel, say_what: bool = False) -> Params:
    config = self._config
    # Of another model than the one that is trained, such as the teacher, no part may be missing.
    allowed = config.allow_missing if model is self._model else ()
    params, report = load_weights(
      config.init_from,
      model,
      field='config.model.init_from',
      tokens_from=config.tokens_from,
      allow_missing=allowed,
      allow_left_over=config.allow_left_over,
    )
    if say_what:
      say(report.describe())
    return params


def evaluated(state: State, start: Start, share: float) -> Params:
  """The parameters that are evaluated.

  Args:
    state: the training state, or the part of it that bears on its weights: of those that are
      averaged the mean counts, where there is one.
    start: the weights that training began with.
    share: their share (Open-VCLIP, arXiv 2302.00624, section 3.3).
  """
  params = state['params']
  if 'average' in state and jax.device_get(state['averaged']):
    params = trees.merge(state['average'], params)
  if not share:
    return params

  def between(trained: jax.Array, first: jax.Array | None) -> jax.Array:
    return trained if first is None else (1 - share) * trained + share * first

  with jax.transfer_guard('allow'):
    return jax.tree.map(between, params, start.known())


def load_weights_of_state(
  run: pathlib.Path, config: ConfigDict, model: VideoModel, mesh: Mesh
) -> State:
  """The part of a run's newest state that bears on its weights; see `evaluated`."""
  optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
  averaging = config.optim.average_every > 0

  def init(params: Params) -> State:
    state = init_state(optimizer, trained, averaging, params)
    return {name: state[name] for name in WEIGHTS if name in state}

  shapes = jax.eval_shape(init, model.abstract_params)
  template = sharding.sharded_shapes(shapes, mesh, config.mesh.fsdp_min_bytes)
  return load_state(run, template, '--workdir')


def seen_before(config: ConfigDict) -> list[str] | None:
  """The classes that `config.model.init_from` was trained on; None where nobody knows."""
  run = pathlib.Path(config.model.init_from)
  if not (run.is_dir() and has_checkpoint(run)):
    return None
  return load_meta(run, 'config.model.init_from').get(SEEN_CLASSES)


def _at(tree: Any, path: str) -> Any:
  for key in path.split('/'):
    tree = tree[key]
  return tree
