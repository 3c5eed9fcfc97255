"""Data sets are built into buckets: uploaded when complete, continued after interruptions."""

import concurrent.futures
import io
import pathlib
import sys
import tempfile
import time
import uuid

import pytest

from tests.toy import Toy
from zsar_jax.data.catalog import find_dataset
from zsar_jax.data.dataset import open_dataset
from zsar_jax.datasets import build as build_lib
from zsar_jax.datasets.beam import Beam
from zsar_jax.datasets.bucket_build import upload
from zsar_jax.datasets.build import build
from zsar_jax.errors import UserError
from zsar_jax.pantomime import worlds
from zsar_jax.storage import bucket_requests, leases
from zsar_jax.storage.locks import lock_folder
from zsar_jax.storage.paths import as_path


@pytest.fixture(name='temporary', autouse=True)
def _temporary(tmp_path, monkeypatch):
  """The system's folder for temporary files."""
  folder = tmp_path / 'temporary'
  folder.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  return folder


@pytest.fixture(name='bucket')
def _bucket():
  return as_path(f'memory://{uuid.uuid4().hex}/data', '')


class Other(Toy, skip_registration=True):
  """The same with another parameter."""

  name = 'toy'
  parameters = {'quality': 5}


def leftovers(temporary):
  """Returns what builds left in the folder of temporary files."""
  return list(temporary.glob('zsar_jax*'))


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail_at(monkeypatch, bucket, name, error=KeyboardInterrupt):
  """Has the upload of a file fail; returns the names of the files that are uploaded."""
  uploaded = []
  original = type(bucket.fs).put_file

  def put_file(self, source, target, *args, **options):
    if name and name in target:
      raise error
    uploaded.append(target.rpartition('/')[2])
    return original(self, source, target, *args, **options)

  monkeypatch.setattr(type(bucket.fs), 'put_file', put_file)
  return uploaded


def test_the_files_are_those_of_a_build_on_a_disk(tmp_path, temporary, bucket, capsys):
  expected = build(Toy(tmp_path / 'out'), workers=0)
  directory = build(Toy(str(bucket)), workers=0)
  assert str(directory) == f'{bucket}/toy/1.0.0'
  assert find_dataset(bucket, 'toy') == directory
  assert contents(directory) == contents(expected)
  assert f'toy: built in {bucket}/toy/1.0.0\n' in capsys.readouterr().out
  assert not leftovers(temporary)
  build(Toy(bucket), workers=0)
  assert f'toy already exists: {bucket}/toy/1.0.0\n' in capsys.readouterr().out
  assert not leftovers(temporary)
  other = Other(bucket)
  with pytest.raises(UserError, match=f'^{directory} was built with quality = None, not quality ='):
    build(other, workers=0)


@pytest.mark.parametrize('name', ['index-train', 'dataset_info.json'])
def test_an_interrupted_upload_is_not_seen_and_continues(
  tmp_path, temporary, bucket, name, monkeypatch
):
  expected = build(Toy(tmp_path / 'out'), workers=0)
  with monkeypatch.context() as patch:
    fail_at(patch, bucket, name, PermissionError(13, 'Forbidden'))
    with pytest.raises(UserError, match=f'^--out: {bucket}/toy/1.0.0 cannot be written .Forbidden'):
      build(Toy(bucket), workers=0)
  assert find_dataset(bucket, 'toy') is None
  assert (bucket / 'toy' / '1.0.0' / 'checksums.json').exists()
  present = set(contents(bucket / 'toy' / '1.0.0'))
  uploaded = fail_at(monkeypatch, bucket, '')
  monkeypatch.setattr(build_lib, '_stage_and_publish', None)  # It is built already.
  directory = build(Toy(bucket), workers=0)
  assert contents(directory) == contents(expected)
  assert uploaded[-1] == 'dataset_info.json'
  assert not present & set(uploaded) - {'checksums.json'}
  assert not leftovers(temporary)


def test_the_upload_of_another_build_is_replaced(tmp_path, temporary, bucket, monkeypatch):
  expected = build(Toy(tmp_path / 'out'), workers=0)
  other = Other(bucket)
  with monkeypatch.context() as patch:
    fail_at(patch, bucket, 'dataset_info.json', PermissionError(13, 'Forbidden'))
    with pytest.raises(UserError, match='Forbidden'):
      build(other, workers=0)
  build_folder = next(iter(leftovers(temporary)))
  build_folder.rename(temporary / 'lost')  # Another machine goes on.
  (bucket / 'toy' / '1.0.0' / 'left over').touch()
  uploaded = fail_at(monkeypatch, bucket, '')
  directory = build(Toy(bucket), workers=0)
  assert contents(directory) == contents(expected)
  assert len(uploaded) == len(contents(expected))


def test_an_upload_that_lacks_a_byte_is_noticed(bucket, monkeypatch):
  original = type(bucket.fs).put_file

  def put_file(self, source, target, *args, **options):
    original(self, source, target, *args, **options)
    if target.endswith('metadata.json'):
      self.pipe_file(target, self.cat_file(target)[:-1])

  monkeypatch.setattr(type(bucket.fs), 'put_file', put_file)
  with pytest.raises(UserError, match='^--out: .*metadata.json did not arrive'):
    build(Toy(bucket), workers=0)
  assert find_dataset(bucket, 'toy') is None


def test_a_build_waits_for_that_of_another_machine(bucket, monkeypatch):
  monkeypatch.setattr(leases, '_POLL_SECONDS', 0.05)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  with (
    concurrent.futures.ThreadPoolExecutor() as pool,
    lock_folder(bucket / '.staging' / 'toy'),
  ):
    directory = pool.submit(build, Toy(bucket), workers=0)
    waiting = f'waiting for the other process that works in {bucket}/.staging/toy '
    while waiting not in sys.stderr.getvalue():
      assert not directory.done()
      time.sleep(0.01)
    other = build_lib._build_here(Toy(bucket), 0, False, None)
    monkeypatch.setattr(build_lib, '_build_here', None)
    upload(other, bucket / 'toy' / '1.0.0')
  assert find_dataset(bucket, 'toy') == directory.result()
  assert not bucket_requests.list_folder(bucket / '.staging' / 'toy')


def test_a_bucket_without_rights_is_reported(bucket, monkeypatch):
  def forbid(*_, **__):
    raise PermissionError(13, 'Forbidden')

  monkeypatch.setattr(type(bucket.fs), 'pipe_file', forbid)
  with pytest.raises(UserError, match=f'^--out: {bucket}/.staging/toy: '):
    build(Toy(bucket), workers=0)


def test_beam_on_other_machines_is_refused(bucket):
  with pytest.raises(UserError, match='^--beam_runner: a data set for a bucket is built on this'):
    build(Toy(bucket), beam=Beam('FlinkRunner'))


def test_a_folder_of_somebody_else_is_refused(temporary, bucket):
  Toy(bucket)
  (folder,) = leftovers(temporary)
  folder.rmdir()
  folder.symlink_to(pathlib.Path.cwd())
  with pytest.raises(UserError, match='^--out: .* cannot be used .it belongs to somebody else'):
    Toy(bucket)


def test_embedded_data_is_built_into_a_bucket(bucket, temporary, monkeypatch):
  clips = {f'{split}_clips': 1 for split in ('train', 'validation', 'test')}
  monkeypatch.setattr(worlds.Pantomime.__init__, '__defaults__', (0, *clips.values(), 90))
  worlds.build_worlds(str(bucket), ['pantomime/scenes'])
  worlds.build_worlds(str(bucket), ['pantomime/scenes'])
  assert len(open_dataset(bucket, 'pantomime/scenes', 'test')) == 1
  assert not leftovers(temporary)
