"""status.json while a run is alive, after it has ended, and where it cannot be written."""

import time

import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime.interruption import Interrupted
from zsar_jax.training import run_status
from zsar_jax.training.run_status import RunStatus, read_status


def wait_until(condition):
  deadline = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_a_run_shows_signs_of_life_without_new_steps(tmp_path):
  status = RunStatus(tmp_path, interval=0.02)
  wait_until(lambda: read_status(tmp_path))
  first = read_status(tmp_path)
  assert first['state'] == 'starting'
  status.update(state='training', step=3)
  wait_until(lambda: read_status(tmp_path)['time'] > first['time'] + 0.1)
  assert read_status(tmp_path)['step'] == 3
  status.close(None)
  last = read_status(tmp_path)
  assert last['state'] == 'finished'
  time.sleep(0.1)
  assert read_status(tmp_path) == last
  assert [path.name for path in tmp_path.iterdir()] == ['status.json']


@pytest.mark.parametrize(
  ('error', 'state', 'words'),
  [
    (Interrupted('interrupted', 0), 'interrupted', None),
    (KeyboardInterrupt(), 'interrupted', None),
    (UserError('the disk is full\nmore'), 'failed', 'the disk is full'),
  ],
)
def test_the_next_start_keeps_what_was_reached_until_it_resumes(tmp_path, error, state, words):
  first = RunStatus(tmp_path, interval=60)
  first.update(step=7, steps=9, evaluation={'step': 5}, next={'checkpoint': 8})
  first.close(error)
  before = read_status(tmp_path)
  assert (before['state'], before.get('error')) == (state, words)
  second = RunStatus(tmp_path, interval=60)
  second.close(UserError('refused'))
  after = read_status(tmp_path)
  assert (after['step'], after['steps'], after['evaluation']) == (7, 9, {'step': 5})
  assert 'next' not in after
  assert after['error'] == 'refused'


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, capsys):
  def fail(path, text):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(run_status, 'write_file', fail)
  status = RunStatus(tmp_path, interval=0.01)
  time.sleep(0.1)
  status.close(None)
  err = capsys.readouterr().err
  assert err.count('warning:') == 1
  assert 'status.json cannot be written (No space left on device)' in err


@pytest.mark.parametrize('content', [b'', b'{"state"', b'[1]', b'\xff\x00', b'[' * 100_000])
def test_a_broken_file_is_no_status(tmp_path, content):
  (tmp_path / 'status.json').write_bytes(content)
  assert read_status(tmp_path) is None
  RunStatus(tmp_path, interval=60).close(None)
  assert read_status(tmp_path)['state'] == 'finished'


def test_an_error_of_a_client_while_the_file_is_read_does_not_end_the_run(tmp_path, monkeypatch):
  def fail(workdir):
    raise RuntimeError('no OSError, as some clients of buckets raise')

  with monkeypatch.context() as patch:
    patch.setattr(run_status, 'read_status', fail)
    RunStatus(tmp_path, interval=60).close(None)
  assert read_status(tmp_path)['state'] == 'finished'
