"""What one start of a run holds open while it trains: its folder, its data, its outputs."""

import contextlib
import pathlib
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.subset import Subset
from zsar_jax.data.view import View
from zsar_jax.data.watchdog import WorkerPolicy
from zsar_jax.errors import UserError
from zsar_jax.models import flops
from zsar_jax.runtime import chips, distributed, sharding
from zsar_jax.runtime.interruption import DeferredSignals, Interrupted
from zsar_jax.runtime.progress import Progress
from zsar_jax.storage import buckets, file_systems, locks
from zsar_jax.storage.files import make_folder
from zsar_jax.storage.output_folder import OutputFolder
from zsar_jax.training.goodput import Goodput
from zsar_jax.training.inputs import Inputs
from zsar_jax.training.metric_writer import MetricWriter
from zsar_jax.training.monitor import StepMonitor
from zsar_jax.training.profiling import Profile, annotate_data_wait
from zsar_jax.training.run_status import TRAINING, RunStatus
from zsar_jax.training.setup import Setup
from zsar_jax.weights.checkpoint import Checkpoints


class RunContext:
  """Owns the resources of a run; a context manager that closes them in reverse order.

  Entering it locks the workdir and opens the checkpoints. `start_data` and `start_outputs` open the
  rest, once the step that the run resumes after is known.

  Attributes:
    workdir: the run's folder.
    goodput: the clock of the run.
    checkpoints: the checkpoints in the workdir.
    status: the run's sign of life.
    interruption: defers SIGINT and SIGTERM while it is entered; from `start_data`.
    outputs: where files that grow are written; from `start_outputs`.
    writer: writes metrics; from `start_outputs`.
    monitor: checks the outputs of each step; from `start_outputs`.
    progress: the progress line; from `start_outputs`.
    profile: traces steps; from `start_outputs`.
  """

  def __init__(self, config: ConfigDict, workdir: pathlib.Path, goodput: Goodput):
    """Opens nothing yet.

    Args:
      config: a validated config.
      workdir: the run's folder.
      goodput: the clock of the run.
    """
    self.workdir, self.goodput = workdir, goodput
    self._config = config
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> 'RunContext':
    with contextlib.ExitStack() as stack:
      # Process 0 holds the lock of the folder, and the others wait until it does.
      if distributed.is_main():
        make_folder(self.workdir, '--workdir')
        stack.enter_context(locks.lock_folder(self.workdir))
        if not buckets.is_remote(self.workdir):
          file_systems.check_moving(self.workdir, '--workdir')
      distributed.wait_for_all('the workdir')
      self.status = RunStatus(self.workdir)
      stack.push(lambda kind, error, trace: self.status.close(error))
      keep = self._config.checkpoint.keep
      self.checkpoints = stack.enter_context(Checkpoints(self.workdir, keep))
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *exception: Any) -> bool | None:
    return self._stack.__exit__(*exception)

  def start_data(self, setup: Setup, subset: Subset, step: int) -> None:
    """Starts the workers that load batches.

    Args:
      setup: the experiment.
      subset: the training clips.
      step: the step that the run resumes after.
    """
    data = self._config.data
    finishing = 'the step under way and its checkpoint'
    self.interruption = DeferredSignals(lambda number: distributed.request_stop(number, finishing))
    inpainted = subset.shows_inpainted(setup.recipe)
    self._loader = ClipLoader(subset, View.from_config(self._config), inpainted=inpainted)
    self._mesh = setup.mesh
    share = sharding.process_batch_shard(setup.mesh)
    self._rows = data.batch_size // share[1]
    policy = WorkerPolicy(data.patience, data.on_worker_failure, self._can_leave_data)
    self._batches = training_batches(
      self._loader, data.batch_size, self._config.seed, step, data.workers, share, policy
    )
    self._stack.callback(self.stop_data)

  def start_outputs(self, setup: Setup, inputs: Inputs, step: int) -> None:
    """Opens the outputs of the loop.

    Args:
      setup: the experiment.
      inputs: of the train step.
      step: the step that the run resumes after.
    """
    config = self._config
    self.outputs = OutputFolder(self.workdir)
    self._stack.push(lambda kind, error, trace: self.outputs.close(failed=error is not None))
    out = self.outputs.path
    self.writer = MetricWriter(self.workdir, step, config.log.tensorboard, out)
    self._stack.push(lambda kind, error, trace: self.writer.close(failed=error is not None))
    self.goodput.resume(self.writer.last, self.writer.last_on_disk)
    self.status.update(step=step, steps=config.steps)
    self.monitor = StepMonitor(self._loader, self.workdir, config.data.max_bad_clips, out)
    self.progress = Progress(config.steps, step, 'clips', config.data.batch_size)
    self._stack.callback(self.progress.close)
    model, batch = setup.model, config.data.batch_size
    texts = inputs['texts'].shape
    operations = flops.training_step(model.spec, model.video, batch, texts, setup.trained)
    self._flops_per_clip = operations / batch
    self.profile = Profile(config, self.workdir, operations, out)
    self._stack.callback(self.profile.close)

  def next_batch(self) -> dict[str, jax.Array] | None:
    """Returns the next batch, on the devices; None if its workers failed after a signal.

    Raises:
      UserError: if the workers fail and the run is not about to stop.
    """
    try:
      with annotate_data_wait():
        batch = next(self._batches)
    except UserError:
      if self._can_leave_data():
        return None
      raise
    batch['stop'] = np.full(self._rows, self.interruption.signal is not None)
    return sharding.shard_batch(batch, self._mesh)

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves a checkpoint in the background; see `Checkpoints.save`.

    The metrics up to its step are in the workdir before, as a run that resumes from it does not
    write them again.
    """
    self.outputs.flush()
    self.checkpoints.save(step, state, meta)

  def report(self, step: int, values: dict[str, float]) -> None:
    """Shows the progress on the status line and in the run's sign of life.

    Args:
      step: the last step.
      values: its metrics.
    """
    events = upcoming(self._config, step)
    text = f'loss {values["loss"]:.4f}  accuracy {values["accuracy"]:.3f}'
    self.progress.show(step, text, events)
    rate = self.progress.rate(step)
    self.status.update(
      state=TRAINING,
      step=step,
      step_time=time.time(),
      clips_per_second=rate or None,
      seconds_per_step=self._config.data.batch_size / rate if rate else None,
      next=events,
    )

  def throughput(self, step: int) -> dict[str, float]:
    """Returns the metric 'clips_per_second' since the first step of this start, and 'mfu'.

    MFU (model FLOPs utilization; Chowdhery et al., PaLM, appendix B) is the share of the devices'
    published bfloat16 peak that the model's own operations take. It is left out where the peak is
    not known, as for CPUs, and at the first step, which has no rate.

    Args:
      step: the last step.
    """
    rate = self.progress.rate(step)
    chip = chips.find_chip(jax.devices()[0].device_kind)
    if chip is None or not rate:
      return {'clips_per_second': rate}
    mfu = rate * self._flops_per_clip / (chip.flops * jax.device_count())
    return {'clips_per_second': rate, 'mfu': mfu}

  def stop_data(self) -> None:
    """Ends the workers; may be called more than once."""
    self._batches.close()

  @property
  def should_stop(self) -> bool:
    """Whether a signal asks to stop before the next step; all hosts agree on it."""
    if jax.process_count() > 1:
      return self.monitor.stop
    return self.interruption.signal is not None

  def raise_if_interrupted(self, step: int) -> None:
    """Raises `Interrupted` if a signal has stopped the run, on whichever host.

    Args:
      step: the last step, which is saved.
    """
    if self.interruption.signal or self.monitor.stop:
      raise Interrupted(
        f'interrupted after step {step}; the same command goes on from there',
        self.interruption.status,
      )

  def _can_leave_data(self) -> bool:
    # With several hosts, none can stop before the others, so each must wait for its batch.
    return self.interruption.signal is not None and jax.process_count() == 1


def upcoming(config: ConfigDict, step: int) -> dict[str, int]:
  """Returns the steps of the next checkpoint and the next evaluation after a step.

  The run ends with both. There is no evaluation without data sets, and nothing after the last step.
  """

  def following(every: int) -> int:
    return min((step // every + 1) * every, config.steps) if every else config.steps

  if step >= config.steps:
    return {}
  evaluation = following(config.eval.every)
  # A checkpoint is also written before each evaluation.
  steps = {'checkpoint': min(following(config.checkpoint.every), evaluation)}
  return steps | ({'evaluation': evaluation} if config.eval.datasets else {})
