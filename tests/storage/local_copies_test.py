"""Local copies of files in buckets."""

import errno
import functools
import http.server
import os
import threading
import time

import fsspec
import pytest

from tests.bucket_copies import memory_bucket  # noqa: F401  A fixture.
from tests.ports import free_port
from zsar_jax.errors import UserError
from zsar_jax.storage import bucket_requests, local_copies, web_files
from zsar_jax.storage.paths import as_path
from zsar_jax.weights.formats import weight_files


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(local_copies, '_copies_folder', local_copies._copies_folder.__wrapped__)


@pytest.fixture(name='fs')
def _fs(bucket):
  fs = fsspec.filesystem('memory')
  for name in ('model.bin', 'config.json', 'other.txt', 'deep/config.json'):
    fs.pipe_file(f'{bucket}/weights/{name}', f'first {name}'.encode())
  return fs


def _names(folder):
  return {path.name: path.read_text() for path in folder.rglob('*') if path.is_file()}


def _json(names):
  return [name for name in names if name.endswith('.json')]


def test_a_file_comes_with_what_is_beside_it(bucket, fs):
  copy = local_copies.fetch(as_path(f'{bucket}/weights/model.bin', 'SRC'), _json)
  assert copy.name == 'model.bin'
  assert copy.parent.name == 'weights'
  assert _names(copy.parent) == {
    'model.bin': 'first model.bin',
    'config.json': 'first config.json',
  }
  folder = local_copies.fetch(as_path(f'{bucket}/weights', 'SRC'), _json)
  assert _names(folder) == {'config.json': 'first config.json'}


def test_objects_are_read_once_until_they_change(bucket, fs, monkeypatch):
  path = as_path(f'{bucket}/weights/model.bin', 'SRC')
  copy = local_copies.fetch(path, _json)
  with monkeypatch.context() as patch:
    patch.setattr(bucket_requests, 'read_ranges', None)
    assert local_copies.fetch(path, _json) == copy
  fs.pipe_file(f'{bucket}/weights/model.bin', b'later model.bin')
  later = local_copies.fetch(path, _json)
  assert later.read_text() == 'later model.bin'
  assert copy.read_text() == 'first model.bin'


def test_large_files_are_read_in_parts(bucket, fs, monkeypatch):
  monkeypatch.setattr(local_copies, '_PART_BYTES', 7)
  monkeypatch.setattr(local_copies, '_PARTS', 3)
  content = bytes(range(256)) + b'the end'
  fs.pipe_file(f'{bucket}/weights/model.bin', content)
  path = as_path(f'{bucket}/weights/model.bin', 'SRC')
  assert local_copies.fetch(path, _json).read_bytes() == content


@pytest.mark.parametrize('name', ['weights', 'partial'])
def test_a_copy_that_was_cut_short_is_made_again(bucket, fs, monkeypatch, name):
  fs.pipe_file(f'{bucket}/partial/model.bin', b'first model.bin')
  path = as_path(f'{bucket}/{name}/model.bin', 'SRC')

  def fail(ranges):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(bucket_requests, 'read_ranges', fail)
    with pytest.raises(KeyboardInterrupt):
      local_copies.fetch(path, _json)
  assert local_copies.fetch(path, _json).read_text() == 'first model.bin'


def test_copies_that_nothing_uses_are_deleted(bucket, fs):
  first = local_copies.fetch(as_path(f'{bucket}/weights', 'SRC'), _json)
  second = local_copies.fetch(as_path(f'{bucket}/weights/deep', 'SRC'), _json)
  long_ago = time.time() - 8 * 86400
  os.utime(first.parents[1], (long_ago, long_ago))
  local_copies.fetch(as_path(f'{bucket}/weights/model.bin', 'SRC'), _json)
  assert not first.exists()
  assert second.exists()


def test_without_a_cache_folder(bucket, fs, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', '/proc/none')
  copy = local_copies.fetch(as_path(f'{bucket}/weights', 'SRC'), _json)
  assert _names(copy) == {'config.json': 'first config.json'}


def test_missing_paths_and_local_paths(bucket, tmp_path):
  with pytest.raises(FileNotFoundError, match='none'):
    local_copies.fetch(as_path(f'{bucket}/none', 'SRC'), _json)
  assert local_copies.fetch(tmp_path, _json) is tmp_path


def test_a_folder_of_folders_has_no_files(bucket, fs):
  folder = local_copies.fetch(as_path(f'{bucket}/weights/deep', 'SRC').parent.parent, _json)
  assert folder.is_dir()
  assert not _names(folder)


def test_a_file_of_a_web_server(tmp_path):
  """Without the files beside it, which a web server does not list."""
  pytest.importorskip('aiohttp')
  pytest.importorskip('requests')
  for name in ('model.bin', 'config.json'):
    (tmp_path / name).write_text(f'first {name}')
  handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/model.bin?download=true'
    copy = local_copies.fetch(as_path(url, 'SRC'), _json)
    assert copy.name == 'model.bin'
    assert _names(copy.parent) == {'model.bin': 'first model.bin'}
    assert web_files.exists(as_path(url, 'SRC'))
    missing = as_path(url.replace('model', 'none'), 'SRC')
    assert not web_files.exists(missing)
    with pytest.raises(FileNotFoundError):
      local_copies.fetch(missing, _json)
    server.shutdown()


def test_a_web_server_that_does_not_answer_is_no_missing_file():
  pytest.importorskip('aiohttp')
  pytest.importorskip('requests')
  with pytest.raises(UserError, match='^SRC: http://.*/model.bin: it does not answer'):
    weight_files.open_source(f'http://127.0.0.1:{free_port()}/model.bin', 'SRC')


def test_what_has_no_version_is_copied_each_time(bucket, fs, monkeypatch):
  monkeypatch.setattr(bucket_requests, 'version', lambda entry: '')
  path = as_path(f'{bucket}/weights/model.bin', 'SRC')
  assert local_copies.fetch(path, _json).read_text() == 'first model.bin'
  fs.pipe_file(f'{bucket}/weights/model.bin', b'later model.bin')
  assert local_copies.fetch(path, _json).read_text() == 'later model.bin'


def test_question_marks_in_the_names_of_objects(bucket, fs):
  for number in (1, 2):
    fs.pipe_file(f'{bucket}/marks/model?v={number}.json', str(number).encode())
  folder = local_copies.fetch(as_path(f'{bucket}/marks', 'SRC'), _json)
  assert _names(folder) == {'model?v=1.json': '1', 'model?v=2.json': '2'}


def test_a_full_disk_is_named(bucket, fs, monkeypatch):
  def fill(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  path = as_path(f'{bucket}/weights/model.bin', 'SRC')
  with monkeypatch.context() as patch:
    patch.setattr(local_copies, '_download', fill)
    with pytest.raises(UserError, match='cannot be copied to .*/copies/.* left.*XDG_CACHE_HOME'):
      local_copies.fetch(path, _json)
  (home,) = local_copies._copies_folder().iterdir()
  assert not (home / 'partial').exists()
  assert local_copies.fetch(path, _json).read_text() == 'first model.bin'
