"""Writing and reading files and making folders, with errors that name the user's flag."""

import contextlib
import errno
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage import bucket_requests, buckets, file_systems


@contextlib.contextmanager
def naming(path: pathlib.Path, partial: pathlib.Path | None = None) -> Iterator[None]:
  """Makes errors of the system inside the block name a file, as those of a full disk do not.

  Args:
    path: the file that is written.
    partial: the name under which it is written, which errors may have.
  """
  try:
    yield
  except OSError as error:
    if error.filename is None or str(error.filename) == str(partial):
      error.filename, error.filename2 = str(path), None
    raise


@contextlib.contextmanager
def open_atomically(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a file for writing that gets its name only when it is complete.

  After a crash or an error, the path has its old content. Several processes may write the same
  path at once: the last to finish replaces the file of the others.

  Args:
    path: a file that may exist, on a disk or in a bucket.
  """
  if buckets.is_remote(path):
    with tempfile.NamedTemporaryFile(prefix='zsar_jax-') as file:
      with naming(pathlib.Path(file.name)):
        yield cast(BinaryIO, file)
        file.flush()
      bucket_requests.upload([(pathlib.Path(file.name), path)])
    return
  # A name of its own, as another process would write into, or rename, a file of the same name. It
  # is cut, as the names of files are of limited length.
  partial = path.with_name(f'{path.name[:40]}.{secrets.token_hex(4)}.tmp')
  with naming(path, partial):
    try:
      with partial.open('xb') as file:
        yield file
      file_systems.replace(partial, path)
    except BaseException:
      partial.unlink(missing_ok=True)
      raise


def write_file(path: pathlib.Path, text: str) -> None:
  """Writes a text file atomically; see `open_atomically`.

  Args:
    path: a file that may exist.
    text: the content, written in UTF-8.
  """
  with open_atomically(path) as file:
    file.write(text.encode())


def read_file(path: pathlib.Path) -> str:
  """Reads a small text file in UTF-8, from a bucket with the patience of `bucket_requests`.

  Raises:
    OSError: if it does not exist, or is on a disk and cannot be read.
    UserError: if it is in a bucket that cannot be read.
    ValueError: if it is not UTF-8.
  """
  if not buckets.is_remote(path):
    return path.read_text(encoding='utf-8')
  with buckets.reporting_errors(path):
    (content,) = bucket_requests.read_objects([path])
  return content.decode()


def list_names(folder: pathlib.Path) -> set[str]:
  """Returns the names of a folder's files; none if it does not exist.

  Raises:
    UserError: if it is in a bucket that cannot be read.
  """
  if not buckets.is_remote(folder):
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
  with buckets.reporting_errors(folder):
    return set(bucket_requests.list_folder(folder))


def make_parent(path: pathlib.Path) -> None:
  """Makes the folder of a file that is about to be written, if it is on a disk.

  A bucket has no folders to make.
  """
  if not buckets.is_remote(path):
    path.parent.mkdir(parents=True, exist_ok=True)


def check_writable(folder: pathlib.Path, field: str) -> None:
  """Refuses a folder on a read-only file system, or without permission, and makes nothing.

  Args:
    folder: may exist.
    field: the flag or config field that names the folder, for errors.

  Raises:
    UserError: if files cannot be made in it, or it cannot be made.
  """
  if buckets.is_remote(folder):
    return
  existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
  if not os.access(existing, os.W_OK):
    raise UserError(f'{field}: {existing} cannot be written to; name another folder')


def make_folder(folder: pathlib.Path, field: str) -> None:
  """Makes a folder for a program's output and checks that files can be written in it.

  Programs call this before their work starts, so that the work is not lost.

  Args:
    folder: may exist.
    field: the flag or config field that names the folder, for errors.

  Raises:
    UserError: if the folder cannot be made, or no file can be written in it.
  """
  if buckets.is_remote(folder):  # There are no folders to be made.
    with buckets.reporting_errors(folder, field):
      probe: Any = folder / f'.writable-{secrets.token_hex(4)}'
      probe.fs.pipe_file(probe.path, b'')  # Without the patience of `bucket_requests`.
      probe.unlink()
    return
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'{field}: {folder} cannot be a folder ({error_reason(error)}); name another'
    ) from None
  try:
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    room = 'make room, or ' if error.errno in (errno.ENOSPC, errno.EDQUOT) else ''
    raise UserError(
      f'{field}: {folder} cannot be written to ({error_reason(error)}); {room}name another folder'
    ) from None
