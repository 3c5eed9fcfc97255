"""Reads the weights of this project's own runs."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax.config import default_config
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import model_spec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime import trees
from zsar_jax.storage.files import read_file
from zsar_jax.storage.paths import as_path
from zsar_jax.weights import checkpoint
from zsar_jax.weights.formats import zsar
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.state import weight_entries


@dataclasses.dataclass(frozen=True)
class Run:
  """The newest weights of a run.

  Attributes:
    arrays: the parameters by path. Runs that average their weights give the average.
    spec: the model's description, from `zsar.to_json`.
    folder: where to look for the tokenizer's files.
    notes: facts about the weights that a user should know.
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
  # Not `build_model`: the way the run computed (dtype, attention) may not be available here.
  model = VideoModel(*model_spec(config))
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  params = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
    model.abstract_params,
  )
  template = functools.partial(weight_entries, params, device)
  state = jax.device_get(checkpoint.load_state(workdir, template, str(workdir)))
  params, notes = state['params'], []
  if state.get('averaged', 0) > 0:
    params = trees.merge(state['average'], params)
    notes.append(f'the average of {int(state["averaged"])} states')
  elif 'averaged' in state:
    notes.append('no state has joined the average yet: the weights of the last step')
  if config.eval.interpolate:
    notes.append(
      f'config.eval.interpolate of the run, {config.eval.interpolate:g}, is not applied: these are'
      ' the trained weights alone'
    )
  arrays = {
    trees.path_name(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  tokenizer = config.text.tokenizer
  # The built-in tokenizers 'clip' and 'words' have no files.
  folder = workdir if tokenizer in ('clip', 'words') else as_path(tokenizer, str(workdir))
  spec = zsar.to_json(model.spec, model.video, Preprocessing.from_config(config))
  return Run(arrays, spec, folder, tuple(notes))


def saved_config(workdir: pathlib.Path) -> ConfigDict:
  """Returns the default config with a run's model, view, text and optimizer settings.

  Of the run's other settings, only `steps` and `eval.interpolate` are taken.

  Raises:
    UserError: if the run's config.json is missing or damaged.
  """
  path = workdir / 'config.json'
  config = default_config()
  try:
    saved = json.loads(read_file(path))
    for section in ('model', 'view', 'text', 'optim'):
      config[section].update(saved[section])
    # Names code, which a run's file must not have executed.
    config.model.external = ''
    config.steps = saved.get('steps', config.steps)
    config.eval.interpolate = saved.get('eval', {}).get('interpolate', 0.0)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path}: does not describe the run's model ({error}); restore the file"
    ) from None
  return config
