"""Checkpoints in buckets: complete or absent, verified, kept, and deleted."""

import uuid

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path
from zsar_jax.weights import checkpoint
from zsar_jax.weights.checkpoint import Checkpoints, has_checkpoint, latest_step, load_params

STATE = {'params': {'kernel': jnp.arange(64.0).reshape(16, 4), 'bias': jnp.ones(3)}}


def shapes(tree):
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
  )


def steps(folder):
  return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def saved(bucket_url):
  """A workdir with the checkpoints of two of three steps."""
  workdir = as_path(bucket_url, '--workdir')
  assert not has_checkpoint(workdir)
  with Checkpoints(workdir, keep=2) as checkpoints:
    for step in (3, 5, 7):
      checkpoints.save(step, STATE, {'clips': step})
  checkpoint._cached_damage.cache_clear()
  return workdir


def test_damaged_and_unfinished_checkpoints_are_not_used(saved):
  folder = saved / 'checkpoints'
  assert steps(folder) == ['5', '7']
  # Whoever was killed while it wrote step 9 has not marked it as complete.
  for path in (folder / '7').rglob('*'):
    if path.is_file() and path.name != 'commit_success.txt':
      (folder / '9' / path.relative_to(folder / '7').as_posix()).write_bytes(path.read_bytes())
  with Checkpoints(saved) as checkpoints:
    assert checkpoints.latest == 7
    restored = checkpoints.restore(7, shapes(STATE))
    jax.tree.map(np.testing.assert_array_equal, restored, STATE)
    checkpoints.clear_after(7)
  assert steps(folder) == ['5', '7']

  data = next(path for path in (folder / '7').rglob('*') if path.parent.name == 'd')
  content = bytearray(data.read_bytes())
  content[-1] ^= 1
  data.write_bytes(bytes(content))
  with Checkpoints(saved) as checkpoints:
    newest, meta = checkpoints.read_newest(checkpoints.meta)
    assert (newest, meta) == (5, {'clips': 5})
    checkpoints.clear_after(newest)
    assert checkpoints.latest == 5
  assert steps(folder) == ['5']
  assert steps(saved / 'damaged_checkpoints') == ['7.0']
  aside = saved / 'damaged_checkpoints' / '7.0'
  assert (aside / data.relative_to(folder / '7').as_posix()).read_bytes() == content
  params = load_params(saved, shapes(STATE['params']), '--workdir')
  jax.tree.map(np.testing.assert_array_equal, params, STATE['params'])


def test_a_bucket_that_fails_is_no_damage(s3_bucket, monkeypatch):
  workdir = as_path(s3_bucket, '--workdir')
  with Checkpoints(workdir, keep=2) as checkpoints:
    for step in (5, 7):
      checkpoints.save(step, STATE, {'clips': step})
  checkpoint._cached_damage.cache_clear()
  with Checkpoints(workdir) as checkpoints:
    # As a lost connection in the middle.
    with monkeypatch.context() as patch:
      patch.setattr(type(workdir.fs), '_cat_file', _refuse)
      patch.setattr(type(workdir.fs), 'open', _refuse)
      with pytest.raises(UserError, match='^--workdir: .*/checkpoints/7: access is denied'):
        checkpoints.read_newest(checkpoints.meta)
    assert checkpoints.read_newest(checkpoints.meta) == (7, {'clips': 7})
  assert steps(workdir / 'checkpoints') == ['5', '7']


def _refuse(*_, **__):
  from s3fs.errors import translate_boto_error

  exceptions = pytest.importorskip('botocore.exceptions')
  raise translate_boto_error(
    exceptions.ClientError({'Error': {'Code': 'AccessDenied', 'Message': 'no'}}, 'GetObject')
  )


def test_buckets_without_checkpoints():
  workdir = as_path(f'memory://{uuid.uuid4().hex}/run', '--workdir')
  assert latest_step(workdir) is None
  with pytest.raises(UserError, match='a folder in memory:// cannot hold checkpoints; name'):
    Checkpoints(workdir)


@pytest.mark.parametrize('name', ['run#1', 'run?a'])
def test_names_that_orbax_would_cut_are_refused(gcs_bucket, name):
  workdir = as_path(f'{gcs_bucket}/{name}', '--workdir')
  with pytest.raises(UserError, match=r'^--workdir: gs://.*/run.*/checkpoints: a folder in gs://'):
    Checkpoints(workdir)
  assert latest_step(workdir) is None  # A folder of weights may have any name.


def test_arrays_that_cannot_be_reached_are_no_damage(s3_bucket, monkeypatch):
  workdir = as_path(s3_bucket, '--workdir')
  with Checkpoints(workdir) as checkpoints:
    checkpoints.save(5, STATE, {'clips': 5})
  with Checkpoints(workdir) as checkpoints:

    def fail(*_, **__):
      raise ValueError('s3://b/x: ABORTED: All 14 retry attempts failed: UNAVAILABLE')

    monkeypatch.setattr(checkpoints._manager, 'restore', fail)
    with pytest.raises(UserError, match='^--workdir: .*/5: the bucket cannot be read .s3://b/x: A'):
      checkpoints.read_newest(lambda step: checkpoints.restore(step, shapes(STATE)))
