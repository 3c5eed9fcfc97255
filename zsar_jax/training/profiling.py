"""Traces training steps, for zsar profile and for XProf."""

import json
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from zsar_jax.runtime import distributed
from zsar_jax.runtime.progress import log
from zsar_jax.storage.files import write_file

# The names of the trainer's annotations in a trace; `performance.traces` looks for them.
STEP = 'train'
DATA_WAIT = 'data_wait'

# The file beside the traces with facts of the run that the traces lack.
FACTS = 'run.json'


def annotate_data_wait() -> jax.profiler.TraceAnnotation:
  """Marks the time in which the loop waits for a batch. It costs nothing outside a trace."""
  return jax.profiler.TraceAnnotation(DATA_WAIT)


class Profile:
  """Traces the steps `config.profile.steps`, and does nothing at other steps."""

  def __init__(
    self,
    config: ConfigDict,
    workdir: pathlib.Path,
    flops_per_step: float,
    out: pathlib.Path | None = None,
  ):
    """Collects the facts of the run; traces nothing yet.

    Args:
      config: a validated config.
      workdir: the run's folder; traces go to its folder 'profile'.
      flops_per_step: the operations of a step, from `models.flops.training_step`.
      out: where to write them, see `OutputFolder.path`; None for `workdir`.
    """
    self._steps = tuple(config.profile.steps)
    self._workdir, self._folder = workdir, (out or workdir) / 'profile'
    self._running = False
    self._step: jax.profiler.StepTraceAnnotation | None = None
    self._facts = {
      'device': jax.devices()[0].device_kind,
      'devices': jax.device_count(),
      'clips_per_step': config.data.batch_size,
      'flops_per_step': flops_per_step,
    }

  def before(self, step: int, state: Any) -> None:
    """Starts the trace if `step` is the first to trace; to be called before each step.

    Args:
      step: the number of the step that is about to begin.
      state: the state that earlier steps compute; the trace starts when it is ready.
    """
    if self._steps and self._steps[0] <= step <= self._steps[1]:
      if not self._running:
        self._start(state)
      self._step = jax.profiler.StepTraceAnnotation(STEP, step_num=step)
      self._step.__enter__()

  def after(self, step: int, state: Any) -> None:
    """Ends the trace once its last step is computed; to be called when a step is dispatched."""
    if self._step:
      self._step.__exit__(None, None, None)
      self._step = None
      if step == self._steps[1]:
        jax.block_until_ready(state)
        self.close()

  def _start(self, state: Any) -> None:
    self._folder.mkdir(parents=True, exist_ok=True)
    if distributed.is_main():
      write_file(self._folder / FACTS, json.dumps(self._facts, indent=2) + '\n')
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Otherwise the trace has every call of a Python function.
    jax.block_until_ready(state)
    jax.profiler.start_trace(str(self._folder), profiler_options=options)
    self._running = True

  def close(self) -> None:
    """Ends a running trace, even if it has fewer steps than the config asks for."""
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
      log(f'traced steps to {self._workdir / "profile"}: zsar profile {self._workdir}')
