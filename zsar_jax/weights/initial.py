"""Reads the weights that training starts from, and selects those that are evaluated."""

import dataclasses
import functools
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
from zsar_jax.storage import buckets
from zsar_jax.storage.paths import HUB_PREFIX, as_path
from zsar_jax.weights import runs
from zsar_jax.weights.checkpoint import has_checkpoint, latest_step, load_meta, load_state
from zsar_jax.weights.formats.load import load_weights
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.state import State, weight_entries

# The key of the training classes in the JSON object that is saved with a checkpoint.
SEEN_CLASSES = 'seen_classes'


class InitialWeights:
  """The weights that `config.model.init_from` names, read on request."""

  def __init__(self, config: ConfigDict, model: VideoModel, template: Params):
    """Checks that weights are named where the config needs some; reads nothing yet.

    Args:
      config: a validated config.
      model: the model.
      template: ShapeDtypeStructs of its parameters, with shardings.

    Raises:
      UserError: if weights are needed and none are named.
    """
    self._model = model
    self._config = config.model
    self._preprocessing = Preprocessing.from_config(config)
    self._shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
    for field in ('eval.interpolate', 'optim.distillation'):
      section, name = field.split('.')
      if config[section][name] and not config.model.init_from:
        raise UserError(
          f'config.{field} needs the weights that training began with; set config.model.init_from'
        )

  def source_step(self) -> int | None:
    """Returns the newest step of the run that the weights come from; None for other sources.

    The newest checkpoint of a run is read, so a changed step means changed weights.
    """
    run = source_folder(self._config.init_from)
    return None if run is None else latest_step(run, 'config.model.init_from')

  def load_or_init(self, key: jax.Array) -> Params:
    """Returns the parameters that training starts from, on the devices.

    Parameters that the source lacks, or all without a source, are drawn from `key`.
    """
    if not self._config.init_from:
      return jax.jit(self._model.init, out_shardings=self._shardings)(key)
    params = self._read(self._model, self._config.allow_missing, describe=True)
    missing = jax.tree.map(lambda leaf: leaf is None, params, is_leaf=lambda leaf: leaf is None)
    if any(jax.tree.leaves(missing)):
      replicated = sharding.replicated(jax.tree.leaves(self._shardings)[0].mesh)

      def draw_missing(key: jax.Array) -> Params:
        # XLA takes a minute on one core to compile the drawing of a whole ViT-B for a GPU.
        return trees.partition(self._model.init(key), missing)[0]

      drawn = jax.jit(draw_missing, out_shardings=replicated)(key)
      params = trees.merge(params, jax.device_get(drawn))
    return jax.tree.map(sharding.put_global, params, self._shardings)

  def load_all(self) -> Params:
    """Returns the parameters, on the devices; a missing one is an error."""
    params = self._read(self._model, (), describe=True)
    return jax.tree.map(sharding.put_global, params, self._shardings)

  def load_available(self) -> Params:
    """Returns the parameters, on the devices, with None for those that the source lacks."""
    params = self._read(self._model, self._config.allow_missing)
    return jax.tree.map(
      lambda leaf, target: None if leaf is None else sharding.put_global(leaf, target),
      params,
      self._shardings,
      is_leaf=lambda leaf: leaf is None,
    )

  def load_teacher(self, teacher: VideoModel) -> Params:
    """Returns the parameters of the CLIP model that distillation stays close to."""
    # The source may hold more than CLIP, such as a temporal head; the teacher ignores it.
    params = self._read(teacher, (), left_over=('.*',))
    return trees.map_with_path(
      lambda path, leaf: sharding.put_global(leaf, _at(self._shardings, path)), params
    )

  def _read(
    self,
    model: VideoModel,
    missing: Sequence[str],
    left_over: Sequence[str] | None = None,
    describe: bool = False,
  ) -> Params:
    """Reads parameters onto the host, with None for those that the source lacks.

    Args:
      model: the model.
      missing: regexes of parameters that may be missing.
      left_over: regexes of keys that may be left over; None for `config.model.allow_left_over`.
      describe: whether to log what was read.
    """
    config = self._config
    params, report = load_weights(
      config.init_from,
      model,
      field='config.model.init_from',
      tokens_from=config.tokens_from,
      allow_missing=missing,
      allow_left_over=config.allow_left_over if left_over is None else left_over,
      preprocessing=self._preprocessing,
    )
    agreement.check_files(lambda: {'config.model.init_from': agreement.tree_checksum(params)})
    if describe:
      log(report.describe())
    return params


def weights_for_evaluation(state: State, initial: InitialWeights, share: float) -> Params:
  """Returns the parameters to evaluate.

  These are the averaged parameters if the run has averaged any, or else the current ones, mixed
  with those that training started from.

  Args:
    state: the training state, or its entries from `weight_entries`.
    initial: the weights that training started from.
    share: the share of `initial` in the mixture (Open-VCLIP, arXiv 2302.00624, section 3.3).
  """
  params = state['params']
  if 'average' in state and jax.device_get(state['averaged']):
    params = trees.merge(state['average'], params)
  if not share:
    return params

  def interpolate(trained: jax.Array, start: jax.Array | None) -> jax.Array:
    return trained if start is None else (1 - share) * trained + share * start

  with jax.transfer_guard('allow'):
    return jax.tree.map(interpolate, params, initial.load_available())


def load_weight_entries(
  run: pathlib.Path, config: ConfigDict, model: VideoModel, mesh: Mesh
) -> State:
  """Reads what `weights_for_evaluation` needs of a run's newest state.

  Args:
    run: its workdir.
    config: the config of the evaluation.
    model: the model to evaluate. The networks of distillation, which only training uses, are left
      out if it has none.
    mesh: the devices.
  """
  distilled = runs.saved_config(run).optim.distillation > 0
  video = dataclasses.replace(model.video, residual_distillation=distilled)
  trained_model = VideoModel(model.spec, video)
  params = sharding.sharded_shapes(trained_model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  template = functools.partial(weight_entries, params, sharding.replicated(mesh))
  state = load_state(run, template, '--workdir')
  for name in ('params', 'average'):
    if name in state:
      state[name] = {part: state[name][part] for part in model.abstract_params}
  return state


def source_folder(source: str) -> pathlib.Path | None:
  """Returns the folder that `config.model.init_from` names; None for a file, a hub name or ''."""
  if not source or source.startswith(HUB_PREFIX):
    return None
  path = as_path(source, 'config.model.init_from')
  with buckets.reporting_errors(path, 'config.model.init_from'):
    return path if path.is_dir() else None


def source_seen_classes(source: str) -> list[str] | None:
  """Returns the training classes of the weights that `config.model.init_from` names.

  None if they are not recorded.
  """
  run = source_folder(source)
  if run is None or not has_checkpoint(run, 'config.model.init_from'):
    return None
  return run_seen_classes(run, 'config.model.init_from')


def run_seen_classes(run: pathlib.Path, field: str) -> list[str] | None:
  """Returns the training classes of a run of this project; None if they are not recorded.

  Args:
    run: its workdir, which holds a checkpoint.
    field: the setting that `run` comes from, for errors.
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
