"""Data sets in buckets give the same batches as on a disk, in few requests, also if these fail."""

import collections
import functools
import http.server
import json
import pickle
import tempfile
import threading
import time
import types
import uuid

import numpy as np
import pytest

from tests.data.pipeline_test import VIEW, assert_same, take
from tests.slow_buckets import slow_bucket
from tests.toy import Toy, build_toy
from tools.benchmarks.bucket_server import Faults
from zsar_jax.data import catalog, dataset_files, frame_table, remote_files
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import evaluation_batches, training_batches
from zsar_jax.data.shard_cache import CacheSettings
from zsar_jax.data.subset import data_identity, select
from zsar_jax.data.view import View
from zsar_jax.datasets.build import build
from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed
from zsar_jax.storage import bucket_requests, s3_reads
from zsar_jax.storage.paths import as_path


@pytest.fixture(scope='module', name='root')
def _root(tmp_path_factory):
  """A folder with a bucket that has a data set."""
  root = tmp_path_factory.mktemp('buckets')
  (root / 'toys').mkdir()
  build_toy(root / 'toys' / 'data')
  return root


@pytest.fixture(name='memory')
def _memory(root):
  """The same in fsspec's bucket in memory."""
  bucket = as_path(f'memory://{uuid.uuid4().hex}', '')
  bucket.fs.put(str(root / 'toys' / 'data'), (bucket / 'data').path, recursive=True)
  return bucket / 'data'


@pytest.fixture(name='impatient')
def _impatient(monkeypatch):
  monkeypatch.setattr(bucket_requests, '_PATIENCE_SECONDS', 0.5)
  monkeypatch.setattr(bucket_requests, '_FIRST_PAUSE_SECONDS', 0.02)


def loader(data_dir, split='train', view=VIEW, cache=None):
  dataset = open_dataset(data_dir, 'toy', split, cache)
  return ClipLoader(select(dataset, 'all', view.unannotated, 'classes'), view)


@pytest.fixture(scope='module', name='expected')
def _expected(root):
  """Batches from the disk."""
  return take(training_batches(loader(root / 'toys' / 'data'), 4, 7, 0, 0), 14)


def test_batches_are_those_of_the_disk(root, memory, expected):
  clips = loader(memory)
  assert_same(take(training_batches(clips, 4, 7, 0, 0), 14), expected)
  assert_same(take(training_batches(clips, 4, 7, 11, 0), 3), expected[11:])
  local = loader(root / 'toys' / 'data', 'train+validation')
  remote = loader(memory, 'train+validation')
  assert data_identity(remote.subset) == data_identity(local.subset)
  batches = [list(evaluation_batches(clips, 5, 0, share=(1, 5))) for clips in (local, remote)]
  assert_same(*batches)


def test_records_and_folders_are_those_of_the_disk(root, memory):
  local = open_dataset(root / 'toys' / 'data', 'toy', 'validation')
  remote = pickle.loads(pickle.dumps(open_dataset(memory, 'toy', 'validation')))
  for position in range(len(local)):
    record, expected = remote[position], local[position]
    assert record.pop('annotated').tolist() == expected.pop('annotated').tolist()
    assert record == expected
  assert catalog.list_datasets(memory) == catalog.list_datasets(memory / 'toy') == ['toy']
  assert catalog.split_names(memory, 'toy') == ['train', 'validation']
  with pytest.raises(UserError, match=f"no data set 'ssv2' in {memory}, which has toy"):
    open_dataset(memory, 'ssv2', 'train')
  with pytest.raises(UserError, match='is not a folder'):
    catalog.list_datasets(memory / 'nowhere')


def test_faults_of_a_bucket_change_nothing(root, expected, impatient):
  faults = Faults(unavailable=0.2, cut=0.1, short=0.1, stalled=0.02)
  with slow_bucket(root, faults) as server:
    clips = loader('s3://toys/data')
    assert_same(take(training_batches(clips, 4, 7, 0, 0), 14), expected)
    assert server.counts()['faults'] > 10


@pytest.mark.slow
def test_a_server_that_refuses_signed_urls(root, expected):
  with slow_bucket(root, Faults(refuses_signed_urls=True)) as server:
    clips = loader('s3://toys/data')
    assert_same(take(training_batches(clips, 4, 7, 0, 0), 14), expected)
    counts = server.counts()
    # Those of the first requests, which are under way at once.
    assert 0 < counts['signed_urls'] < 30 < counts['requests']


@pytest.mark.slow
def test_a_machine_that_started_a_moment_ago(root, expected, monkeypatch):
  monkeypatch.setattr(s3_reads, 'time', types.SimpleNamespace(monotonic=lambda: 5.0))
  with slow_bucket(root) as server:
    assert_same(take(training_batches(loader('s3://toys/data'), 4, 7, 0, 0), 3), expected[:3])
    assert server.counts()['signed_urls'] > 10


@pytest.mark.slow
def test_a_url_that_expires_is_signed_again(root, expected):
  with slow_bucket(root) as server:
    clips = loader('s3://toys/data')
    signed = clips.subset.dataset.directory.fs._zsar_jax_signed_urls
    for path, (url, since) in signed.urls.items():
      # As if it were signed long ago with another key: the server answers 404, as for no object.
      signed.urls[path] = url.replace('toys/', 'gone/'), since - 100
    assert_same(take(training_batches(clips, 4, 7, 0, 0), 14), expected)
    assert not signed.is_refused
    before = server.counts()
    assert_same(take(training_batches(clips, 4, 7, 0, 0), 14), expected)
    after = server.counts()
    assert after['signed_urls'] - before['signed_urls'] == after['requests'] - before['requests']


def test_a_clip_takes_one_request_and_only_its_bytes(root, monkeypatch):
  with slow_bucket(root) as server:
    clips = loader('s3://toys/data')
    opened = server.counts()
    # The listing, the small files, and of each of the two shards the table and a chunk.
    assert opened['requests'] < 25
    assert len(list(evaluation_batches(clips, 37, 0))) == 1
    read = server.counts()
    # Of each of the two shards the table, the last chunk, of which first the header is read, and
    # the range that the other clips are joined to. Two threads may read the same table.
    assert 6 <= read['requests'] - opened['requests'] <= 8
    monkeypatch.setattr(remote_files, '_MAX_GAP', -1)
    assert len(list(evaluation_batches(clips, 37, 0))) == 1
    apart = server.counts()
  # Not joined: 35 clips, and of the two last ones the header, three frames and three planes.
  assert apart['requests'] - read['requests'] == 35 + 2 * (1 + 3 + 3)
  assert apart['bytes'] - read['bytes'] < sum(
    size for name, size in clips.subset.dataset.files.record_sizes().items() if 'train' in name
  )


def test_far_frames_are_read_without_those_between(root, expected, monkeypatch):
  monkeypatch.setattr(frame_table, '_SMALL_CHUNK', 0)
  monkeypatch.setattr(remote_files, '_MAX_GAP', 0)
  with slow_bucket(root) as server:
    clips = loader('s3://toys/data', view=View(num_frames=2, size=8))
    before = server.counts()['bytes']
    clips.evaluation_clip(35)
    dataset = clips.subset.dataset
    frames = dataset.frames(35)
    shard = dataset._shards[dataset._shard_of(35)]
    table = dataset.files.record_sizes()[f'{shard.name}.frames.npy']
    indices = (np.arange(2) + 0.5) * len(frames) / 2
    sampled = sum(len(frames.frame(int(i))) + len(frames.plane(int(i))) for i in indices)
    before_clip = server.counts()['bytes']
    clips.evaluation_clip(35)
    assert server.counts()['bytes'] - before_clip == sampled + 40  # And the chunk's header.
    assert before_clip - before >= table
  assert_same(take(training_batches(loader(root / 'toys' / 'data'), 4, 7, 0, 0), 14), expected)


def test_a_bucket_that_is_gone_ends_the_run_and_damages_no_clip(root, monkeypatch, impatient):
  with slow_bucket(root) as server:
    clips = loader('s3://toys/data')
    clips.training_clip(0, np.random.default_rng(0))
    monkeypatch.setattr(bucket_requests, 'RETRY_SECONDS', 1.0)
    server.__exit__()
    batches = training_batches(clips, 4, 7, 0, 0)
    with pytest.raises(
      bucket_requests.UnreachableError,
      match='^s3://toys/data/toy/1.0.0/toy-train.array_record-.*'
      r' cannot be reached for \d+ seconds .*; see to the network',
    ):
      next(batches)
    began = time.monotonic()
    batches.close()
    assert time.monotonic() - began < 60


def test_other_hosts_open_with_few_requests(root, monkeypatch):
  with slow_bucket(root) as server:
    monkeypatch.setattr(distributed, 'is_main', lambda: False)
    loader('s3://toys/data')
    assert server.counts()['requests'] < 20


class NoCredentialsError(Exception):
  """As botocore's, which is no `OSError`."""


NoCredentialsError.__module__ = 'botocore.exceptions'


@pytest.mark.parametrize(
  'error', [PermissionError('Forbidden'), NoCredentialsError('Unable to locate credentials')]
)
def test_a_request_that_is_denied_is_no_damaged_clip(memory, monkeypatch, error):
  clips = loader(memory)

  def deny(*_, **__):
    raise error

  monkeypatch.setattr(type(memory.fs), 'cat_file', deny)
  monkeypatch.setattr(bucket_requests, '_CREDENTIALS_SECONDS', 0.0)
  with pytest.raises(bucket_requests.UnreachableError, match=f'access is denied .*{error}'):
    clips.training_clip(0, np.random.default_rng(0))
  with pytest.raises(bucket_requests.UnreachableError, match='access is denied'):
    clips.describe_damage(0)
  with pytest.raises(bucket_requests.UnreachableError, match='access is denied'):
    clips.subset.dataset[0]


def test_a_missing_object_is_not_denied_whatever_its_name(memory, root):
  folder = as_path(f'memory://{uuid.uuid4().hex}/403 Forbidden', '')
  folder.fs.put(str(root / 'toys' / 'data'), folder.path, recursive=True)
  clips = loader(folder)
  shard = clips.subset.dataset._shards[0]
  shard.unlink()
  assert clips.describe_damage(0).endswith('copy it again or build the data set again')


def test_a_web_server_is_refused(root):
  pytest.importorskip('aiohttp')
  pytest.importorskip('requests')
  handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root / 'toys')
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(UserError, match='http://.*: a data set is not read from http://'):
      open_dataset(f'http://127.0.0.1:{server.server_port}/data', 'toy', 'train')
    server.shutdown()


def test_files_of_two_builds_are_refused(memory):
  directory = memory / 'toy' / '1.0.0'
  table = next(
    path for path in directory.iterdir() if 'train' in path.name and path.suffix == '.npy'
  )
  content = table.read_bytes()
  table.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(UserError, match='the records, their table and the index are not all of one'):
    open_dataset(memory, 'toy', 'train')
  table.write_bytes(content[:-1])
  with pytest.raises(UserError, match=f'^{directory}: {table.name} has .* bytes: its files are'):
    open_dataset(memory, 'toy', 'train')
  table.unlink()
  with pytest.raises(UserError, match=f'^{directory}: {table.name} is missing'):
    open_dataset(memory, 'toy', 'train')
  (directory / 'index-train.npz').write_bytes(b'PK')
  with pytest.raises(UserError, match=f'^{directory}: index-train.npz has 2 of'):
    open_dataset(memory, 'toy', 'train')
  (directory / 'metadata.json').write_text(json.dumps({}))
  with pytest.raises(UserError, match=f'^{directory}: metadata.json has 2 of'):
    open_dataset(memory, 'toy', 'train')


@pytest.mark.slow
def test_workers_read_the_same_batches(root, expected):
  with slow_bucket(root, Faults(unavailable=0.05)):
    clips = loader('s3://toys/data')
    assert_same(take(training_batches(clips, 4, 7, 0, 2), 14), expected)


@pytest.mark.slow
def test_a_data_set_on_servers_of_s3_and_gcs(root, expected, bucket_url, tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  monkeypatch.setattr(dataset_files, '_open_files', collections.OrderedDict())
  build(Toy(bucket_url), workers=0)
  settings = CacheSettings(tmp_path / 'cache', 2**40)
  for cache in (None, settings, settings):
    clips = loader(bucket_url, cache=cache)
    assert_same(take(training_batches(clips, 4, 7, 0, 0), 14), expected)
