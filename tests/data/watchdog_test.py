"""Workers that die or hang: named, and the run ends or goes on with the same batches."""

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
from zsar_jax.data.watchdog import Guard, WatchedBatches
from zsar_jax.errors import UserError


class FakeWorkers:
  """Numbers as batches, from one child process; it dies like Grain's where `fails` says so."""

  def __init__(self, first, folder, fails):
    self.number, self.fails = first, fails
    self.child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    (folder / f'0-{self.child.pid}').touch()

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


def watched(fails, guard, always=False):
  fails = dict(fails)
  return WatchedBatches(
    lambda first, folder: FakeWorkers(first, folder, dict(fails) if always else fails), 1, guard
  )


@pytest.mark.parametrize('how', ['dies', 'hangs'])
def test_stop(how):
  batches = watched({2: how}, Guard(patience=0.5))
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
  batches = watched({2: 'dies', 4: 'hangs'}, Guard(0.5, 'restart'))
  assert [next(batches)['number'] for _ in range(6)] == list(range(6))
  batches.close()
  assert capfd.readouterr().err.count('the workers are started anew') == 2


def test_restarting_has_an_end():
  batches = watched({1: 'dies'}, Guard(9, 'restart'), always=True)
  next(batches)
  with pytest.raises(UserError, match='was ended by SIGKILL'):
    next(batches)
  batches.close()


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='finds workers by /proc')
def test_real_workers(tmp_path, capfd):
  """One is killed, another is stopped; the batches are those of an undisturbed run."""
  clips = loader(build_toy(tmp_path))
  # A worker's batches that are ready are given before it is missed.
  reference = take(training_batches(clips, 4, 0, 0, 0), 120)
  batches = training_batches(clips, 4, 0, 0, 2, guard=Guard(20, 'restart'))
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
