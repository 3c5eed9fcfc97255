"""Readings done together: their results, their few requests, and where errors are raised."""

import random
import uuid

import pytest

from zsar_jax.data import remote_files
from zsar_jax.data.reading import finish, finish_together
from zsar_jax.errors import UserError
from zsar_jax.storage import bucket_requests
from zsar_jax.storage.paths import as_path


@pytest.fixture(name='bucket')
def _bucket():
  """A folder with files of random bytes, and their content by name."""
  bucket = as_path(f'memory://{uuid.uuid4().hex}', '')
  contents = {name: random.Random(name).randbytes(50_000) for name in ('a', 'b', 'c')}
  for name, content in contents.items():
    (bucket / name).write_bytes(content)
  return remote_files.RemoteFolder(bucket, None), contents


@pytest.fixture(name='requests')
def _requests(monkeypatch):
  """The ranges of each call of `read_ranges`, in lists."""
  calls = []

  def read_ranges(ranges):
    calls.append(ranges)
    return original(ranges)

  original = bucket_requests.read_ranges
  monkeypatch.setattr(bucket_requests, 'read_ranges', read_ranges)
  return calls


def read(folder, names, rng, rounds):
  """A reading of random ranges of files; returns all that it read as [(name, begin, bytes)]."""
  files = [folder.open(name) for name in names]
  result = []
  for _ in range(rounds):
    ranges = []
    for file in files:
      begins = [rng.randrange(file.length) for _ in range(rng.randrange(5))]
      ranges.append([(begin, min(file.length, begin + rng.randrange(1, 3000))) for begin in begins])
    files = yield list(zip(files, ranges, strict=True))
    for file, pairs in zip(files, ranges, strict=True):
      for begin, end in pairs:
        result.append((file.path.name, begin, file.read(begin, end - begin)))
  return result


@pytest.mark.parametrize(('gap', 'most'), [(1 << 16, 1 << 20), (500, 4000), (0, 0)])
def test_all_ranges_of_a_round_are_read_at_once(bucket, requests, monkeypatch, gap, most):
  monkeypatch.setattr(remote_files, '_MAX_GAP', gap)
  monkeypatch.setattr(remote_files, '_MAX_JOINED', most)
  folder, contents = bucket
  rng = random.Random(0)
  for _ in range(30):
    requests.clear()
    rounds = [rng.randrange(4) for _ in range(rng.randrange(1, 6))]
    readings = [read(folder, rng.choices('abc', k=2), rng, count) for count in rounds]
    results = finish_together(readings)
    for result in results:
      for name, begin, content in result:
        assert content == contents[name][begin : begin + len(content)]
    assert len(requests) <= max(rounds)
    for ranges in requests:
      if most == 1 << 20:
        # Neighbors in one range: all of a file.
        assert len(ranges) <= 3
      for path, begin, end in ranges:
        assert 0 <= begin < end <= folder.sizes[path.name]


def test_an_error_is_raised_in_the_reading_that_made_the_request(bucket, requests):
  folder, contents = bucket

  def read_or_replace(name):
    try:
      (file,) = yield [(folder.open(name), [(0, 10)])]
    except OSError as error:
      (file,) = yield [(folder.open('a'), [(7, 17)])]
      return type(error), file.read(7, 10)
    return None, file.read(0, 10)

  (folder.path / 'b').unlink()
  names = ['a'] * 20 + ['b'] + ['c'] * 11
  kinds = [kind for kind, _ in finish_together([read_or_replace(name) for name in names])]
  assert kinds == [FileNotFoundError if name == 'b' else None for name in names]
  # All at once, then halves, and in them the quarters, eighths and so on; then the replacement.
  assert len(requests) <= 1 + 2 * 5 + 1
  assert finish_together([read_or_replace(name) for name in 'abc']) == [
    (None, contents['a'][:10]),
    (FileNotFoundError, contents['a'][7:17]),
    (None, contents['c'][:10]),
  ]
  with pytest.raises(FileNotFoundError):
    finish(read(folder, 'bb', random.Random(1), 3))


def test_a_bucket_that_is_gone_is_no_error_of_a_reading(bucket, monkeypatch):
  folder, _ = bucket
  caught = []

  def read_with_care(name):
    try:
      yield [(folder.open(name), [(0, 10)])]
    except UserError as error:
      caught.append(error)

  def fail(_):
    raise bucket_requests.UnreachableError('gone')

  monkeypatch.setattr(bucket_requests, 'read_ranges', fail)
  with pytest.raises(bucket_requests.UnreachableError, match='gone'):
    finish_together([read_with_care(name) for name in 'ab'])
  assert not caught
