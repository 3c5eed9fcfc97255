"""Runs in buckets that are killed and resumed: equal, bit for bit, to an undisturbed one on a disk.

The servers of the protocols of S3 and Google Cloud Storage run on this machine.
"""

import os
import random
import socket
import time

import jax
import numpy as np
import pytest

from tests.survival_test import (  # noqa: F401
  SIX_STEPS,
  compare,
  failed,
  finish,
  folder,
  lines,
  single,
  start,
  start_processes,
  undisturbed,
)
from zsar_jax.storage.paths import as_path
from zsar_jax.weights.checkpoint import Checkpoints

# As in survival_test.py.
pytestmark = pytest.mark.xdist_group('runs')

# How often a run is killed.
KILLS = int(os.environ.get('SURVIVAL_TIMES', '1'))


def wait_for_checkpoint(workdir, *processes):
  complete = 'checkpoints/*/commit_success.txt'
  while not any(process.poll() for process in processes) and not list(workdir.glob(complete)):
    time.sleep(0.1)


def assert_same_run(workdir, reference):
  """Compares everything that a run leaves behind and that does not measure time."""
  assert lines(workdir) == lines(reference)
  for name in ('results.json', 'config.json'):
    assert (workdir / name).read_text() == (reference / name).read_text()
  names = [path.name for path in sorted((reference / 'predictions').iterdir())]
  assert sorted(path.name for path in (workdir / 'predictions').iterdir()) == names
  for name in names:
    assert (workdir / 'predictions' / name).read_bytes() == (
      reference / 'predictions' / name
    ).read_bytes()
  assert_same_checkpoint(workdir, reference)


def assert_same_checkpoint(workdir, reference):
  states = []
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  for run in (workdir, reference):
    with Checkpoints(run) as checkpoints:
      step = checkpoints.latest
      shapes = checkpoints._manager.item_metadata(step)['state'].tree
      template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
      )
      states.append((step, checkpoints.meta(step), checkpoints.restore(step, template)))
  (step, meta, state), (expected_step, expected_meta, expected) = states
  assert (step, meta) == (expected_step, expected_meta)
  jax.tree.map(np.testing.assert_array_equal, state, expected)


@pytest.mark.slow
def test_a_killed_run_in_a_bucket_equals_one_on_a_disk(folder, undisturbed, bucket_url):  # noqa: F811
  workdir = as_path(f'{bucket_url}/run', '--workdir')
  draw = random.Random(bucket_url)
  for _ in range(KILLS):
    process = start(folder, workdir)
    wait_for_checkpoint(workdir, process)
    time.sleep(draw.uniform(0, 1))
    process.kill()
    process.communicate()
  ((_, err),) = finish(start(folder, workdir))
  assert f'resuming {workdir} after step' in err
  assert_same_run(workdir, undisturbed)
  assert (workdir / 'checkpoints' / '16').is_dir()
  assert not (workdir / 'lock').exists()


@pytest.mark.slow
def test_one_of_two_processes_in_a_bucket_is_killed(folder, single, s3_bucket):  # noqa: F811
  """Each process writes its part of the checkpoints, with the parameters divided between them."""
  workdir = as_path(f'{s3_bucket}/run', '--workdir')
  changes = (*SIX_STEPS, '--config.checkpoint.every=2', '--config.mesh.fsdp=2')
  processes = start_processes(folder, workdir, 2, *changes)
  wait_for_checkpoint(workdir, *processes)
  processes[1].kill()
  (err,) = failed(processes[0])
  sentences = [line for line in err.splitlines() if line.startswith('error: ')]
  assert len(sentences) == 1
  assert f'process 1 ({socket.gethostname()}) is gone' in sentences[0]
  assert 'Traceback' not in err
  written = finish(*start_processes(folder, workdir, 2, *changes))
  assert f'resuming {workdir} after step' in written[0][1]
  compare(lines(single), lines(workdir))
  assert (workdir / 'checkpoints' / '6').is_dir()
  assert not (workdir / 'lock').exists()
