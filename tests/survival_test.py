"""Runs that are killed, terminated and distributed over several processes, as on a cluster."""

import concurrent.futures
import functools
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.ports import free_port
from tests.toy import build_toy
from zsar_jax.storage import checksums
from zsar_jax.training.goodput import measures_time

ROOT = pathlib.Path(__file__).parent.parent

# The runs that others are compared with are made in one process of pytest only.
pytestmark = pytest.mark.xdist_group('runs')

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

# How often a run is killed, and how often one is terminated, in each of two threads.
# docs/reliability.md lists longer trials.
TIMES = int(os.environ.get('SURVIVAL_TIMES', '1'))

# Seconds after which a run that has not ended counts as failed; eight processes on two busy cores
# take two minutes to start.
PATIENCE = 300


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('survival')
  (path / 'config.py').write_text(CONFIG.format(root=str(ROOT), data_dir=build_toy(path / 'data')))
  return path


def start(folder, workdir, *flags):
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1',
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


def start_processes(folder, workdir, count, *flags):
  address = f'localhost:{free_port()}'
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
  """Waits for processes, which must succeed; returns the stdout and stderr of each."""
  deadline = time.monotonic() + PATIENCE
  late = False
  while any(process.poll() is None for process in processes):
    late = time.monotonic() > deadline
    if late or any(process.poll() for process in processes):
      # The others wait for a process that failed.
      time.sleep(2)
      for process in processes:
        process.kill()
    time.sleep(0.05)
  written = [process.communicate() for process in processes]
  ended = [process.returncode for process in processes]
  assert not late, f'not ended after {PATIENCE} seconds: {written}'
  # The full output; pytest would cut its middle.
  assert ended == [0] * len(processes), '\n'.join(out + err for out, err in written)
  return written


def reach(step, workdir, *processes):
  """Waits until a run has written the metrics of `step` steps."""
  deadline = time.monotonic() + PATIENCE
  while steps_done(workdir) < step and not any(process.poll() for process in processes):
    if time.monotonic() > deadline:
      finish(*processes)
    time.sleep(0.02)


def reach_checkpoint(workdir, *processes):
  """Waits until a run on a disk has a complete checkpoint, which it writes beside later steps."""
  deadline = time.monotonic() + PATIENCE
  while not complete_checkpoints(workdir) and not any(process.poll() for process in processes):
    if time.monotonic() > deadline:
      finish(*processes)
    time.sleep(0.02)


def complete_checkpoints(workdir):
  """Returns the folders of the complete checkpoints of a run on a disk."""
  return [path for path in (workdir / 'checkpoints').glob('*') if path.name.isdecimal()]


def lines(workdir):
  """Returns the lines of metrics.jsonl, without metrics that measure time."""
  metrics = []
  for text in (workdir / 'metrics.jsonl').read_text().splitlines():
    line = json.loads(text)
    metrics.append({k: v for k, v in line.items() if not measures_time(k)})
  return metrics


def steps_done(workdir):
  path = workdir / 'metrics.jsonl'
  return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope='module')
def undisturbed(folder):
  """The folder of an undisturbed run, which also fills the compilation cache."""
  finish(start(folder, folder / 'undisturbed'))
  return folder / 'undisturbed'


@pytest.fixture(scope='module')
def duration(folder, undisturbed):
  """The seconds that a run takes."""
  began = time.monotonic()
  finish(start(folder, folder / 'timed'))
  return time.monotonic() - began


# The flags of a short run.
SIX_STEPS = ('--config.steps=6', '--config.checkpoint.every=3')


@pytest.fixture(scope='module')
def single(folder):
  """The folder of a short run of one process, for those of several to be compared with."""
  finish(start(folder, folder / 'single', *SIX_STEPS))
  return folder / 'single'


def disturb(folder, undisturbed, name, times, moments, end):
  """Starts a run and ends it early, `times` times; then lets one finish.

  A run that finishes before it is ended is compared, and another one begins.

  Args:
    folder: the folder of the config.
    undisturbed: the folder of the run whose metrics the others must have.
    name: the prefix of the runs' folders.
    times: how often a run is ended.
    moments: draws the seconds between the start and the end.
    end: ends the process that it is given.
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
  """Calls a function with 0 and 1 at the same time; a small run uses only one core."""
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for future in [pool.submit(function, number) for number in range(2)]:
      future.result()


@pytest.mark.slow
def test_killed_at_random_moments(folder, undisturbed, duration):
  """A run that is killed while it starts, trains, saves or evaluates has the same metrics."""

  def kill(process):
    process.kill()
    process.communicate()

  def kill_runs(number):
    moment = random.Random(number)
    # The first third of a run is imports.
    moments = functools.partial(moment.uniform, 0.3 * duration, 1.2 * duration)
    disturb(folder, undisturbed, f'killed{number}-', TIMES, moments, kill)

  two_at_a_time(kill_runs)


@pytest.mark.slow
def test_terminated_at_random_moments(folder, undisturbed, duration):
  """At any moment, SIGTERM ends a run with status 0 within 30 seconds, and it can be resumed."""

  def terminate(process):
    process.terminate()
    began = time.monotonic()
    ((_, err),) = finish(process)
    assert time.monotonic() - began < 30
    assert 'Traceback' not in err

  def terminate_runs(number):
    moment = random.Random(number)
    # Before the program is loaded, the system itself ends the process.
    moments = functools.partial(moment.uniform, 1, duration)
    disturb(folder, undisturbed, f'terminated{number}-', TIMES, moments, terminate)

  two_at_a_time(terminate_runs)


@pytest.mark.slow
@pytest.mark.parametrize(('count', 'fsdp'), [(2, 1), (2, 2), (4, 2)])
def test_processes_compute_what_one_does(folder, single, count, fsdp):
  """Several processes get the losses of a single one, and only one of them writes."""
  several = folder / f'several{count}{fsdp}'
  changes = (*SIX_STEPS, f'--config.mesh.fsdp={fsdp}')
  written = finish(*start_processes(folder, several, count, *changes))
  assert ['top-1' in out for out, _ in written] == [True] + [False] * (count - 1)
  assert 'step 6/6' in written[0][1]
  assert 'step 6/6' not in written[1][1]
  compare(lines(single), lines(several))
  results = [json.loads((run / 'results.json').read_text()) for run in (single, several)]
  assert results[0].keys() == results[1].keys()


def compare(first, second):
  """Compares losses; sums over devices are rounded in another order."""
  assert [line['step'] for line in first] == [line['step'] for line in second]
  for line, other_line in zip(first, second, strict=True):
    np.testing.assert_allclose(line['loss'], other_line['loss'], rtol=2e-3)


@pytest.mark.slow
def test_a_terminated_process_stops_all_and_the_run_resumes_elsewhere(folder, undisturbed):
  """After SIGTERM to one of two processes, both stop at a step; then one, and then two, resume."""
  workdir = folder / 'moved'
  processes = start_processes(folder, workdir, 2, '--config.eval.every=0')
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
  written = finish(*start_processes(folder, workdir, 2))
  assert 'resuming' in written[0][1]
  compare(lines(undisturbed), lines(workdir))


def failed(*processes):
  """Waits for processes that must end with status 2; returns the stderr of each."""
  with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
    written = list(pool.map(lambda process: process.communicate(timeout=PATIENCE), processes))
  errors = [err for _, err in written]
  assert [process.returncode for process in processes] == [2] * len(processes), '\n'.join(errors)
  return errors


@pytest.mark.slow
def test_a_killed_process_is_named_and_the_checkpoint_stays(folder):
  """Process 0 is killed, which runs JAX's coordination service for the other one."""
  killed, workdir = 0, folder / 'killed'
  processes = start_processes(folder, workdir, 2, '--config.mesh.fsdp=2')
  reach_checkpoint(workdir, *processes)
  processes[killed].kill()
  began = time.monotonic()
  (err,) = failed(processes[1 - killed])
  assert time.monotonic() - began < 30
  sentences = [line for line in err.splitlines() if line.startswith('error: ')]
  assert len(sentences) == 1
  assert f'process {killed} ({socket.gethostname()}) is gone' in sentences[0]
  assert 'Traceback' not in err
  assert 'Check failed' not in err
  steps = complete_checkpoints(workdir)
  assert steps
  assert [checksums.find_damage(path) for path in steps] == [None] * len(steps)


@pytest.mark.slow
def test_one_of_eight_is_killed_and_four_and_one_continue(folder, single):
  changes = (*SIX_STEPS, '--config.checkpoint.every=2', '--config.eval.every=0')
  workdir, copy = folder / 'eight', folder / 'eight_then_one'
  processes = start_processes(folder, workdir, 8, *changes)
  reach_checkpoint(workdir, *processes)
  processes[5].kill()
  began = time.monotonic()
  errors = failed(*processes[:5], *processes[6:])
  assert time.monotonic() - began < 30
  for err in errors:
    sentences = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(sentences) == 1
    assert sentences[0].startswith(f'error: process 5 ({socket.gethostname()}) is gone; ')
    assert 'Traceback' not in err

  shutil.copytree(workdir, copy)
  written = finish(*start_processes(folder, workdir, 4, *changes))
  assert 'resuming' in written[0][1]
  ((_, err),) = finish(start(folder, copy, *changes))
  assert 'devices: 1, and 8 before' in err
  for resumed in (workdir, copy):
    compare(lines(single), lines(resumed))


@pytest.mark.slow
def test_a_process_that_cannot_write_its_part_of_a_checkpoint_ends_all(folder):
  """A limit on the size of its files acts like a full disk on one host."""
  workdir = folder / 'full'
  processes = start_processes(folder, workdir, 2, '--config.mesh.fsdp=2', '--config.eval.every=0')
  reach(1, workdir, *processes)
  resource.prlimit(processes[1].pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
  first, second = failed(*processes)
  assert 'could not be written' in second
  assert f'error: process 1 ({socket.gethostname()}) failed: ' in first
  assert 'Traceback' not in first


@pytest.mark.slow
def test_a_signal_ends_the_wait_for_processes_that_never_start(folder):
  address = f'localhost:{free_port()}'
  flags = [f'--coordinator_address={address}', '--num_processes=3']
  process = start(folder, folder / 'alone', *flags, '--process_id=0')
  assert process.stderr.readline() == 'waiting for the other 2 processes\n'
  time.sleep(0.5)  # Python prints a line twice if a signal interrupts its printing.
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
