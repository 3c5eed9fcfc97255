"""Runs in buckets that are killed and resumed: equal, bit for bit, to an undisturbed one on a disk.

The servers of the protocols of S3 and Google Cloud Storage run on this machine.
"""

import os
import random
import time

import jax
import numpy as np
import pytest

from tests.survival_test import finish, folder, lines, start, undisturbed  # noqa: F401
from zsar_jax.runtime.paths import as_path
from zsar_jax.weights.checkpoint import Checkpoints

# How often a run is killed.
KILLS = int(os.environ.get('SURVIVAL_TIMES', '1'))


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
    while process.poll() is None and not list(workdir.glob('checkpoints/*/commit_success.txt')):
      time.sleep(0.1)
    time.sleep(draw.uniform(0, 1))
    process.kill()
    process.communicate()
  ((_, err),) = finish(start(folder, workdir))
  assert f'resuming {workdir} after step' in err
  assert_same_run(workdir, undisturbed)
  assert (workdir / 'checkpoints' / '16').is_dir()
  assert not (workdir / 'lock').exists()
