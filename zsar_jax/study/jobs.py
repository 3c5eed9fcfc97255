"""Trains the runs of a study, each in a process of its own, as many at a time as there is room for.

A run is a normal run: its folder can be looked into, and gone on with, by zsar_jax.main's own
means. What is finished is not done again; what was interrupted goes on where it was.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from zsar_jax import config as config_lib
from zsar_jax.errors import UserError
from zsar_jax.recipes import language
from zsar_jax.runtime import terminal
from zsar_jax.runtime.interruption import Interrupted, Interruption
from zsar_jax.runtime.writers import clock, log
from zsar_jax.study.plan import Job

# Seconds between two looks at the runs, and between two lines in a log file.
_PAUSE = 0.5
_PAUSE_IN_FILES = 30.0

# What a run's process says is kept in its folder.
LOG = 'log.txt'


def finished(job: Job) -> bool:
  """Whether a run was trained and evaluated under everything that its config asks for."""
  try:
    saved = (job.folder / 'config.json').read_text()
    results = json.loads((job.folder / 'results.json').read_text())
  except (OSError, ValueError):
    return False
  wanted = {
    (name, recipe) for name in job.config.eval.datasets for recipe in recipe_texts(job.config)
  }
  kept = all((job.folder / 'predictions' / f'{name}.npz').exists() for name, _ in wanted)
  there = {(name, recipe) for name in results for recipe in results[name]}
  return kept and wanted <= there and saved == config_lib.to_json(job.config)


def recipe_texts(config: config_lib.ConfigDict) -> list[str]:
  """The validation recipes as results and predictions name them."""
  return [str(language.parse(text)) for text in config.eval.recipes]


def train_all(jobs: Sequence[Job], command: Sequence[str], at_a_time: int) -> None:
  """Does what is left of the jobs.

  Args:
    jobs: in order; one that needs another comes after it.
    command: of a process that does the job whose name follows '--only='.
    at_a_time: processes; on a CPU they share its cores.

  Raises:
    UserError: where a run failed; the others that were under way are interrupted.
    Interrupted: after Ctrl-C or SIGTERM, which the processes get too.
  """
  left = [job for job in jobs if not finished(job)]
  if not left:
    return
  if len(left) < len(jobs):
    log(f'{len(jobs) - len(left)} of {len(jobs)} runs are finished already')
  running: dict[int, tuple[Job, subprocess.Popen]] = {}
  status = _Status(len(jobs), left)
  with Interruption() as interruption:
    try:
      while (left or running) and not interruption.signal:
        for slot in range(at_a_time):
          job = next((job for job in left if _ready(job, jobs)), None)
          if slot not in running and job:
            left.remove(job)
            running[slot] = job, _start(job, command, slot, at_a_time)
        time.sleep(_PAUSE)
        for slot, (job, process) in list(running.items()):
          if process.poll() is not None:
            del running[slot]
            _check_ended(job, process.returncode)
        status.show([job for job, _ in running.values()])
    finally:
      _end(list(running.values()))
      status.close()
    if interruption.signal:
      raise Interrupted('interrupted; the same command goes on', interruption.status)


def _ready(job: Job, jobs: Sequence[Job]) -> bool:
  return job.after is None or all(finished(one) for one in jobs if one.folder == job.after)


def _start(job: Job, command: Sequence[str], slot: int, at_a_time: int) -> subprocess.Popen:
  job.folder.mkdir(parents=True, exist_ok=True)
  with open(job.folder / LOG, 'a') as log, _cores(slot, at_a_time):
    return subprocess.Popen(
      # Whose parent was killed, it ends by itself.
      [*command, f'--only={job.name}', f'--parent={os.getpid()}'],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      # Ctrl-C reaches this process, which passes it on once.
      start_new_session=True,
    )


@contextlib.contextmanager
def _cores(slot: int, at_a_time: int) -> Iterator[None]:
  """Processes that are started inside have a share of the cores to themselves.

  XLA's threads for one small step wait for each other; runs side by side do not.
  """
  if at_a_time == 1 or not hasattr(os, 'sched_setaffinity'):
    yield
    return
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, cores[slot::at_a_time] or cores)
  try:
    yield
  finally:
    os.sched_setaffinity(0, cores)


def _check_ended(job: Job, status: int) -> None:
  if status == 0 and finished(job):
    return
  log = job.folder / LOG
  lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
  last = lines[-1].removeprefix('error: ') if lines else f'it ended with status {status}'
  raise UserError(f'the run {job.name} failed: {last} (all of it is in {log})')


def _end(running: Sequence[tuple[Job, subprocess.Popen]]) -> None:
  """Lets the processes save what they have."""
  for _, process in running:
    process.terminate()
  for _, process in running:
    process.wait()


class _Status:
  """One line on stderr: runs that are done, the steps of those under way, the time left."""

  def __init__(self, total: int, left: Sequence[Job]):
    self._total, self._left = total, tuple(left)
    self._begun = sum(map(_steps, self._left))
    self._start, self._next = time.monotonic(), 0.0
    self._terminal = sys.stderr.isatty()

  def show(self, running: Sequence[Job]) -> None:
    """Shows where everything is."""
    now = time.monotonic()
    if now < self._next:
      return
    self._next = now + (_PAUSE if self._terminal else _PAUSE_IN_FILES)
    steps = [(_steps(job), job.config.steps) for job in self._left]
    done, total = map(sum, zip(*steps, strict=True))
    trained = self._total - sum(step < last for step, last in steps)
    text = f'{trained} of {self._total} runs trained'
    for job in running:
      text += f', {job.name} at {_steps(job)}/{job.config.steps}'
    if done > self._begun:
      left = (now - self._start) * (total - done) / (done - self._begun)
      text += f', about {clock(left)} left'
    if self._terminal:
      terminal.rewrite(text)
    else:
      print(text, file=sys.stderr, flush=True)

  def close(self) -> None:
    """Leaves the line standing."""
    if self._terminal:
      print(file=sys.stderr)


def _steps(job: Job) -> int:
  """The last step that a run has written down."""
  try:
    with open(job.folder / 'metrics.jsonl', 'rb') as file:
      file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
      return json.loads(file.read().splitlines()[-1])['step']
  except (OSError, ValueError, IndexError, KeyError, TypeError):
    return 0
