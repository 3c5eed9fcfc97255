"""Listings of folders: a bucket's is that of the same folder on a disk."""

import pytest

from tests.bucket_copies import memory_bucket, upload  # noqa: F401  A fixture.
from zsar_jax.errors import UserError
from zsar_jax.storage.folders import open_folders

_FILES = ('b.txt', 'a/1.txt', 'a/0.txt', 'a/deep/er/x', '.hidden/y', 'with space/ü.txt')


def _describe(folders):
  """Returns everything that a listing says about the files and what is not there."""
  paths = [
    folders.root,
    *(f'{folders.root}/{name}' for name in (*_FILES, 'a', 'a/deep', 'c', 'a/c')),
  ]
  kinds = {path: (folders.is_folder(path), folders.is_file(path)) for path in paths}
  entries = {path: sorted(folders.entries(path)) for path in paths if folders.is_folder(path)}
  text = repr((kinds, entries, list(folders.files(folders.root))))
  return text.replace(folders.root, 'ROOT')


def test_a_bucket_is_listed_as_a_disk(tmp_path, bucket):
  for name in _FILES:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(name)
  remote = open_folders(upload(tmp_path, f'{bucket}/data') + '/', '--videos')
  assert remote.root == f'{bucket}/data'
  assert _describe(remote) == _describe(open_folders(tmp_path, '--videos'))


def test_files_and_missing_folders(tmp_path, bucket):
  (tmp_path / 'a').write_text('')
  for root in (upload(tmp_path, bucket), str(tmp_path)):
    file, missing = (open_folders(f'{root}/{name}', '--videos') for name in ('a', 'b'))
    assert (file.is_file(file.root), file.is_folder(file.root)) == (True, False)
    assert (missing.is_file(missing.root), missing.is_folder(missing.root)) == (False, False)
  with pytest.raises(UserError, match='^--videos: nothing://x cannot be opened'):
    open_folders('nothing://x', '--videos')
