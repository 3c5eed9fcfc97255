"""Workers that die or hang: named, and the run ends or goes on with the same batches."""

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
from zsar_jax.data.watchdog import take_name
take_name(sys.argv[1], 0)
print('named', flush=True)
time.sleep(600)
"""


class FakeWorkers:
  """Numbers as batches, from one child process; it dies like Grain's where `fails` says so."""

  def __init__(self, first, name, fails):
    self.number, self.fails = first, fails
    self.child = subprocess.Popen(
      [sys.executable, '-c', WORKER, name], cwd=ROOT, stdout=subprocess.PIPE
    )
    self.child.stdout.readline()

  def __next__(self):
    how = self.fails.pop((self.number), None)
    if how == 'dies':
      self.child.kill()
    if how:  # As Grain does: it looks every now and then whether the worker lives.
      while self.child.poll() is None:
        time.sleep(0.05)
      raise RuntimeError(f'terminated unexpectedly with exit code {self.child.returncode}. Search')
    self.number += 1
    return {'number': self.number - 1}

  def close(self):
    self.child.kill()
    self.child.wait()


def watched(fails, policy, always=False):
  fails = dict(fails)
  return WatchedBatches(
    lambda first, name: FakeWorkers(first, name, dict(fails) if always else fails), 1, policy
  )


@pytest.mark.parametrize('how', ['dies', 'hangs'])
def test_stop(how):
  batches = watched({2: how}, WorkerPolicy(patience=0.5))
  try:
    assert [next(batches)['number'] for _ in range(2)] == [0, 1]
    words = {
      'dies': r'worker process 0 \(pid \d+\) was ended by SIGKILL',
      'hangs': r'worker process 0 \(pid \d+\) has given no batch for \d+ seconds',
    }
    with pytest.raises(UserError, match=f'{words[how]}; the same command goes on; .*restart'):
      next(batches)
  finally:
    batches.close()


def test_restart(capfd):
  batches = watched({2: 'dies', 4: 'hangs'}, WorkerPolicy(0.5, 'restart'))
  assert [next(batches)['number'] for _ in range(6)] == list(range(6))
  batches.close()
  assert capfd.readouterr().err.count('the workers are started anew') == 2


def test_restarting_has_an_end():
  batches = watched({1: 'dies'}, WorkerPolicy(9, 'restart'), always=True)
  next(batches)
  with pytest.raises(UserError, match='was ended by SIGKILL'):
    next(batches)
  batches.close()


class Sharing:
  """Workers of which one fails as where shared memory is too small."""

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
    (OSError(errno.ENOSPC, 'No space left', '/psm_1'), r'MiB, does not take .* \(No space left\)'),
  ],
)
def test_small_shared_memory_is_named_with_its_remedy(error, words):
  if not pathlib.Path('/dev/shm').is_dir():
    words = words.replace('MiB, ', 'shared memory ')
  batches = WatchedBatches(lambda first, name: Sharing(error), 1, WorkerPolicy())
  with pytest.raises(
    UserError, match=f'{words}.*--shm-size=8g, or --ipc=host.*config.data.workers'
  ):
    next(batches)
  batches.close()


def test_workers_of_each_loader_are_its_own():
  """Names are those of living children of this process; it need not write to any folder."""
  first, second = (watched({}, WorkerPolicy(9)) for _ in range(2))
  for batches in (first, second):
    next(batches)
  assert first._pids == {0: first._batches.child.pid}
  first._end_workers()
  assert first._batches.child.wait(10) == -signal.SIGKILL
  assert second._batches.child.poll() is None
  for batches in (first, second):
    batches.close()


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='finds workers by /proc')
def test_real_workers(tmp_path, capfd):
  """One is killed, another is stopped; the batches are those of an undisturbed run."""
  clips = loader(build_toy(tmp_path))
  # A worker's batches that are ready are given before it is missed.
  reference = take(training_batches(clips, 4, 0, 0, 0), 120)
  batches = training_batches(clips, 4, 0, 0, 2, policy=WorkerPolicy(20, 'restart'))
  found = []
  try:
    for k in range(120):
      found.append(next(batches))
      workers = [one.pid for one in multiprocessing.active_children()]
      if k == 6:
        os.kill(workers[0], signal.SIGKILL)
      if k == 66:
        os.kill(workers[-1], signal.SIGSTOP)
  finally:
    batches.close()
  assert_same(found, reference)
  err = capfd.readouterr().err
  assert 'was ended by SIGKILL' in err
  assert 'has given no batch for' in err
