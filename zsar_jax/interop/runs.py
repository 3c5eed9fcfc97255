"""Runs of this project as a source of weights."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax import checkpoint, trees
from zsar_jax.config import default_config
from zsar_jax.errors import UserError
from zsar_jax.interop import zsar
from zsar_jax.models.build import build_model


def read_run(
  workdir: pathlib.Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any], pathlib.Path]:
  """The newest weights of a run.

  Returns:
    The arrays by their paths, the model as `zsar.to_json` describes it, and the folder that the
    tokenizer may have come from.

  Raises:
    UserError: for a folder without config.json, or with a damaged checkpoint.
  """
  config = saved_config(workdir)
  model = build_model(config)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  template = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
    model.abstract_params,
  )
  params = checkpoint.load_params(workdir, template, str(workdir))
  arrays = {
    trees.path_name(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  tokenizer = config.text.tokenizer
  # What the names 'clip' and 'words' stand for has no files.
  folder = workdir if tokenizer in ('clip', 'words') else pathlib.Path(tokenizer)
  return arrays, zsar.to_json(model.spec, model.video), folder


def saved_config(workdir: pathlib.Path) -> ConfigDict:
  """What a run's config says of its model, clips, texts and optimizer, over today's defaults.

  Raises:
    UserError: if it is missing or damaged.
  """
  path = workdir / 'config.json'
  config = default_config()
  try:
    saved = json.loads(path.read_text())
    for section in ('model', 'view', 'text', 'optim'):
      config[section].update(saved[section])
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path}: says not of which model the run is ({error}); restore the file'
    ) from None
  return config
