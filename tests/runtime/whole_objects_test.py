"""Reading whole objects and listing everything below a folder of a bucket."""

import time

import pytest

from tests.bucket_copies import memory_bucket, upload  # noqa: F401  A fixture.
from zsar_jax.errors import UserError
from zsar_jax.runtime import bucket_requests
from zsar_jax.runtime.folders import open_folders
from zsar_jax.runtime.paths import as_path


@pytest.fixture(name='folder')
def _folder(tmp_path, bucket):
  for name in ('a', 'b/c', 'b/d/e', 'empty'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('' if name == 'empty' else f'content of {name}')
  return as_path(upload(tmp_path, f'{bucket}/folder'), '--videos')


def test_objects_are_read_whole_and_in_order(folder):
  names = ('b/c', 'empty', 'a', 'b/d/e')
  contents = bucket_requests.read_objects([folder / name for name in names])
  assert [content.decode() for content in contents] == [
    '' if name == 'empty' else f'content of {name}' for name in names
  ]
  with pytest.raises(FileNotFoundError):
    bucket_requests.read_objects([folder / 'a', folder / 'none'])


def test_a_folder_is_listed_with_its_subfolders(folder, bucket):
  sizes = {name: entry['size'] for name, entry in bucket_requests.list_tree(folder).items()}
  assert sizes == {'a': 12, 'b/c': 14, 'b/d/e': 16, 'empty': 0}
  assert bucket_requests.list_tree(folder / 'a') == {}
  assert bucket_requests.list_tree(folder / 'none') == {}


def test_a_lack_of_credentials_is_soon_final(folder, monkeypatch):
  exceptions = pytest.importorskip('botocore.exceptions')
  attempts = []

  def fail(*_, **__):
    attempts.append(time.monotonic())
    raise exceptions.NoCredentialsError

  monkeypatch.setattr(type(folder.fs), 'find', fail)
  monkeypatch.setattr(bucket_requests, '_CREDENTIALS_SECONDS', 0.3)
  listing = open_folders(str(folder), '--videos')
  with pytest.raises(UserError, match=f'^--videos: {folder}: there are no valid credentials'):
    listing.is_folder(listing.root)
  assert len(attempts) > 1
