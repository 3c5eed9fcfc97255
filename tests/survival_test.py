"""Programs that are killed, terminated and started on several processes, as a cluster does."""

import concurrent.futures
import functools
import json
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.toy import build_toy
from zsar_jax.runtime import checksums

ROOT = pathlib.Path(__file__).parent.parent

CONFIG = """
import sys
sys.path.insert(0, {root!r})
from tests.training.loop_test import toy_config
def get_config(variant=''):
  return toy_config(
    {data_dir!r}, steps=16, checkpoint__every=2, recipe='none', model__temporal='mean',
    optim__accumulation=1, optim__lr_rules=(('text/.*', 0.0),), mesh__fsdp_min_bytes=1,
    eval__every=8)
"""

# How often a run is killed, and how often one is terminated, in each of two threads. More often
# where there is time: docs/measurements/survival.md says what was tried.
TIMES = int(os.environ.get('SURVIVAL_TIMES', '3'))

# Seconds after which a run that does not end is a failure.
PATIENCE = 120


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('survival')
  (path / 'config.py').write_text(CONFIG.format(root=str(ROOT), data_dir=build_toy(path / 'data')))
  return path


def start(folder, workdir, *flags, devices=1):
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'--xla_backend_optimization_level=0'
    f' --xla_force_host_platform_device_count={devices}',
    'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo',
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  return subprocess.Popen(
    [sys.executable, '-m', 'zsar_jax.main', f'--config={folder / "config.py"}']
    + [f'--workdir={workdir}', *flags],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def start_many(folder, workdir, count, *flags):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  return [
    start(
      folder,
      workdir,
      f'--coordinator_address={address}',
      f'--num_processes={count}',
      f'--process_id={n}',
      *flags,
    )
    for n in range(count)
  ]


def finish(*processes):
  """Waits for processes, which have to end well; returns what each wrote to stdout and stderr."""
  deadline = time.monotonic() + PATIENCE
  late = False
  while any(process.poll() is None for process in processes):
    late = time.monotonic() > deadline
    if late or any(process.poll() for process in processes):
      # One that failed is waited for by the others.
      time.sleep(2)
      for process in processes:
        process.kill()
    time.sleep(0.05)
  written = [process.communicate() for process in processes]
  ended = [process.returncode for process in processes]
  assert not late, f'not ended after {PATIENCE} seconds: {written}'
  # Whole, where pytest would leave out the middle.
  assert ended == [0] * len(processes), '\n'.join(out + err for out, err in written)
  return written


def reach(step, workdir, *processes):
  """Waits until a run has written the metrics of so many steps."""
  deadline = time.monotonic() + PATIENCE
  while steps_done(workdir) < step and not any(process.poll() for process in processes):
    if time.monotonic() > deadline:
      finish(*processes)
    time.sleep(0.02)


def lines(workdir):
  """The metrics that do not tell of time."""
  found = []
  for text in (workdir / 'metrics.jsonl').read_text().splitlines():
    line = json.loads(text)
    found.append(
      {k: v for k, v in line.items() if not k.startswith('seconds/') and k != 'clips_per_second'}
    )
  return found


def steps_done(workdir):
  path = workdir / 'metrics.jsonl'
  return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope='module')
def undisturbed(folder):
  """The folder of a run that nothing disturbed, which also filled the cache of compiled code."""
  finish(start(folder, folder / 'undisturbed'))
  return folder / 'undisturbed'


@pytest.fixture(scope='module')
def whole(folder, undisturbed):
  """Seconds that a run takes."""
  began = time.monotonic()
  finish(start(folder, folder / 'timed'))
  return time.monotonic() - began


def disturb(folder, undisturbed, name, times, moments, end):
  """Starts a run and ends it at a moment, so many times; then one is left alone.

  Args:
    folder: of the config.
    undisturbed: of the run whose metrics it has to have.
    name: of the runs' folders: where one finishes, another begins.
    times: how often one is ended.
    moments: draws the seconds from its start.
    end: takes the process and ends it.
  """
  count, runs = 0, 0
  while count < times:
    workdir = folder / f'{name}{runs}'
    process = start(folder, workdir)
    try:
      process.wait(moments())
    except subprocess.TimeoutExpired:
      end(process)
      count += 1
    else:
      finish(process)
    if (workdir / 'results.json').exists():
      assert lines(workdir) == lines(undisturbed)
      runs += 1
  finish(start(folder, folder / f'{name}{runs}'))
  assert lines(folder / f'{name}{runs}') == lines(undisturbed)


def two_at_a_time(function):
  """Calls it with 0 and 1, side by side: a small run has no use for a second core."""
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for future in [pool.submit(function, number) for number in range(2)]:
      future.result()


@pytest.mark.slow
def test_killed_at_random_moments(folder, undisturbed, whole):
  """While it starts, trains, saves and evaluates."""

  def kill(process):
    process.kill()
    process.communicate()

  def one(number):
    moment = random.Random(number)
    # The first third is imports.
    moments = functools.partial(moment.uniform, 0.3 * whole, 1.2 * whole)
    disturb(folder, undisturbed, f'killed{number}-', TIMES, moments, kill)

  two_at_a_time(one)


@pytest.mark.slow
def test_terminated_at_random_moments(folder, undisturbed, whole):
  """From its start to the last evaluation: status 0 within 30 seconds, and it goes on."""

  def terminate(process):
    process.terminate()
    began = time.monotonic()
    ((_, err),) = finish(process)
    assert time.monotonic() - began < 30
    assert 'Traceback' not in err

  def one(number):
    moment = random.Random(number)
    # Until the program has been loaded, the system ends it.
    moments = functools.partial(moment.uniform, 1, whole)
    disturb(folder, undisturbed, f'terminated{number}-', TIMES, moments, terminate)

  two_at_a_time(one)


@pytest.mark.slow
@pytest.mark.parametrize(('count', 'fsdp'), [(2, 1), (2, 2), (4, 2)])
def test_processes_compute_what_one_does(folder, count, fsdp):
  """And write once what is written."""
  changes = [f'--config.mesh.fsdp={fsdp}', '--config.steps=6', '--config.checkpoint.every=3']
  one, many = folder / f'one{count}{fsdp}', folder / f'many{count}{fsdp}'
  finish(start(folder, one, *changes, devices=count))
  written = finish(*start_many(folder, many, count, *changes))
  assert ['top-1' in out for out, _ in written] == [True] + [False] * (count - 1)
  assert 'step 6/6' in written[0][1]
  assert 'step 6/6' not in written[1][1]
  compare(lines(one), lines(many))
  results = [json.loads((run / 'results.json').read_text()) for run in (one, many)]
  assert results[0].keys() == results[1].keys()


def compare(first, second):
  """Sums over devices are rounded in another order."""
  assert [line['step'] for line in first] == [line['step'] for line in second]
  for one, other in zip(first, second, strict=True):
    np.testing.assert_allclose(one['loss'], other['loss'], rtol=2e-3)


@pytest.mark.slow
def test_one_process_is_terminated_and_all_go_on_elsewhere(folder, undisturbed):
  """SIGTERM to one of two: both save at the same step; one process and four go on from there."""
  workdir = folder / 'moved'
  processes = start_many(folder, workdir, 2, '--config.eval.every=0')
  reach(3, workdir, *processes)
  processes[1].terminate()
  began = time.monotonic()
  written = finish(*processes)
  assert time.monotonic() - began < 30
  stopped = [err.split('interrupted after step ')[1].split(';')[0] for _, err in written]
  assert stopped[0] == stopped[1]
  assert int(stopped[0]) < 10

  process = start(folder, workdir)
  reach(int(stopped[0]) + 2, workdir, process)
  process.terminate()
  ((_, err),) = finish(process)
  assert f'after step {stopped[0]}' in err
  written = finish(*start_many(folder, workdir, 4))
  assert 'resuming' in written[0][1]
  compare(lines(undisturbed), lines(workdir))


def failed(*processes):
  """Waits for processes that have to end with status 2; what each wrote to stderr."""
  with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
    written = list(pool.map(lambda process: process.communicate(timeout=PATIENCE), processes))
  errors = [err for _, err in written]
  assert [process.returncode for process in processes] == [2] * len(processes), '\n'.join(errors)
  return errors


@pytest.mark.slow
def test_a_process_that_is_gone_is_named_and_the_checkpoint_stays(folder):
  """The one with JAX's service, which the other one's client cannot do without."""
  gone, workdir = 0, folder / 'gone'
  processes = start_many(folder, workdir, 2, '--config.mesh.fsdp=2')
  reach(4, workdir, *processes)
  processes[gone].kill()
  began = time.monotonic()
  (err,) = failed(processes[1 - gone])
  assert time.monotonic() - began < 30
  sentences = [line for line in err.splitlines() if line.startswith('error: ')]
  assert len(sentences) == 1
  assert f'process {gone} ({socket.gethostname()}) is gone' in sentences[0]
  assert 'Traceback' not in err
  assert 'Check failed' not in err
  steps = [path for path in (workdir / 'checkpoints').iterdir() if path.name.isdecimal()]
  assert steps
  assert [checksums.find_damage(path) for path in steps] == [None] * len(steps)


@pytest.mark.slow
def test_one_process_cannot_write_its_part_of_a_checkpoint(folder):
  """No file of it may grow beyond a limit: what a full disk of one host does."""
  workdir = folder / 'full'
  processes = start_many(folder, workdir, 2, '--config.mesh.fsdp=2', '--config.eval.every=0')
  reach(1, workdir, *processes)
  resource.prlimit(processes[1].pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
  first, second = failed(*processes)
  assert 'could not be written' in second
  assert f'error: process 1 ({socket.gethostname()}) failed: ' in first
  assert 'Traceback' not in first


@pytest.mark.slow
def test_a_signal_to_a_process_that_waits_for_others_that_never_come(folder):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  flags = [f'--coordinator_address={address}', '--num_processes=3']
  process = start(folder, folder / 'alone', *flags, '--process_id=0')
  assert process.stderr.readline() == 'waiting for the other 2 processes\n'
  time.sleep(0.5)  # Python prints a line again whose printing is interrupted.
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=10)
  assert process.returncode == 130
  assert err == 'interrupted while waiting for the other 2 processes; the same command goes on\n'
  (err,) = failed(
    start(folder, folder / 'alone', *flags, '--process_id=1', '--wait_for_processes=1')
  )
  assert err.startswith(
    f'error: process 0 did not answer at {address} within 1 seconds (Connection'
  )
