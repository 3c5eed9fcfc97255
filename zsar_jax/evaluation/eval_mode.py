"""Evaluates existing weights without training: `--mode=eval`."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.errors import UserError
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.scoring import ModelScorer
from zsar_jax.models.from_config import build_model
from zsar_jax.runtime import agreement, distributed, sharding
from zsar_jax.runtime.files import make_folder
from zsar_jax.runtime.progress import log
from zsar_jax.text.classes import ClassTexts
from zsar_jax.weights import run_config, runs
from zsar_jax.weights.checkpoint import has_checkpoint
from zsar_jax.weights.formats.preprocessing import Preprocessing, describe_differences
from zsar_jax.weights.initial import (
  InitialWeights,
  load_weight_entries,
  run_seen_classes,
  source_seen_classes,
  weights_for_evaluation,
)


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Evaluates the newest checkpoint of `workdir`, or else the weights of `config.model.init_from`.

  Raises:
    UserError: there are no weights, they belong to another model, or they were trained on classes
      of the evaluation.
  """
  agreement.check_workdir(workdir)
  if (has_checkpoint(workdir) or config.model.init_from) and distributed.is_main():
    for folder in (workdir, workdir / 'predictions'):
      make_folder(folder, '--workdir')
  mesh = sharding.make_mesh(config.mesh)
  model = build_model(config, mesh)
  texts = ClassTexts.from_config(config, model)
  scorer = ModelScorer(model, texts, mesh, config.mesh.fsdp_min_bytes)
  template = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  initial = InitialWeights(config, model, template)

  if has_checkpoint(workdir):
    _check_run(config, workdir)
    evaluator = Evaluator(config, scorer, mesh, run_seen_classes(workdir, '--workdir'))
    agreement.check_files(evaluator.identity)
    state = load_weight_entries(workdir, config, model, mesh)
    params: Any = weights_for_evaluation(state, initial, config.eval.interpolate)
  elif config.model.init_from:
    _check_initial_weights(config, workdir)
    evaluator = Evaluator(config, scorer, mesh, source_seen_classes(config))
    agreement.check_files(evaluator.identity)
    params = initial.load_all()
  else:
    raise UserError(
      f'--workdir: {workdir} holds no checkpoint of this project; name the --workdir of a run that'
      ' was trained, or weights in config.model.init_from'
    )
  return evaluator.run(params)


def _check_run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Checks that the config describes the run's model; logs differences in preprocessing."""
  fields: tuple[str, ...] = run_config.MODEL_FIELDS
  if config.eval.interpolate:
    # The weights to interpolate with must be those that the run started from.
    fields += ('model.init_from',)
  run_config.check_same_run(config, workdir / 'config.json', fields)
  trained = Preprocessing.from_config(runs.saved_config(workdir))
  for difference in describe_differences(trained, Preprocessing.from_config(config)):
    log(difference)


def _check_initial_weights(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Checks that `config.model.init_from` can be evaluated with this config."""
  if config.eval.interpolate:
    raise UserError(
      f'config.eval.interpolate: {workdir} holds no trained weights to mix with those of'
      ' config.model.init_from; name the --workdir of a run'
    )
  saved = pathlib.Path(config.model.init_from, 'config.json')
  if has_checkpoint(saved.parent):
    run_config.check_same_run(config, saved, run_config.MODEL_FIELDS)
