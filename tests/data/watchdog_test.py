"""Workers that die or hang are named, and the run ends or continues with the same batches."""

import errno
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.data.pipeline_test import assert_same, loader, take
from tests.toy import build_toy
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.watchdog import WatchedBatches, WorkerPolicy
from zsar_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent.parent

WORKER = """
import sys, time
from zsar_jax.data.watchdog import set_worker_name
set_worker_name(sys.argv[1], 0)
print('named', flush=True)
time.sleep(600)
"""


class FakeWorkers:
  """Numbers as batches, from one child process, which fails like one of Grain's.

  Args:
    first: the first number.
    name: of the loader.
    fails: {number: 'dies' or 'hangs'}, how the process fails before it returns a number.
  """

  def __init__(self, first, name, fails):
    self.number, self.fails = first, fails
    self.child = subprocess.Popen(
      [sys.executable, '-c', WORKER, name], cwd=ROOT, stdout=subprocess.PIPE
    )
    self.child.stdout.readline()

  def __next__(self):
    failure = self.fails.pop(self.number, None)
    if failure == 'dies':
      self.child.kill()
    if failure or self.child.poll() is not None:  # Grain polls whether the worker lives.
      while self.child.poll() is None:
        time.sleep(0.05)
      raise RuntimeError(f'terminated unexpectedly with exit code {self.child.returncode}. Search')
    self.number += 1
    return {'number': self.number - 1}

  def close(self):
    self.child.kill()
    self.child.wait()


def watched(fails, policy, always=False):
  """Returns batches of a `FakeWorkers`; with `always` a restarted one fails again."""
  fails = dict(fails)
  return WatchedBatches(
    lambda first, name: FakeWorkers(first, name, dict(fails) if always else fails), 1, policy
  )


@pytest.mark.parametrize('failure', ['dies', 'hangs'])
def test_stop(failure):
  batches = watched({2: failure}, WorkerPolicy(patience=0.5))
  try:
    assert [next(batches)['number'] for _ in range(2)] == [0, 1]
    words = {
      'dies': r'worker process 0 \(pid \d+\) was ended by SIGKILL',
      'hangs': r'worker process 0 \(pid \d+\) has given no batch for \d+ seconds',
    }
    with pytest.raises(UserError, match=f'{words[failure]}; the same command goes on; .*restart'):
      next(batches)
  finally:
    batches.close()


def test_restart(capfd):
  batches = watched({2: 'dies', 4: 'hangs'}, WorkerPolicy(0.5, 'restart'))
  assert [next(batches)['number'] for _ in range(6)] == list(range(6))
  batches.close()
  assert capfd.readouterr().err.count('the workers are restarted') == 2


def test_restarts_are_limited():
  batches = watched({1: 'dies'}, WorkerPolicy(9, 'restart'), always=True)
  next(batches)
  with pytest.raises(UserError, match='was ended by SIGKILL'):
    next(batches)
  batches.close()


class FailingWorkers:
  """Workers that fail as if shared memory were too small."""

  def __init__(self, error):
    self.error = error

  def __next__(self):
    raise self.error

  def close(self):
    pass


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (
      RuntimeError('terminated unexpectedly with exit code -7.'),
      r'ended by SIGBUS; .*MiB, is full',
    ),
    (OSError(errno.ENOSPC, 'No space left', '/psm_1'), r'MiB, cannot hold .* \(No space left\)'),
  ],
)
def test_small_shared_memory_is_named_with_its_remedy(error, words):
  if not pathlib.Path('/dev/shm').is_dir():
    words = words.replace('MiB, ', 'shared memory ')
  batches = WatchedBatches(lambda first, name: FailingWorkers(error), 1, WorkerPolicy())
  with pytest.raises(
    UserError, match=f'{words}.*--shm-size=8g, or --ipc=host.*config.data.workers'
  ):
    next(batches)
  batches.close()


def test_only_the_workers_of_the_loader_that_hangs_are_killed():
  first, second = watched({1: 'hangs'}, WorkerPolicy(0.5)), watched({}, WorkerPolicy(9))
  for batches in (first, second):
    assert next(batches) == {'number': 0}
  with pytest.raises(UserError, match='has given no batch'):
    next(first)
  time.sleep(0.2)
  assert next(second) == {'number': 1}
  for batches in (first, second):
    batches.close()


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='finds workers by /proc')
def test_real_workers(tmp_path, capfd):
  """One is killed, another one stopped; the batches are those of an undisturbed run."""
  clips = loader(build_toy(tmp_path))
  # Grain returns the batches that a worker has prepared before it notices that the worker died.
  reference = take(training_batches(clips, 4, 0, 0, 0), 120)
  batches = training_batches(clips, 4, 0, 0, 2, policy=WorkerPolicy(20, 'restart'))
  received = []
  try:
    for k in range(120):
      received.append(next(batches))
      workers = [child.pid for child in multiprocessing.active_children()]
      if k == 6:
        os.kill(workers[0], signal.SIGKILL)
      if k == 66:
        os.kill(workers[-1], signal.SIGSTOP)
  finally:
    batches.close()
  assert_same(received, reference)
  err = capfd.readouterr().err
  assert 'was ended by SIGKILL' in err
  assert 'has given no batch for' in err
