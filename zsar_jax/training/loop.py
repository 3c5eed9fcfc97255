"""The training loop, from the config to the trained model's results."""

import contextlib
import pathlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.subset import Subset, data_identity, select
from zsar_jax.data.view import View
from zsar_jax.data.watchdog import WorkerPolicy
from zsar_jax.errors import UserError
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.run_results import Results, compute_results
from zsar_jax.models.from_config import build_model, build_teacher
from zsar_jax.recipes import language
from zsar_jax.runtime import agreement, distributed, locks, numerics_environment, sharding
from zsar_jax.runtime.files import make_folder, write_file
from zsar_jax.runtime.interruption import DeferredSignals, Interrupted
from zsar_jax.runtime.metric_writer import MetricWriter
from zsar_jax.runtime.progress import Progress, log
from zsar_jax.runtime.wording import pluralize
from zsar_jax.text.classes import ClassTexts, encode_classes
from zsar_jax.training import optim, still_bank
from zsar_jax.training.compilation import batch_shapes, compile_step, parameter_table
from zsar_jax.training.goodput import Goodput
from zsar_jax.training.monitor import StepMonitor
from zsar_jax.training.profiling import Profile, annotate_data_wait
from zsar_jax.training.step import jit_train_step, texts_frozen
from zsar_jax.weights import run_config
from zsar_jax.weights.checkpoint import Checkpoints, has_checkpoint
from zsar_jax.weights.initial import (
  SEEN_CLASSES,
  InitialWeights,
  run_seen_classes,
  source_seen_classes,
  weights_for_evaluation,
)
from zsar_jax.weights.state import State, sharded_state


def train(
  config: ConfigDict, workdir: pathlib.Path, started: float | None = None
) -> list[Predictions]:
  """Trains from the newest checkpoint in `workdir`, or from the start, and evaluates.

  Args:
    config: a validated config.
    workdir: the run's folder: config.json, metrics.jsonl, checkpoints/.
    started: when the program started, by `time.monotonic`; None for now.

  Returns:
    The evaluation after the last step, on each data set.

  Raises:
    UserError: for a config, data or a workdir that do not go together.
    Interrupted: after Ctrl-C or SIGTERM, with a checkpoint written.
  """
  # Data and vocabulary.
  goodput = Goodput(started)
  mesh = sharding.make_mesh(config.mesh)
  config_lib.check_batch(
    'config.data.batch_size',
    config.data.batch_size,
    sharding.num_batch_shards(mesh),
    config.optim.accumulation,
  )
  check_pairing(config)
  agreement.check_workdir(workdir)
  subset = open_training_subset(config)
  model = build_model(config)
  texts = ClassTexts.from_config(config, model)
  seen = seen_classes(config, subset, workdir)
  evaluator = Evaluator(config, model, texts, mesh, seen)
  tokens = texts.tokens(subset.texts, sharding.num_batch_shards(mesh))

  whole = sharding.replicated(mesh)
  key = sharding.random_key(config.seed, mesh)

  # State: shapes, then shardings, then arrays made where they belong.
  optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
  init, template = sharded_state(config, model, optimizer, trained, mesh)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
  start = InitialWeights(config, model, template['params'])

  meta = {'clips': fingerprint(subset), SEEN_CLASSES: seen, 'start': start.source_step()}
  meta['computed_with'] = numerics_environment.current()
  agreement.check_files(
    lambda: {
      'config.data.train': data_identity(subset),
      'config.data.train, class texts': agreement.tree_checksum(tokens),
      'config.model.init_from': start.source_step(),
      'the classes seen in training': seen,
      **evaluator.identity(),
    }
  )
  saved_config = workdir / 'config.json'
  with _alone_in(workdir), Checkpoints(workdir, config.checkpoint.keep) as checkpoints:
    if checkpoints.latest:
      run_config.check_same_run(config, saved_config)

    def read(step: int) -> State:
      check_meta(checkpoints.meta(step), meta, workdir, config)
      return checkpoints.restore(step, template)

    step, state = checkpoints.read_newest(read) or (0, None)
    checkpoints.clear_after(step)
    if step:
      log(f'resuming {workdir} after step {step}')
      if changes := numerics_environment.describe_changes(
        checkpoints.meta(step).get('computed_with'), meta['computed_with']
      ):
        log(
          f'{changes}: the numbers may differ from those of an undisturbed run in their last bits'
        )
    else:
      state = jax.jit(init, out_shardings=shardings, donate_argnums=0)(start.params(key))
    if distributed.is_main():
      write_file(saved_config, config_lib.to_json(config))

    teacher = build_teacher(config)
    train_step = jit_train_step(
      config, model, teacher, optimizer, trained, subset.classes, mesh, template
    )
    encode = jax.jit(encode_classes, static_argnames=('model', 'mesh'), out_shardings=whole)
    inputs = {'key': key, 'texts': sharding.put_global(tokens, whole)}
    if config.optim.distillation:
      inputs['teacher'] = start.teacher(teacher)
      # Without the places that the model's own texts have for learnt prompts.
      plain = ClassTexts.from_config(config, teacher).tokens(
        subset.texts, sharding.num_batch_shards(mesh)
      )
      plain = sharding.put_global(plain, whole)
      inputs['teacher_texts'] = encode(teacher, inputs['teacher'], plain, mesh=mesh)
    if language.parse(config.recipe).effect('stillmix_bank'):
      bank = distributed.run_main_first(lambda: still_bank.open_bank(config, subset, workdir))
      inputs['stills'] = sharding.put_global(bank, whole)
    if texts_frozen(trained):
      inputs['texts'] = encode(model, state['params'], inputs['texts'], mesh=mesh)

    # The data's workers start while the step is compiled.
    loader = ClipLoader(subset, View.from_config(config))
    under_way = 'the step under way and its checkpoint'
    interruption = DeferredSignals(lambda number: distributed.request_stop(number, under_way))
    # Of many hosts one cannot stop before the others, and waits for its batch.
    guard = WorkerPolicy(
      config.data.patience,
      config.data.on_worker_failure,
      lambda: interruption.signal is not None and jax.process_count() == 1,
    )
    share = sharding.process_batch_shard(mesh)
    batches = training_batches(
      loader, config.data.batch_size, config.seed, step, config.data.workers, share, guard
    )
    goodput.lap('start')
    clip = loader.evaluation_clip(len(subset)) | {'replaced': np.int32(-1), 'stop': np.bool_(False)}
    shapes = batch_shapes(clip, config.data.batch_size, sharding.batch_sharding(mesh))
    train_step, text = compile_step(train_step, state, shapes, inputs)
    compiling = goodput.lap('compile')
    log(
      f'{pluralize(len(subset), "clip")} of {pluralize(len(subset.classes), "class")},'
      f' {pluralize(jax.process_count(), "process")},'
      f' {pluralize(jax.device_count(), f"{jax.devices()[0].platform} device")},'
      f' mesh {dict(mesh.shape)}'
    )
    log(parameter_table(model.abstract_params, trained))
    log(text)

    # The loop.
    opened = contextlib.ExitStack()
    opened.callback(batches.close)
    writer = MetricWriter(workdir, step, config.log.tensorboard)
    opened.callback(writer.close)
    goodput.resume(writer.last, writer.last_on_disk)
    monitor = StepMonitor(loader, workdir, config.data.max_bad_clips)
    progress = Progress(config.steps, step, 'clips', config.data.batch_size)
    opened.callback(progress.close)
    profile = Profile(config, workdir, model, trained, inputs['texts'].shape)
    opened.callback(profile.close)
    first_step, saved = step + 1, step
    rows = config.data.batch_size // share[1]

    def evaluate() -> None:
      """Evaluates and writes the figures; the step is saved."""
      with interruption.interruptible_program(lambda: not checkpoints.writing):
        predictions = evaluator.run(weights_for_evaluation(state, start, config.eval.interpolate))
      goodput.lap('evaluation')
      values = flatten(compute_results(predictions, config.eval.groups)) | goodput.metrics()
      writer.write(step, values)

    def stopping() -> bool:
      """Whether to stop here, on which all the hosts agree."""
      return monitor.stop if jax.process_count() > 1 else interruption.signal is not None

    with opened:
      with interruption, jax.transfer_guard('disallow'):
        if evaluating(config, step) and not evaluation_written(writer.last, step):
          evaluate()
        while step < config.steps and not stopping():
          profile.before(step + 1, state)
          try:
            with annotate_data_wait():
              batch = next(batches)
          except UserError:
            # A worker that hangs is given up soon where the run is to end anyway.
            if interruption.signal and jax.process_count() == 1:
              break
            raise
          batch['stop'] = np.full(rows, interruption.signal is not None)
          batch = sharding.shard_batch(batch, mesh)
          goodput.lap('step' if monitor.busy else 'data')
          state, metrics, outputs = train_step(state, batch, inputs)
          step += 1
          monitor.submit(step, outputs)
          profile.after(step, state)
          if step == first_step:
            monitor.flush()
            goodput.lap('step')
            log(time_to_first_step(goodput.started, compiling))
            progress.restart(step)
          due = evaluating(config, step)
          saving = due or step % config.checkpoint.every == 0 or step == config.steps
          if saving or step % config.log.every == 0:
            monitor.flush()
            goodput.lap('step')
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            progress.show(step, f'loss {values["loss"]:.4f}  accuracy {values["accuracy"]:.3f}')
            values['clips_per_second'] = progress.rate(step)
            writer.write(step, values | goodput.metrics())
          if saving:
            checkpoints.save(step, state, meta)
            saved = step
            goodput.lap('checkpoint')
          if due and not stopping():
            evaluate()
          goodput.lap('step')
        monitor.flush()
        if step > saved:
          checkpoints.save(step, state, meta)
        checkpoints.wait()
        goodput.lap('checkpoint')
      if interruption.signal or monitor.stop:
        raise Interrupted(
          f'interrupted after step {step}; the same command goes on from there',
          interruption.status,
        )
      batches.close()
      predictions = evaluator.run(weights_for_evaluation(state, start, config.eval.interpolate))
      goodput.lap('evaluation')
      writer.write(step, goodput.metrics())
      return predictions


@contextlib.contextmanager
def _alone_in(workdir: pathlib.Path) -> Iterator[None]:
  """Has process 0 hold the workdir's lock, and the others wait until it does."""
  with contextlib.ExitStack() as stack:
    if distributed.is_main():
      make_folder(workdir, '--workdir')
      stack.enter_context(locks.lock_folder(workdir))
    distributed.wait_for_all('the workdir')
    yield


def evaluating(config: ConfigDict, step: int) -> bool:
  """Whether an evaluation on the way follows a step."""
  return bool(config.eval.every and step and step % config.eval.every == 0 and step < config.steps)


def evaluation_written(line: dict[str, Any], step: int) -> bool:
  """Whether a line of metrics.jsonl has the evaluation after a step."""
  return line.get('step') == step and any(name.count('/') > 1 for name in line)


def time_to_first_step(started: float, compiling: float) -> str:
  """In words, and how much of it was the compilation of the step."""
  seconds = time.monotonic() - started
  share = compiling / max(seconds, 1e-9)
  return f'first step after {seconds:.1f} s, of which {compiling:.1f} s ({share:.0%}) compiling'


def check_pairing(config: ConfigDict) -> None:
  """Raises a `UserError` where clips meet others and a micro-batch would leave one alone."""
  pairing = (
    config.augment.mixup
    or config.augment.cutmix
    or language.parse(config.recipe, 'config.recipe').needs_partner
  )
  if pairing and config.data.batch_size // config.optim.accumulation % 2:
    raise UserError(
      'config.data.batch_size: mixup, CutMix and recipes in which a clip meets another need'
      ' micro-batches of an even number of clips'
    )


def open_training_subset(config: ConfigDict) -> Subset:
  """The clips of `config.data.train`; checks the training recipe against them."""
  reference = config.data.train
  if not reference.dataset:
    raise UserError('config.data.train.dataset names no data set; set it, or use --mode=eval')
  dataset = open_dataset(config.data.dir, reference.dataset, reference.split)
  subset = select(dataset, reference.classes, config.view.unannotated, 'config.data.train.classes')
  subset.check_recipe(language.parse(config.recipe), 'config.recipe')
  if config.optim.confusion and 'person' not in subset.region_names:
    raise UserError(
      f'config.optim.confusion: {subset.dataset.name} is not annotated with people, whom this loss'
      ' paints over; set it to 0, or add the masks'
    )
  return subset


def fingerprint(subset: Subset) -> int:
  """A checksum of which clips, in which order, with which classes."""
  names = [*subset.classes, *map(subset.clip_id, range(len(subset)))]
  return zlib.crc32(subset.labels.tobytes(), zlib.crc32('\n'.join(names).encode()))


def seen_classes(config: ConfigDict, subset: Subset, workdir: pathlib.Path) -> list[str]:
  """The classes of this run's training, and of the run whose weights it started from."""
  if has_checkpoint(workdir):
    earlier = run_seen_classes(workdir, '--workdir')
  elif config.model.init_from:
    earlier = source_seen_classes(config)
  else:
    earlier = []
  if earlier is None:
    log(f'which classes {config.model.init_from} was trained on is not known, and not checked')
  return sorted({*subset.classes, *(earlier or ())})


def check_meta(
  saved: dict[str, Any], now: dict[str, Any], workdir: pathlib.Path, config: ConfigDict
) -> None:
  """Raises a `UserError` where what a checkpoint was trained on is something else now."""
  what = {'clips': 'restore the data'}
  if config.optim.distillation or config.eval.interpolate:
    what['start'] = 'config.model.init_from is a run that has gone on since; keep a copy of it'
  for name, remedy in what.items():
    if saved.get(name) != now[name]:
      raise UserError(
        f'{workdir}: the checkpoint was made with other {name} ({saved.get(name)}, now'
        f' {now[name]}), so going on would not be the same run; {remedy}, or take another --workdir'
      )


def flatten(results: Results) -> dict[str, float]:
  """Results as metrics: 'DATASET/RECIPE/FIGURE'."""
  return {
    f'{dataset}/{recipe}/{figure}': value
    for dataset, by_recipe in results.items()
    for recipe, figures in by_recipe.items()
    for figure, value in figures.items()
    if figure not in ('count', 'over')
  }
