"""Evaluates without training: existing weights, or somebody's model. `--mode=eval`."""

import copy
import dataclasses
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation import protocol
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.evaluation.external_model import ExternalScorer
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.run_results import describe_not_finite
from zsar_jax.evaluation.scored_run import is_scored, read_scored
from zsar_jax.evaluation.scoring import ModelScorer
from zsar_jax.models.from_config import AUTO, build_model, compute_of
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime import agreement, distributed, sharding
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.settings import get_value
from zsar_jax.storage import shared_folder
from zsar_jax.storage.files import make_folder
from zsar_jax.text.classes import ClassTexts
from zsar_jax.weights import run_config, runs
from zsar_jax.weights.checkpoint import has_checkpoint
from zsar_jax.weights.formats.hints import EVALUATION
from zsar_jax.weights.formats.preprocessing import Preprocessing, describe_differences
from zsar_jax.weights.initial import (
  InitialWeights,
  load_weight_entries,
  run_seen_classes,
  source_folder,
  source_seen_classes,
  weights_for_evaluation,
)
from zsar_jax.weights.named_model import load_model


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Evaluates what `config.model` names: somebody's model, scored predictions, or weights.

  Raises:
    UserError: as the functions below raise it.
  """
  if config.model.external:
    return evaluate_external(config, workdir)
  if is_scored(config.model.init_from):
    return evaluate_scored(config, workdir)
  return evaluate_checkpoint(config, workdir)


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Evaluates the newest checkpoint of `workdir`, or else the weights of `config.model.init_from`.

  With the preset 'auto', the weights describe the model and its preprocessing. What is evaluated
  from `config.model.init_from` is described in protocol.json.

  Raises:
    UserError: there are no weights, they belong to another model, or they were trained on classes
      of the evaluation.
  """
  shared_folder.check_workdir(workdir)
  if (has_checkpoint(workdir) or config.model.init_from) and distributed.is_main():
    for folder in (workdir, workdir / 'predictions'):
      make_folder(folder, '--workdir')
  if config.model.preset == AUTO:
    return _evaluate_named(config, workdir)
  mesh = sharding.make_mesh(config.mesh)
  model = build_model(config, mesh)
  texts = ClassTexts.from_config(config, model)
  scorer = ModelScorer(config, model, texts, mesh)
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
    evaluator = Evaluator(config, scorer, mesh, source_seen_classes(config.model.init_from))
    agreement.check_files(evaluator.identity)
    params = initial.load_all()
    _save_protocol(config, workdir, config.model.init_from, model, View.from_config(config), texts)
  else:
    raise _no_weights(workdir)
  return evaluator.run(params)


def _evaluate_named(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Evaluates a model that its weights describe, as `zsar_jax.load` loads it."""
  source = str(workdir) if has_checkpoint(workdir) else config.model.init_from
  if not source:
    raise _no_weights(workdir)
  if config.eval.interpolate:
    raise UserError(
      f'config.eval.interpolate: with the preset {AUTO!r}, weights are not mixed; set it to 0, or'
      ' config.model as in the training'
    )
  mesh = sharding.make_mesh(config.mesh)
  loaded = load_model(
    source,
    compute_of(config, mesh),
    templates=config.text.templates,
    default_num_frames=config.view.num_frames,
    tokens_from=config.model.tokens_from,
    hints=EVALUATION,
  )
  log(loaded.report.describe())
  view = dataclasses.replace(loaded.view, unannotated=config.view.unannotated)
  config = copy.deepcopy(config)
  config.view.update(dataclasses.asdict(view))
  config_lib.check_views(config)
  model = loaded.model
  scorer = ModelScorer(config, model, loaded.texts, mesh)
  evaluator = Evaluator(config, scorer, mesh, source_seen_classes(source))
  agreement.check_files(
    lambda: evaluator.identity() | {'the weights': agreement.tree_checksum(loaded.params)}
  )
  _save_protocol(
    config,
    workdir,
    source,
    model,
    view,
    loaded.texts,
    format=loaded.report.format,
    license=loaded.license,
    notes=list(loaded.report.notes),
  )
  template = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  params = jax.tree.map(
    lambda leaf, target: sharding.put_global(leaf, target.sharding), loaded.params, template
  )
  return evaluator.run(params)


def _save_protocol(
  config: ConfigDict,
  workdir: pathlib.Path,
  source: str,
  model: VideoModel,
  view: View,
  texts: ClassTexts,
  **more: Any,
) -> None:
  """Writes protocol.json for weights, with `more` fields."""
  if distributed.is_main():
    use = protocol.describe_use(
      config, view, texts.templates, texts.split_words, texts.placeholders
    )
    description = {'source': source, **protocol.describe_model(model), **use, **more}
    protocol.save(description, workdir)


def _no_weights(workdir: pathlib.Path) -> UserError:
  return UserError(
    f'--workdir: {workdir} holds no checkpoint of this project; name the --workdir of a run that'
    ' was trained, or weights in config.model.init_from'
  )


def evaluate_scored(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Reports the predictions of another program in the folder `config.model.init_from`.

  Raises:
    UserError: as `read_scored`, the workdir holds a trained run, or weights are to be mixed.
  """
  field = 'config.model.init_from'
  if has_checkpoint(workdir) or config.eval.interpolate:
    raise UserError(
      f'{field}: {config.model.init_from} holds predictions and no weights; set'
      ' config.eval.interpolate to 0, and name a --workdir without a trained run'
    )
  scored, use = read_scored(config)
  if config.eval.saliency:
    log(f'{field}: {config.model.init_from} holds predictions, of which saliency is not known')
  if distributed.is_main():
    make_folder(workdir, '--workdir')
    protocol.save({'source': config.model.init_from, **use}, workdir)
  return scored


def evaluate_external(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Evaluates the model of `config.model.external`, whatever else `config.model` says.

  Raises:
    UserError: the model cannot be loaded or fails, its output is invalid, or the config or the
      workdir asks for what only models of this project have.
  """
  field = 'config.model.external'
  if distributed.is_multiprocess():
    raise UserError(f'{field}: only a single process evaluates it; start the command once')
  for name in ('model.init_from', 'eval.interpolate', 'eval.saliency'):
    if value := get_value(config, name):
      raise UserError(
        f'{field}: config.{name} is {value!r}, but weights and gradients of an external model are'
        f' not known here; set it to {type(value)()!r}'
      )
  if has_checkpoint(workdir):
    raise UserError(
      f'--workdir: {workdir} holds a trained run, and an external model has results of its own;'
      ' name another folder'
    )
  text = config.text
  scorer = ExternalScorer(
    config.model.external, text.templates, text.split_words, text.placeholders
  )
  for folder in (workdir, workdir / 'predictions'):
    make_folder(folder, '--workdir')
  view = View.from_config(config)
  description = protocol.describe_use(
    config, view, text.templates, text.split_words, text.placeholders
  )
  protocol.save({'source': config.model.external, **description}, workdir)
  predictions = Evaluator(config, scorer, sharding.make_mesh(config.mesh), seen=None).run(None)
  for of_dataset in predictions:
    for line in describe_not_finite(of_dataset):
      log(f'{field}: {line}')
  return predictions


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
  run = source_folder(config.model.init_from)
  if run is not None and has_checkpoint(run, 'config.model.init_from'):
    run_config.check_same_run(config, run / 'config.json', run_config.MODEL_FIELDS)
