"""The cache of data in buckets: equal bytes, few requests, bounded size, any damage repaired."""

import multiprocessing
import os
import time
import uuid

import numpy as np
import pytest

from zsar_jax.data import shard_cache
from zsar_jax.data.shard_cache import BLOCK, CacheSettings, ShardCache
from zsar_jax.storage import bucket_requests
from zsar_jax.storage.paths import as_path

SIZE = 10 * BLOCK + 1234
CONTENT = np.random.default_rng(0).bytes(SIZE)
LIMIT = 1 << 30


@pytest.fixture(name='path')
def _path():
  """A file in a bucket."""
  path = as_path(f'memory://{uuid.uuid4().hex}/shard', '')
  path.write_bytes(CONTENT)
  return path


@pytest.fixture(name='read', autouse=True)
def _read(monkeypatch):
  """The ranges that were read from the bucket."""
  ranges = []

  def read_ranges(requests, original=bucket_requests.read_ranges):
    ranges.extend((begin, end) for _, begin, end in requests)
    return original(requests)

  monkeypatch.setattr(bucket_requests, 'read_ranges', read_ranges)
  monkeypatch.setattr(shard_cache, '_states', {})
  monkeypatch.setattr(shard_cache, '_LEFT_FREE', 0)
  return ranges


def make(folder, limit=LIMIT, url='memory://bucket', version='1'):
  return ShardCache(CacheSettings(folder, limit), url, {'shard': (SIZE, version)})


def check(cache, path, *ranges):
  """Reads ranges and compares them with the file."""
  contents = cache.read([(path, SIZE, begin, end) for begin, end in ranges])
  assert contents == [CONTENT[begin:end] for begin, end in ranges]


def test_blocks_are_read_once_and_neighbors_in_one_request(tmp_path, path, read):
  cache = make(tmp_path)
  check(cache, path, (10, 20), (BLOCK + 5, BLOCK + 6), (9 * BLOCK, SIZE), (15, 3 * BLOCK))
  assert sorted(read) == [(0, 3 * BLOCK), (9 * BLOCK, SIZE)]
  read.clear()
  check(make(tmp_path), path, (0, 3 * BLOCK), (SIZE - 1, SIZE))
  assert not read
  check(make(tmp_path), path, (0, SIZE))
  assert read == [(3 * BLOCK, 9 * BLOCK)]


def test_long_ranges_are_read_and_kept_in_pieces(tmp_path, path, read, monkeypatch):
  monkeypatch.setattr(shard_cache, '_MAX_RUN', 4)
  monkeypatch.setattr(shard_cache, '_MAX_WRITTEN', 4 * BLOCK)
  check(make(tmp_path), path, (0, SIZE))
  assert sorted(read) == [(0, 4 * BLOCK), (4 * BLOCK, 8 * BLOCK), (8 * BLOCK, SIZE)]
  read.clear()
  check(make(tmp_path), path, (0, SIZE))
  assert not read


def test_any_ranges_are_those_of_the_file(tmp_path, path):
  rng = np.random.default_rng(1)
  cache = make(tmp_path)
  for _ in range(50):
    ends = np.sort(rng.integers(0, SIZE, (4, 2)), axis=1)
    check(cache, path, *((int(begin), int(end) + 1) for begin, end in ends))


def test_damaged_and_torn_blocks_are_read_again(tmp_path, path, read):
  cache = make(tmp_path)
  check(cache, path, (0, SIZE))
  data, sums = cache.folder / 'shard', cache.folder / 'shard.crc'
  with data.open('r+b') as file:
    file.seek(4 * BLOCK + 77)
    file.write(b'?')
    file.truncate(9 * BLOCK + 5)
  with sums.open('r+b') as file:
    file.write(bytes(4))  # The block arrived, its checksum did not.
  read.clear()
  check(cache, path, (0, SIZE))
  assert read == [(0, BLOCK), (4 * BLOCK, 5 * BLOCK), (9 * BLOCK, SIZE)]
  read.clear()
  check(cache, path, (0, SIZE))
  assert not read
  # A block in the place of another one.
  with data.open('r+b') as file, sums.open('r+b') as crc:
    content, checksums = file.read(BLOCK), crc.read(4)
    file.seek(BLOCK)
    file.write(content)
    crc.seek(4)
    crc.write(checksums)
  check(cache, path, (0, SIZE))
  assert read == [(BLOCK, 2 * BLOCK)]
  read.clear()
  sums.write_bytes(b'abc')
  check(cache, path, (0, SIZE))
  assert read == [(0, SIZE)]
  data.unlink()
  check(cache, path, (0, SIZE))


def test_another_build_and_another_url_have_blocks_of_their_own(tmp_path, path, read):
  for cache in (make(tmp_path), make(tmp_path, version='2'), make(tmp_path, url='s3://bucket')):
    read.clear()
    check(cache, path, (0, 100))
    assert read == [(0, BLOCK)]


def disk_usage(folder):
  return sum(512 * path.stat().st_blocks for path in folder.rglob('*') if path.is_file())


def test_a_full_cache_adds_nothing_and_unused_data_sets_make_room(tmp_path, path, read):
  limit = 64 * 3 * BLOCK  # A process measures again before it adds more than a 64th of the rest.
  filler = make(tmp_path, limit, version='filler')
  check(filler, path, (0, 1))
  (filler.folder / 'other').write_bytes(bytes(limit - 4 * BLOCK))
  shard_cache._states.clear()  # As in another process, or a minute later.
  cache = make(tmp_path, limit)
  check(cache, path, (0, BLOCK), (5 * BLOCK, SIZE))
  assert disk_usage(tmp_path) <= limit
  assert not (cache.folder / 'shard').exists()
  # The other data set was used an hour ago.
  old = time.time() - 2 * shard_cache._UNUSED_SECONDS
  os.utime(filler.folder / 'url.txt', (old, old))
  shard_cache._states.clear()
  check(cache, path, (0, BLOCK))
  assert not filler.folder.exists()
  read.clear()
  check(cache, path, (0, BLOCK))
  assert not read


def test_a_data_set_that_cannot_be_deleted_makes_no_room(tmp_path, path, monkeypatch):
  """Such as that of another user."""
  limit = 64 * 3 * BLOCK
  filler = make(tmp_path, limit, version='filler')
  check(filler, path, (0, 1))
  (filler.folder / 'other').write_bytes(bytes(limit - 4 * BLOCK))
  old = time.time() - 2 * shard_cache._UNUSED_SECONDS
  os.utime(filler.folder / 'url.txt', (old, old))
  monkeypatch.setattr(shard_cache.shutil, 'rmtree', lambda *_, **__: None)
  for version in range(10):
    shard_cache._states.clear()
    check(make(tmp_path, limit, version=str(version)), path, (0, BLOCK))
  assert disk_usage(tmp_path) <= limit


def test_a_small_limit_is_kept(tmp_path, path):
  limit = 40 * BLOCK
  for version in range(30):
    shard_cache._states.clear()
    cache = make(tmp_path, limit, version=str(version))
    for block in range(10):
      check(cache, path, (block * BLOCK, block * BLOCK + 1))
  assert disk_usage(tmp_path) <= limit


@pytest.mark.parametrize(
  'error', [OSError(28, 'No space left on device'), OSError(30, 'Read-only')]
)
def test_a_cache_that_cannot_be_written_is_given_up_with_a_warning(
  tmp_path, path, read, error, monkeypatch, capsys
):
  cache = make(tmp_path)
  check(cache, path, (0, BLOCK))
  calls = []

  def fail(*_):
    calls.append(1)
    raise error

  monkeypatch.setattr(os, 'pwrite', fail)
  check(cache, path, (0, SIZE))
  check(cache, path, (0, SIZE))
  assert len(calls) == 1
  assert capsys.readouterr().err == (
    f'config.data.cache: {tmp_path} cannot be written ({error.strerror}); going on without keeping'
    ' more\n'
  )
  read.clear()
  check(cache, path, (0, BLOCK))
  assert not read


def test_a_folder_that_cannot_be_made_is_given_up_with_a_warning(tmp_path, path, capsys):
  (tmp_path / 'file').touch()
  cache = make(tmp_path / 'file' / 'cache')
  check(cache, path, (0, SIZE))
  check(cache, path, (0, SIZE))
  assert capsys.readouterr().err.count('cannot be written') == 1


def _fill(folder, ready, seed):
  """Adds random blocks of a file until it is killed; checks those that others added."""
  path = as_path('memory://bucket/shard', '')
  path.write_bytes(CONTENT)
  shard_cache._LEFT_FREE = 0
  cache = make(folder)
  rng = np.random.default_rng(seed)
  ready.set()
  while True:
    begin = int(rng.integers(SIZE - 1))
    check(cache, path, (begin, int(rng.integers(begin + 1, SIZE))))
    if rng.random() < 0.1:
      (cache.folder / 'shard.crc').unlink(missing_ok=True)


@pytest.mark.slow
def test_processes_that_are_killed_share_it(tmp_path, path):
  context = multiprocessing.get_context('spawn')
  for number in range(4):
    pair = []
    for seed in (2 * number, 2 * number + 1):
      ready = context.Event()
      process = context.Process(target=_fill, args=(tmp_path, ready, seed))
      process.start()
      pair.append(process)
      assert ready.wait(60)
    time.sleep(0.3 + 0.1 * number)
    for process in pair:
      assert process.exitcode is None, 'other bytes than in the file'
      process.kill()
      process.join()
    check(make(tmp_path), path, (0, SIZE))
