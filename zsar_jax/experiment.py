"""Runs one experiment: from a config to a folder with its checkpoints, predictions and results."""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.open_files import raise_open_file_limit
from zsar_jax.errors import UserError
from zsar_jax.evaluation.eval_mode import evaluate
from zsar_jax.evaluation.run_results import Results, save_results
from zsar_jax.pantomime import worlds
from zsar_jax.runtime import agreement, distributed
from zsar_jax.storage.files import check_writable
from zsar_jax.training import loop
from zsar_jax.training.goodput import Goodput


def run(
  config: ConfigDict, workdir: pathlib.Path, mode: str = 'train', goodput: Goodput | None = None
) -> Results:
  """Trains and evaluates, or only evaluates, and saves predictions and results.

  Args:
    config: the config.
    workdir: the run's folder; a run in it is continued.
    mode: 'train' or 'eval'.
    goodput: the clock of a training; None for one that starts now.

  Raises:
    UserError: if config, data and workdir do not fit together.
    Interrupted: after Ctrl-C or SIGTERM, with a checkpoint written.
  """
  config_lib.validate(config)
  if mode == 'train' and config.model.external:
    raise UserError(
      "config.model.external: an external model is not trained here; take mode 'eval' (zsar eval),"
      " or set it to ''"
    )
  agreement.check_command(settings(config, mode))
  raise_open_file_limit(config.data.workers)
  if distributed.is_main():
    check_writable(workdir, '--workdir')
  build_embedded_data(config, mode)
  if mode == 'train':
    predictions = loop.train(config, workdir, goodput)
  else:
    predictions = evaluate(config, workdir)
  return save_results(predictions, config.eval.groups, workdir)


def build_embedded_data(config: ConfigDict, mode: str) -> None:
  """Builds the data set Pantomime if `config.data.embedded` asks for it and it is not there.

  Args:
    config: the config.
    mode: 'eval' leaves out the training clips.
  """
  if config.data.embedded:
    references = [config.data.train, *config.eval.datasets.values()]
    names = [reference.dataset for reference in references if reference.dataset]
    distributed.run_main_first(lambda: worlds.build_worlds(config.data.dir, names))


def settings(config: ConfigDict, mode: str) -> dict[str, Any]:
  """Returns the settings that must be equal in all processes, as JSON values by flag."""
  return {'config': json.loads(config_lib.to_json(config)), '--mode': mode}
