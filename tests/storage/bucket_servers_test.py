"""Paths in buckets, against servers of the protocols of S3 and Google Cloud Storage."""

import pytest

from zsar_jax.storage import buckets, files
from zsar_jax.storage.paths import as_path


def test_a_bucket_is_written_and_read(bucket_url):
  folder = as_path(bucket_url, '--workdir')
  assert not folder.exists()
  files.make_folder(folder, '--workdir')
  files.write_file(folder / 'a' / 'b.txt', 'first')
  files.write_file(folder / 'a' / 'b.txt', 'second')
  assert (folder / 'a' / 'b.txt').read_text() == 'second'
  assert [path.name for path in folder.iterdir()] == ['a']
  assert [path.name for path in folder.rglob('*.txt')] == ['b.txt']
  with buckets.local_copy(folder) as copy:
    assert (copy / 'a' / 'b.txt').read_text() == 'second'
  with pytest.raises(FileNotFoundError):
    (folder / 'none').read_text()


def test_objects_are_created_exclusively(bucket_url):
  path = as_path(bucket_url, '--workdir') / 'a'
  path.fs.pipe_file(path.path, b'first', mode='create')
  with pytest.raises(FileExistsError):
    path.fs.pipe_file(path.path, b'second', mode='create')
  assert path.read_bytes() == b'first'
