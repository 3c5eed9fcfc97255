"""Runs of this project as a source of weights."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax.config import default_config
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import model_spec
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime import trees
from zsar_jax.training import optim
from zsar_jax.weights import checkpoint
from zsar_jax.weights.formats import zsar
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.state import WEIGHTS, State, init_state


@dataclasses.dataclass(frozen=True)
class Run:
  """The newest weights of a run.

  Attributes:
    arrays: by their paths; where the run averages its weights, the average.
    spec: the model, as `zsar.to_json` describes it.
    folder: where the tokenizer may have come from.
    notes: what a user should know.
  """

  arrays: dict[str, np.ndarray]
  spec: dict[str, Any]
  folder: pathlib.Path
  notes: tuple[str, ...]


def read_run(workdir: pathlib.Path) -> Run:
  """Reads the newest weights of a run.

  Raises:
    UserError: for a folder without config.json, or with a damaged checkpoint.
  """
  config = saved_config(workdir)
  # How it was computed does not matter here, and need not be possible here.
  model = VideoModel(*model_spec(config))
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  template = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
    weight_shapes(config, model),
  )
  state = jax.device_get(checkpoint.load_state(workdir, template, str(workdir)))
  params, notes = state['params'], []
  if state.get('averaged', 0) > 0:
    params = trees.merge(state['average'], params)
    notes.append(f'the average of {int(state["averaged"])} states')
  elif 'averaged' in state:
    notes.append('no state has joined the average yet: the weights as they are')
  if config.eval.interpolate:
    notes.append(
      f'config.eval.interpolate of the run, {config.eval.interpolate:g}, is not applied: the'
      ' trained weights by themselves'
    )
  arrays = {
    trees.path_name(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  tokenizer = config.text.tokenizer
  # What the names 'clip' and 'words' stand for has no files.
  folder = workdir if tokenizer in ('clip', 'words') else pathlib.Path(tokenizer)
  spec = zsar.to_json(model.spec, model.video, Preprocessing.from_config(config))
  return Run(arrays, spec, folder, tuple(notes))


def weight_shapes(config: ConfigDict, model: VideoModel) -> State:
  """The shapes of what of a run's state bears on its weights."""
  optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)

  def init(params: Params) -> State:
    state = init_state(optimizer, trained, config.optim.average_every > 0, params)
    return {name: state[name] for name in WEIGHTS if name in state}

  return jax.eval_shape(init, model.abstract_params)


def saved_config(workdir: pathlib.Path) -> ConfigDict:
  """What a run's config says of its model, clips, texts and optimizer, over today's defaults.

  Of its evaluation it says `interpolate` alone.

  Raises:
    UserError: if it is missing or damaged.
  """
  path = workdir / 'config.json'
  config = default_config()
  try:
    saved = json.loads(path.read_text())
    for section in ('model', 'view', 'text', 'optim'):
      config[section].update(saved[section])
    config.steps = saved.get('steps', config.steps)
    config.eval.interpolate = saved.get('eval', {}).get('interpolate', 0.0)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path}: says not of which model the run is ({error}); restore the file'
    ) from None
  return config
