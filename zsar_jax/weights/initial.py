"""The weights that training begins with, and those that are evaluated."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.errors import UserError
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime import agreement, sharding, trees
from zsar_jax.runtime.progress import log
from zsar_jax.training import optim
from zsar_jax.weights import runs
from zsar_jax.weights.checkpoint import has_checkpoint, latest_step, load_meta, load_state
from zsar_jax.weights.formats.load import load_weights
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.state import WEIGHTS, State, init_state

# The training classes in the JSON object that is saved with a checkpoint.
SEEN_CLASSES = 'seen_classes'


class InitialWeights:
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
    self._usage = Preprocessing.from_config(config)
    self._template = template
    for field in ('eval.interpolate', 'optim.distillation'):
      section, name = field.split('.')
      if config[section][name] and not config.model.init_from:
        raise UserError(
          f'config.{field} needs the weights that training began with; set config.model.init_from'
        )

  def source_step(self) -> int | None:
    """What tells whether a run, of which the newest checkpoint is read, has gone on since."""
    run = pathlib.Path(self._config.init_from)
    return latest_step(run) if self._config.init_from and run.is_dir() else None

  def params(self, key: jax.Array) -> Params:
    """The parameters to begin with, on the devices: what was not read is drawn from `key`."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    if not self._config.init_from:
      return jax.jit(self._model.init, out_shardings=shardings)(key)
    found = self._read(self._model, self._config.allow_missing, say_what=True)
    if any(leaf is None for leaf in jax.tree.leaves(found, is_leaf=lambda leaf: leaf is None)):
      whole = sharding.replicated(jax.tree.leaves(shardings)[0].mesh)
      drawn = jax.jit(self._model.init, out_shardings=whole)(key)
      found = trees.merge(found, jax.device_get(drawn))
    return jax.tree.map(sharding.put_global, found, shardings)

  def load_all(self) -> Params:
    """The parameters, on the devices, of which none may be missing."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    return jax.tree.map(sharding.put_global, self._read(self._model, (), say_what=True), shardings)

  def load_available(self) -> Params:
    """The parameters that were read, on the devices, and None for the others."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    found = self._read(self._model, self._config.allow_missing)
    return jax.tree.map(
      lambda leaf, where: None if leaf is None else sharding.put_global(leaf, where),
      found,
      shardings,
      is_leaf=lambda leaf: leaf is None,
    )

  def teacher(self, teacher: VideoModel) -> Params:
    """The parameters of the CLIP that distillation stays close to."""
    # What the weights have besides CLIP is of no use to it.
    found = self._read(teacher, (), left_over=('.*',))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._template)
    return trees.map_with_path(
      lambda path, leaf: sharding.put_global(leaf, _at(shardings, path)), found
    )

  def _read(
    self,
    model: VideoModel,
    missing: Sequence[str],
    left_over: Sequence[str] | None = None,
    say_what: bool = False,
  ) -> Params:
    config = self._config
    params, report = load_weights(
      config.init_from,
      model,
      field='config.model.init_from',
      tokens_from=config.tokens_from,
      allow_missing=missing,
      allow_left_over=config.allow_left_over if left_over is None else left_over,
      preprocessing=self._usage,
    )
    agreement.check_files(lambda: {'config.model.init_from': agreement.tree_checksum(params)})
    if say_what:
      log(report.describe())
    return params


def weights_for_evaluation(state: State, start: InitialWeights, share: float) -> Params:
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
    return jax.tree.map(between, params, start.load_available())


def load_weight_entries(
  run: pathlib.Path, config: ConfigDict, model: VideoModel, mesh: Mesh
) -> State:
  """The part of a run's newest state that bears on its weights; see `weights_for_evaluation`.

  What the run trained and averaged, its own config says; what only training uses is left out.
  """
  saved = runs.saved_config(run).optim
  video = dataclasses.replace(model.video, residual_distillation=saved.distillation > 0)
  trained_model = VideoModel(model.spec, video)
  optimizer, trained = optim.make_optimizer(saved, trained_model.abstract_params, config.steps)

  def init(params: Params) -> State:
    state = init_state(optimizer, trained, saved.average_every > 0, params)
    return {name: state[name] for name in WEIGHTS if name in state}

  shapes = jax.eval_shape(init, trained_model.abstract_params)
  template = sharding.sharded_shapes(shapes, mesh, config.mesh.fsdp_min_bytes)
  state = load_state(run, template, '--workdir')
  for name in ('params', 'average'):
    if name in state:
      state[name] = {part: state[name][part] for part in model.abstract_params}
  return state


def source_seen_classes(config: ConfigDict) -> list[str] | None:
  """The classes that `config.model.init_from` was trained on; None where nobody knows."""
  run = pathlib.Path(config.model.init_from)
  if not (run.is_dir() and has_checkpoint(run)):
    return None
  return run_seen_classes(run, 'config.model.init_from')


def run_seen_classes(run: pathlib.Path, field: str) -> list[str] | None:
  """The classes that a run of this project was trained on, as far as its checkpoint says.

  Args:
    run: its workdir, which holds a checkpoint.
    field: where `run` comes from, for errors.
  """
  seen = load_meta(run, field).get(SEEN_CLASSES)
  if seen is None:
    return None
  if not (isinstance(seen, list) and all(isinstance(name, str) for name in seen)):
    raise UserError(
      f'{field}: the checkpoint in {run} has no list of class names in {SEEN_CLASSES}'
    )
  return seen


def _at(tree: Any, path: str) -> Any:
  for key in path.split('/'):
    tree = tree[key]
  return tree
