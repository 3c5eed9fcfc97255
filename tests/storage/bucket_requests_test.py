"""Requests to buckets; tests/data/bucket_data_test.py has those that fail on servers."""

import asyncio
import time

import pytest

from tests.bucket_copies import memory_bucket, upload  # noqa: F401  A fixture.
from zsar_jax.errors import UserError
from zsar_jax.storage import bucket_requests
from zsar_jax.storage.folders import open_folders
from zsar_jax.storage.paths import as_path


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


def _refuse_credentials(exceptions):
  raise exceptions.NoCredentialsError


def _deny_access(retry):
  retry.validate_response(403, b'', 'folder')


@pytest.mark.parametrize(
  ('module', 'refuse', 'reason'),
  [
    ('botocore.exceptions', _refuse_credentials, 'there are no valid credentials'),
    ('gcsfs.retry', _deny_access, 'access is denied'),
  ],
)
def test_a_lack_of_rights_is_soon_final(folder, monkeypatch, module, refuse, reason):
  package = pytest.importorskip(module)
  attempts = []

  def fail(*_, **__):
    attempts.append(time.monotonic())
    refuse(package)

  monkeypatch.setattr(type(folder.fs), 'find', fail)
  monkeypatch.setattr(bucket_requests, '_CREDENTIALS_SECONDS', 0.3)
  listing = open_folders(str(folder), '--videos')
  with pytest.raises(UserError, match=f'^--videos: {folder}: {reason}'):
    listing.is_folder(listing.root)
  assert len(attempts) > 1


def test_waiting_for_other_requests_is_no_failure(monkeypatch):
  monkeypatch.setattr(bucket_requests, 'RETRY_SECONDS', 0.2)
  monkeypatch.setattr(bucket_requests, '_FIRST_PAUSE_SECONDS', 0.0)
  attempts = []

  async def slow():
    await asyncio.sleep(0.3)
    return b''

  async def fail_once():
    attempts.append(None)
    if len(attempts) == 1:
      raise ConnectionError
    return b'x'

  async def both():
    slots = asyncio.Semaphore(1)
    monkeypatch.setattr(bucket_requests, '_slots', lambda: slots)
    return await asyncio.gather(
      bucket_requests._persist(slow, 'memory://first', 0),
      bucket_requests._persist(fail_once, 'memory://second', 1),
    )

  assert asyncio.run(both()) == [b'', b'x']


@pytest.fixture(name='hasty')
def _hasty(monkeypatch):
  """Requests fail for good after 2 seconds, and attempts take at most as long."""
  monkeypatch.setattr(bucket_requests, 'RETRY_SECONDS', 2.0)
  monkeypatch.setattr(bucket_requests, '_PATIENCE_SECONDS', 2.0)
  monkeypatch.setattr(bucket_requests, '_FIRST_PAUSE_SECONDS', 0.0)


@pytest.mark.parametrize('arrives', [True, False])
def test_an_upload_goes_on_while_parts_arrive(hasty, arrives):
  progress = bucket_requests._Progress(30)

  async def send():
    arrive = progress.hook()
    for part in range(1, 31):
      await asyncio.sleep(0.1)
      if arrives:
        arrive(30, part)
    return b''

  upload_file = bucket_requests._persist(send, 's3://b/o', 0, progress=progress)
  if arrives:
    assert asyncio.run(upload_file) == b''
  else:
    with pytest.raises(bucket_requests.UnreachableError, match='no answer for 2 seconds'):
      asyncio.run(upload_file)


def test_an_upload_whose_end_always_fails_is_given_up(hasty, monkeypatch):
  progress = bucket_requests._Progress(1)
  attempts = []

  async def send():
    attempts.append(progress.hook())
    attempts[-1](1, 1)
    await asyncio.sleep(0.02)
    attempts[0](1, 1)  # Of the first attempt; it does not count.
    raise ConnectionError('it is not complete')

  with pytest.raises(bucket_requests.UnreachableError, match='it is not complete'):
    asyncio.run(bucket_requests._persist(send, 's3://b/o', 0, progress=progress))
  assert len(attempts) > 8
  attempts[-1](1, 1)  # Arrives when all has ended.


def test_a_long_listing_is_not_cut(hasty):
  async def read():
    await asyncio.sleep(2.5)
    return b'x'

  long = 20 * bucket_requests._BYTES_PER_SECOND
  request = bucket_requests._persist(read, 's3://b', long, check=False)
  assert asyncio.run(request) == b'x'


def test_files_are_uploaded_in_parts(bucket_url, tmp_path, monkeypatch):
  """The smallest parts that S3 takes."""
  monkeypatch.setattr(bucket_requests, '_UPLOAD_PART_BYTES', 5 << 20)
  contents = {'large': b'0123456789abcdef' * 800_000, 'small': b'small', 'empty': b''}
  for name, content in contents.items():
    (tmp_path / name).write_bytes(content)
  folder = as_path(bucket_url, '--out')
  arrived = []
  hook = bucket_requests._Progress.hook

  def record(progress):
    update = hook(progress)
    return lambda size, count: arrived.append(count) or update(size, count)

  monkeypatch.setattr(bucket_requests._Progress, 'hook', record)
  bucket_requests.upload([(tmp_path / name, folder / name) for name in contents])
  assert {name: (folder / name).read_bytes() for name in contents} == contents
  assert {5 << 20, 10 << 20, 12_800_000} <= set(arrived)
