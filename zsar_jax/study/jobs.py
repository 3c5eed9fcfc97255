"""Trains the runs of a study, each in its own process, several at a time.

The folder of a job is that of a normal run, which `zsar_jax.main` can continue. Finished jobs are
skipped; interrupted ones are resumed.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence

import tqdm

from zsar_jax import config as config_lib
from zsar_jax.errors import UserError, error_reason
from zsar_jax.recipes import language
from zsar_jax.runtime.interruption import DeferredSignals, Interrupted
from zsar_jax.runtime.progress import StatusLine, log
from zsar_jax.storage import buckets
from zsar_jax.storage.files import list_names, make_parent, read_file
from zsar_jax.storage.output_folder import OutputFolder
from zsar_jax.study.plan import Job

# Seconds between two checks of the processes, and between two status lines in a log file.
_POLL_SECONDS = 0.5
_LOG_SECONDS = 30.0

# The file in a job's folder that keeps the output of its process.
LOG = 'log.txt'


def is_finished(job: Job) -> bool:
  """Returns whether a job was trained with its config and evaluated on all its data and recipes.

  Raises:
    UserError: if it is in a bucket that cannot be read.
  """
  try:
    saved = read_file(job.folder / 'config.json')
    results = json.loads(read_file(job.folder / 'results.json'))
  except (OSError, ValueError):
    return False
  # Results name a recipe in its canonical form.
  recipes = [str(language.parse(text)) for text in job.config.eval.recipes]
  required = {(name, recipe) for name in job.config.eval.datasets for recipe in recipes}
  evaluated = {(name, recipe) for name in results for recipe in results[name]}
  predictions = {f'{name}.npz' for name in job.config.eval.datasets}
  has_predictions = predictions <= list_names(job.folder / 'predictions')
  return has_predictions and required <= evaluated and saved == config_lib.to_json(job.config)


def train_all(jobs: Sequence[Job], command: Sequence[str], processes: int) -> None:
  """Trains all jobs that are not finished.

  Args:
    jobs: the jobs in order; a job comes after the job that it depends on.
    command: the command line of a process; '--only=JOB' is appended.
    processes: how many run at a time; on a CPU they share its cores.

  Raises:
    UserError: a job failed; those that were running are interrupted.
    Interrupted: after Ctrl-C or SIGTERM, which is passed on to the processes.
  """
  pending = [job for job in jobs if not is_finished(job)]
  # Models that are only evaluated first: what is wrong with them shows in minutes, not after days.
  pending.sort(key=lambda job: job.mode == 'train')
  if not pending:
    return
  if len(pending) < len(jobs):
    log(f'{len(jobs) - len(pending)} of {len(jobs)} runs are finished already')
  unfinished = {job.name for job in pending}
  running: dict[int, _Running] = {}
  status = _Status(len(jobs), pending)
  with DeferredSignals() as interruption:
    try:
      while (pending or running) and not interruption.signal:
        for slot in range(processes):
          job = next((job for job in pending if _is_ready(job, jobs, unfinished)), None)
          if slot not in running and job:
            pending.remove(job)
            running[slot] = _start(job, command, slot, processes)
        time.sleep(_POLL_SECONDS)
        for slot, ended in list(running.items()):
          if ended.process.poll() is not None:
            del running[slot]
            _check_ended(ended)
            unfinished.remove(ended.job.name)
        status.show([entry.job for entry in running.values()], len(unfinished))
    finally:
      _end(list(running.values()))
      status.close()
    if interruption.signal:
      raise Interrupted('interrupted; the same command goes on', interruption.status)


@dataclasses.dataclass(frozen=True)
class _Running:
  """A job whose process runs.

  Attributes:
    job: the job.
    process: its process.
    outputs: has the file to which the process prints.
  """

  job: Job
  process: subprocess.Popen
  outputs: OutputFolder


def _is_ready(job: Job, jobs: Sequence[Job], unfinished: Collection[str]) -> bool:
  """Returns whether the job that a job depends on is finished."""
  return not any(other.folder == job.depends_on and other.name in unfinished for other in jobs)


def _start(job: Job, command: Sequence[str], slot: int, processes: int) -> _Running:
  make_parent(job.folder / LOG)
  outputs = OutputFolder(job.folder)
  with open(outputs.fetch(LOG), 'a') as log_file, _core_share(slot, processes):
    process = subprocess.Popen(
      # The process exits when its parent dies.
      [*command, f'--only={job.name}', f'--parent={os.getpid()}'],
      stdin=subprocess.DEVNULL,
      stdout=log_file,
      stderr=log_file,
      # Only this process gets Ctrl-C, and passes it on.
      start_new_session=True,
    )
  return _Running(job, process, outputs)


@contextlib.contextmanager
def _core_share(slot: int, processes: int) -> Iterator[None]:
  """Restricts processes that are started inside the block to their share of the cores.

  XLA's threads wait for each other in every small step; independent processes do not.
  """
  if processes == 1 or not hasattr(os, 'sched_setaffinity'):
    yield
    return
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, cores[slot::processes] or cores)
  try:
    yield
  finally:
    os.sched_setaffinity(0, cores)


def _check_ended(ended: _Running) -> None:
  """Raises a `UserError` with the last line of a job's output if the job failed."""
  job, status = ended.job, ended.process.returncode
  path = job.folder / LOG
  try:
    failed = status != 0 or not is_finished(job)
    if failed:
      with (ended.outputs.path / LOG).open('a') as log_file:
        log_file.write(f'ended with status {status}\n')
  except OSError as error:  # Then the job's last words are not in it either.
    raise UserError(
      f'the run {job.name} failed, and {path} cannot be written ({error_reason(error)}); make room,'
      ' and the same command goes on'
    ) from None
  finally:
    ended.outputs.close()
  if failed:
    lines = [line for line in path.read_text(errors='replace').splitlines() if line.strip()]
    last_line = lines[-2 if len(lines) > 1 else -1].removeprefix('error: ')
    raise UserError(f'the run {job.name} failed: {last_line} (its full output is in {path})')


def _end(running: Sequence[_Running]) -> None:
  """Interrupts the processes and waits until they have written their checkpoints."""
  for entry in running:
    entry.process.terminate()
  for entry in running:
    entry.process.wait()
    entry.outputs.close(failed=True)


class _Status:
  """One line on stderr: how many runs are finished, the steps of running jobs, the time left."""

  def __init__(self, total: int, pending: Sequence[Job]):
    self._total = total
    self._trained = tuple(job for job in pending if job.mode == 'train')
    # Each look at a file in a bucket is a request.
    self._remote = any(buckets.is_remote(job.folder) for job in pending)
    self._first_step = sum(map(_last_step, self._trained))
    self._start, self._next = time.monotonic(), 0.0
    self._line = StatusLine()

  def show(self, running: Sequence[Job], unfinished: int) -> None:
    """Shows the status, unless the last line is recent."""
    now = time.monotonic()
    if now < self._next:
      return
    often = self._line.in_place and not self._remote
    self._next = now + (_POLL_SECONDS if often else _LOG_SECONDS)
    done = sum(map(_last_step, self._trained))
    total = sum(job.config.steps for job in self._trained)
    text = f'{self._total - unfinished} of {self._total} runs finished'
    for job in running:
      text += f', {job.name}'
      if job.mode == 'train':  # Models that are only evaluated have no steps.
        text += f' at {_last_step(job)}/{job.config.steps}'
    if done > self._first_step:
      seconds_left = (now - self._start) * (total - done) / (done - self._first_step)
      text += f', about {tqdm.tqdm.format_interval(seconds_left)} left'
    self._line.show(text)

  def close(self) -> None:
    """Ends the line, so that it stays visible."""
    self._line.close()


def _last_step(job: Job) -> int:
  """The last step in a job's metrics.jsonl; 0 before the first."""
  try:
    with (job.folder / 'metrics.jsonl').open('rb') as file:
      file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
      return json.loads(file.read().splitlines()[-1])['step']
  except Exception:  # Those of a bucket are of many kinds, and the study goes on without the line.
    return 0
