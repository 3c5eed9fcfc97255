"""Folders and files that programs write to."""

import pathlib

import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime.reporting import user_message
from zsar_jax.storage.files import make_folder, open_atomically


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
  make_folder(tmp_path / 'a' / 'b', '--out')
  assert not list((tmp_path / 'a' / 'b').iterdir())
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='^--out: .*file cannot be a folder'):
    make_folder(tmp_path / 'file', '--out')
  # Not even the superuser can write there.
  with pytest.raises(UserError, match='^--out: /proc/self cannot be written to'):
    make_folder(pathlib.Path('/proc/self'), '--out')


def test_a_full_disk_is_reported_with_the_file(tmp_path):
  path = tmp_path / 'a.masks'
  with (
    open('/dev/full', 'wb', buffering=0) as full,
    pytest.raises(OSError, match='No space') as error,
    open_atomically(path),
  ):
    full.write(b'masks')
  assert user_message(error.value).startswith(f'{path}: No space left on device;')


def test_two_writers_of_a_file_do_not_mix(tmp_path):
  path = tmp_path / 'file'
  with open_atomically(path) as slow:
    slow.write(b'slow ')
    slow.flush()
    with open_atomically(path) as fast:
      fast.write(b'fast')
    assert path.read_bytes() == b'fast'
    slow.write(b'and last')
  assert path.read_bytes() == b'slow and last'
  assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(b'old')
  with pytest.raises(ZeroDivisionError), open_atomically(path) as file:
    file.write(bytes([1 // 0]))
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]
