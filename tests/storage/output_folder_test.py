"""Files that grow, in a bucket."""

import io
import os
import pathlib
import sys
import time
import uuid

import pytest

from zsar_jax.errors import UserError
from zsar_jax.storage import bucket_requests, output_folder
from zsar_jax.storage.output_folder import OutputFolder
from zsar_jax.storage.paths import as_path


@pytest.fixture
def folder():
  """A folder in fsspec's bucket in memory."""
  return as_path(f'memory://{uuid.uuid4().hex}/run', '--workdir')


def test_a_local_folder_is_written_in_place(tmp_path):
  outputs = OutputFolder(tmp_path)
  assert outputs.path is tmp_path
  assert outputs.fetch('log.txt') == tmp_path / 'log.txt'
  outputs.flush()
  outputs.close()
  assert tmp_path.is_dir()


def test_a_file_grows_over_several_starts(folder):
  for number in (1, 2):
    outputs = OutputFolder(folder)
    with outputs.fetch('log.txt').open('a') as file:
      file.write(f'start {number}\n')
      file.flush()
      outputs.flush()
      assert (folder / 'log.txt').read_text().endswith(f'start {number}\n')
      file.write('end\n')
    (outputs.path / 'log.txt.12345678.tmp').write_text('not complete')
    (outputs.path / 'deep').mkdir()
    (outputs.path / 'deep' / str(number)).write_text('x')
    outputs.close()
    assert not outputs.path.exists()
  assert (folder / 'log.txt').read_text() == 'start 1\nend\nstart 2\nend\n'
  assert sorted(path.name for path in (folder / 'deep').iterdir()) == ['1', '2']
  assert sorted(path.name for path in folder.iterdir()) == ['deep', 'log.txt']


def test_only_what_changes_is_copied_and_failures_are_repeated(folder, monkeypatch):
  monkeypatch.setattr(output_folder, '_SECONDS', 0.02)
  # pytest's own capture loses what a thread prints while it is read.
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  copied, failing = [], [True]
  put = type(folder.fs).put_file

  def put_file(fs, source, path, **more):
    if failing:
      raise ConnectionError('no answer')
    copied.append((path.rpartition('/')[2], pathlib.Path(source).read_bytes()))
    return put(fs, source, path, **more)

  monkeypatch.setattr(type(folder.fs), 'put_file', put_file)
  monkeypatch.setattr(bucket_requests, 'RETRY_SECONDS', 0.01)
  outputs = OutputFolder(folder)
  (outputs.path / 'a').write_text('1')
  deadline = time.monotonic() + 20
  while 'will be copied there later' not in sys.stderr.getvalue():
    assert time.monotonic() < deadline
    time.sleep(0.01)
  with pytest.raises(UserError, match='cannot be reached for .*no answer'):
    outputs.flush()
  failing.clear()
  time.sleep(0.2)
  (outputs.path / 'b.tmp').write_text('2')
  (outputs.path / 'b.tmp').rename(outputs.path / 'b')
  outputs.close()
  assert sorted(copied) == [('a', b'1'), ('b', b'2')]
  assert sys.stderr.getvalue().count('will be copied there later') == 1


def test_two_changes_within_a_second_are_both_copied(folder):
  """Some file systems have times in whole seconds."""
  outputs = OutputFolder(folder)
  path = outputs.path / 'metrics.jsonl'
  for text in ('1', '2'):
    path.write_text(text)
    os.utime(path, (1e9, 1e9))
    outputs.flush()
    assert (folder / 'metrics.jsonl').read_text() == text
  outputs.close()


def test_an_error_of_the_run_is_neither_hidden_nor_delayed(folder, monkeypatch):
  (working := OutputFolder(folder)).fetch('a').write_text('1')
  working.close(failed=True)
  assert (folder / 'a').read_text() == '1'
  monkeypatch.setattr(output_folder, '_LAST_SECONDS', 0.2)

  def refuse(*_, **__):
    raise ConnectionError('no answer')

  monkeypatch.setattr(type(folder.fs), 'put_file', refuse)
  (failing := OutputFolder(folder)).fetch('a').write_text('2')
  start = time.monotonic()
  failing.close(failed=True)
  assert time.monotonic() - start < 20
  assert not failing.path.exists()
