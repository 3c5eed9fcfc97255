"""Paths in buckets, in fsspec's bucket in memory."""

import errno
import os
import subprocess
import sys
import uuid

import pytest

from zsar_jax.errors import UserError
from zsar_jax.storage import buckets, files
from zsar_jax.storage.paths import as_path


@pytest.fixture
def bucket():
  """A folder of its own in a bucket."""
  return as_path(f'memory://{uuid.uuid4().hex}/run', '--workdir')


def test_a_bucket_is_written_and_read_through_pathlib(bucket):
  assert buckets.is_remote(bucket)
  assert str(bucket / 'a') == f'{bucket}/a'
  files.write_file(bucket / 'a' / 'b.txt', 'first')
  files.write_file(bucket / 'a' / 'b.txt', 'second')
  assert (bucket / 'a' / 'b.txt').read_text() == 'second'
  assert [path.name for path in (bucket / 'a').iterdir()] == ['b.txt']
  assert (bucket / 'a').is_dir()
  assert not (bucket / 'b').exists()


def test_an_error_keeps_the_former_object(bucket):
  files.write_file(bucket / 'a', 'first')

  def write_half():
    with files.open_atomically(bucket / 'a') as file:
      file.write(b'half')
      raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    write_half()
  assert (bucket / 'a').read_text() == 'first'
  assert [path.name for path in bucket.iterdir()] == ['a']


def test_a_folder_for_output_is_tried(bucket, monkeypatch):
  files.make_folder(bucket, '--out')
  assert not list(bucket.parent.glob('run/.writable*'))

  def refuse(*_, **__):
    raise PermissionError(13, 'Forbidden')

  monkeypatch.setattr(type(bucket.fs), 'pipe_file', refuse)
  with pytest.raises(UserError, match=f'^--out: {bucket}: access is denied .*Forbidden.; give'):
    files.make_folder(bucket, '--out')


def test_local_copies(bucket, tmp_path):
  files.write_file(bucket / 'weights' / 'a.txt', 'a')
  files.write_file(bucket / 'weights' / 'deep' / 'b.txt', 'b')
  with buckets.local_copy(bucket / 'weights') as copy:
    assert copy.name == 'weights'
    assert {path.name: path.read_text() for path in copy.rglob('*.txt')} == {
      'a.txt': 'a',
      'b.txt': 'b',
    }
  assert not copy.exists()
  with buckets.local_copy(bucket / 'weights' / 'a.txt') as copy:
    assert copy.read_text() == 'a'
  with buckets.local_copy(tmp_path) as copy:
    assert copy is tmp_path
  with pytest.raises(FileNotFoundError), buckets.local_copy(bucket / 'none'):
    pass


@pytest.mark.parametrize(
  ('url', 'message'),
  [
    ('nothing://x', '^--out: nothing://x cannot be opened '),
    ('lakefs://x', '^--out: lakefs://x needs a package that is not installed'),
  ],
)
def test_unusable_urls(url, message):
  with pytest.raises(UserError, match=message):
    as_path(url, '--out')


def test_local_paths_import_no_package_for_buckets():
  code = (
    'import sys; from zsar_jax.storage import files, paths; paths.as_path("a", "--out");'
    ' print({"fsspec", "upath"} & set(sys.modules))'
  )
  process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert process.stdout.strip() == 'set()'


def test_a_full_temporary_folder_is_named(bucket, monkeypatch):
  path = bucket / 'stills.npz'
  path.write_bytes(b'x')

  def fill(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(type(path.fs), 'get', fill)
  copying = buckets.local_copy(path)
  with pytest.raises(UserError, match=f'^{path} cannot be copied to .* left.*set TMPDIR'):
    copying.__enter__()
