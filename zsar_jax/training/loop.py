"""The training loop, from the config to the trained model's results.

`train` gives the overview: it wires the experiment up, resumes its state, compiles the step, takes
the steps in `_run_steps`, and evaluates the result.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.subset import Subset, data_identity
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.run_results import Results, compute_results
from zsar_jax.evaluation.scoring import ModelScorer
from zsar_jax.runtime import agreement, distributed, sharding
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage import shared_folder
from zsar_jax.storage.files import write_file
from zsar_jax.training.compilation import (
  batch_shapes,
  compile_lowered,
  describe_program,
  parameter_table,
  peak_memory,
)
from zsar_jax.training.context import RunContext
from zsar_jax.training.dashboards import open_wandb
from zsar_jax.training.goodput import Goodput
from zsar_jax.training.inputs import Inputs, make_inputs
from zsar_jax.training.resuming import (
  Meta,
  check_meta,
  log_machine_changes,
  make_meta,
  seen_classes,
)
from zsar_jax.training.run_status import EVALUATING, TRAINING
from zsar_jax.training.setup import Setup, check_pairing, open_training_subset
from zsar_jax.training.step import jit_train_step
from zsar_jax.training.wandb_run import import_wandb
from zsar_jax.weights import run_config
from zsar_jax.weights.initial import InitialWeights, weights_for_evaluation
from zsar_jax.weights.state import State


def train(
  config: ConfigDict, workdir: pathlib.Path, goodput: Goodput | None = None
) -> list[Predictions]:
  """Trains from the newest checkpoint in `workdir`, or from the start, and evaluates.

  Args:
    config: a validated config.
    workdir: the run's folder: config.json, metrics.jsonl, checkpoints/.
    goodput: the clock of the run; None for one that starts now.

  Returns:
    The evaluation after the last step, on each data set.

  Raises:
    UserError: if config, data and workdir do not fit together.
    Interrupted: after Ctrl-C or SIGTERM, with a checkpoint written.
  """
  goodput = goodput or Goodput()

  # ------------------------------------------------------------------------------------- Wiring
  job = _prepare(config, workdir)
  setup = job.setup
  goodput.lap('setup')
  key = sharding.random_key(config.seed, setup.mesh)

  with RunContext(config, workdir, goodput) as run:
    # --------------------------------------------------------------------------------- Resuming
    step, state = _resume(job, run, key)
    inputs = make_inputs(setup, key, job.tokens, state['params'], job.initial, job.subset, workdir)

    # ------------------------------------------------------------------------------ Compilation
    run.start_data(setup, job.subset, step)  # Its workers load batches during the compilation.
    goodput.lap('weights')
    train_step, cached = _compile(job, goodput, state, inputs)

    # ------------------------------------------------------------------------------------- Loop
    run.start_outputs(setup, inputs, step)
    if config.log.wandb and distributed.is_main():
      # Values follow if the evaluation of this step is not there, and the last step's is repeated.
      more = step == config.steps or lacks_evaluation(config, run.writer.last, step)
      clips = job.subset, job.evaluator.subsets
      run.writer.add(open_wandb(config, workdir, run.writer, more, *clips))
    step, state = _run_steps(job, run, train_step, cached, inputs, step, state)
    run.raise_if_interrupted(step)
    run.stop_data()
    if peak := peak_memory():
      log(peak)

    # -------------------------------------------------------------------------------------- End
    return _evaluate(job, run, step, state, contextlib.nullcontext())


@dataclasses.dataclass(frozen=True)
class _Job:
  """A training run before its folder is touched.

  Attributes:
    setup: the experiment.
    subset: the training clips.
    tokens: i32[P, C', L], the class texts of training.
    evaluator: evaluates on the way and at the end.
    initial: the weights that training starts from.
    meta: the JSON object that is saved with each checkpoint.
  """

  setup: Setup
  subset: Subset
  tokens: np.ndarray
  evaluator: Evaluator
  initial: InitialWeights
  meta: Meta


def _prepare(config: ConfigDict, workdir: pathlib.Path) -> _Job:
  """Opens the data, wires the experiment up, and checks that all hosts see the same files."""
  if config.log.wandb and distributed.is_main():
    import_wandb()  # Now, not after a long compilation.
  mesh = sharding.make_mesh(config.mesh)
  check_pairing(config)
  shared_folder.check_workdir(workdir)
  subset = open_training_subset(config)
  setup = Setup.from_config(config, mesh, subset.classes)
  seen = seen_classes(config, subset, workdir)
  scorer = ModelScorer(config, setup.model, setup.class_texts, mesh)
  evaluator = Evaluator(config, scorer, mesh, seen)
  tokens = setup.tokens(subset.texts)
  initial = InitialWeights(config, setup.model, setup.state['params'])
  meta = make_meta(subset, seen, initial, setup.model.compute)
  agreement.check_files(
    lambda: {
      'config.data.train': data_identity(subset),
      'config.data.train, class texts': agreement.tree_checksum(tokens),
      'config.model.init_from': initial.source_step(),
      'the classes seen in training': seen,
      **evaluator.identity(),
    }
  )
  return _Job(setup, subset, tokens, evaluator, initial, meta)


def _resume(job: _Job, run: RunContext, key: jax.Array) -> tuple[int, State]:
  """Restores the newest checkpoint, or makes the first state; saves the config.

  Returns:
    The step that the run resumes after, 0 for a new run, and the state after it.
  """
  setup, checkpoints = job.setup, run.checkpoints
  saved_config = run.workdir / 'config.json'
  if checkpoints.latest:
    run_config.check_same_run(setup.config, saved_config)

  def read(step: int) -> State:
    check_meta(checkpoints.meta(step), job.meta, run.workdir, setup.config)
    return checkpoints.restore(step, setup.state)

  newest = checkpoints.read_newest(read)
  checkpoints.clear_after(newest[0] if newest else 0)
  if newest:
    step, state = newest
    log(f'resuming {run.workdir} after step {step}')
    log_machine_changes(checkpoints.meta(step), job.meta)
  else:
    init = jax.jit(setup.init_state, out_shardings=setup.state_shardings, donate_argnums=0)
    step, state = 0, init(job.initial.load_or_init(key))
  if distributed.is_main():
    write_file(saved_config, config_lib.to_json(setup.config))
  return step, state


def _compile(job: _Job, goodput: Goodput, state: State, inputs: Inputs) -> tuple[Any, bool]:
  """Compiles the train step and logs what the run consists of.

  Returns:
    The compiled step, and whether it was in the cache on disk.
  """
  setup, config = job.setup, job.setup.config
  inpainted = job.subset.shows_inpainted(setup.recipe)
  batch = batch_shapes(
    config, config.data.batch_size, setup.mesh, training=True, inpainted=inpainted
  )
  step: Any = jit_train_step(setup)
  traced = step.trace(state, batch, inputs)
  lowered = traced.lower()
  goodput.lap('tracing')
  train_step, cached = compile_lowered(lowered)
  goodput.lap('compile')
  log(
    f'{pluralize(len(job.subset), "clip")} of {pluralize(len(setup.classes), "class")},'
    f' {pluralize(jax.process_count(), "process")},'
    f' {pluralize(jax.device_count(), f"{jax.devices()[0].platform} device")},'
    f' mesh {dict(setup.mesh.shape)}'
  )
  log(parameter_table(setup.model.abstract_params, setup.trained))
  log(describe_program(traced, train_step))
  return train_step, cached


def _run_steps(
  job: _Job,
  run: RunContext,
  train_step: Any,
  cached: bool,
  inputs: Inputs,
  step: int,
  state: State,
) -> tuple[int, State]:
  """Takes steps until the last one or a signal, with logs, checkpoints and evaluations.

  Args:
    job: the training run.
    run: its open resources.
    train_step: the compiled step.
    cached: whether it was in the cache on disk.
    inputs: of each step.
    step: the step that the run resumes after.
    state: the state after it.

  Returns:
    The last step, whose checkpoint is on disk, and the state after it.
  """
  config, goodput = job.setup.config, run.goodput
  first_step, saved_step = step + 1, step

  def unsaved() -> contextlib.AbstractContextManager[None]:
    # Nothing in an evaluation is to be saved, only the checkpoint before it.
    return run.interruption.interruptible(lambda: not run.checkpoints.writing)

  with run.interruption, jax.transfer_guard('disallow'):
    # The evaluation of the checkpoint that the run resumes from, if it was not completed.
    if lacks_evaluation(config, run.writer.last, step):
      _evaluate(job, run, step, state, unsaved())

    while step < config.steps and not run.should_stop:
      # -------------------------------------------------------------------------------- Batch
      run.profile.before(step + 1, state)
      batch = run.next_batch()
      if batch is None:
        break
      goodput.lap('step' if run.monitor.busy else 'data')

      # --------------------------------------------------------------------------------- Step
      state, metrics, outputs = train_step(state, batch, inputs)
      step += 1
      run.monitor.submit(step, outputs)
      run.profile.after(step, state)
      if step == first_step:
        run.monitor.flush()
        goodput.lap('step')
        cache = 'from the cache' if cached else 'not from the cache'
        log(f'first step after {goodput.describe_start({"compile": cache})}')
        run.progress.restart(step)

      # ------------------------------------------------------------------------------ Metrics
      evaluating = evaluation_due(config, step)
      saving = evaluating or step % config.checkpoint.every == 0 or step == config.steps
      if saving or step % config.log.every == 0:
        run.monitor.flush()
        goodput.lap('step')
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        run.report(step, values)
        values |= run.throughput(step) | goodput.metrics()
        run.writer.write(step, values, more=evaluating or step == config.steps)

      # --------------------------------------------------------------- Checkpoint, evaluation
      if saving:
        run.save(step, state, job.meta)
        saved_step = step
        goodput.lap('checkpoint')
      if evaluating and not run.should_stop:
        _evaluate(job, run, step, state, unsaved())
      goodput.lap('step')

    run.monitor.flush()
    if step > saved_step:
      run.save(step, state, job.meta)
    run.checkpoints.wait()
    goodput.lap('checkpoint')
  return step, state


def _evaluate(
  job: _Job,
  run: RunContext,
  step: int,
  state: State,
  interruptible: contextlib.AbstractContextManager[None],
) -> list[Predictions]:
  """Evaluates a step that is saved, and adds the figures to its metrics.

  Args:
    job: the training run.
    run: its open resources.
    step: the step.
    state: the state after it.
    interruptible: a block in which signals end the evaluation; the metrics are written after it.
  """
  config = job.setup.config
  run.status.update(state=EVALUATING)
  with interruptible:
    params = weights_for_evaluation(state, job.initial, config.eval.interpolate)
    predictions = job.evaluator.run(params)
  run.goodput.lap('evaluation')
  results = compute_results(predictions, config.eval.groups)
  run.status.update(state=TRAINING, evaluation={'step': step, 'top1': top1(results)})
  run.writer.write(step, flatten(results) | run.goodput.metrics())
  return predictions


def evaluation_due(config: ConfigDict, step: int) -> bool:
  """Returns whether an evaluation follows a step before the last one."""
  return bool(config.eval.every and step and step % config.eval.every == 0 and step < config.steps)


def lacks_evaluation(config: ConfigDict, line: dict[str, Any], step: int) -> bool:
  """Returns whether an evaluation is due that a line of metrics.jsonl does not have."""
  written = line.get('step') == step and any(name.count('/') > 1 for name in line)
  return evaluation_due(config, step) and not written


def top1(results: Results) -> dict[str, dict[str, float]]:
  """Returns the top-1 accuracies of results, {data set or group: {recipe: accuracy}}."""
  return {
    name: {recipe: figures['top1'] for recipe, figures in by_recipe.items()}
    for name, by_recipe in results.items()
  }


def flatten(results: Results) -> dict[str, float]:
  """Returns results as metrics named 'DATASET/RECIPE/FIGURE'.

  The figures of pairs are named 'DATASET/RECIPE/WORLD/FIGURE'; undefined ones are left out.
  """
  metrics = {}
  for dataset, by_recipe in results.items():
    for recipe, figures in by_recipe.items():
      worlds = figures.get('pairs', {})
      of_pairs = {
        f'{world}/{figure}': value
        for world, of_world in worlds.items()
        for figure, value in of_world.items()
        if value is not None
      }
      for figure, value in (figures | of_pairs).items():
        if figure not in ('count', 'over', 'scenes', 'choices', 'pairs'):
          metrics[f'{dataset}/{recipe}/{figure}'] = value
  return metrics
