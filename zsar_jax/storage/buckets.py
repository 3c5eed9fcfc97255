"""Files and folders in buckets: gs://, s3:// and the other URLs that fsspec knows.

A bucket holds objects, not files. An object appears when it is complete and is replaced as a whole,
so writing one is atomic; it cannot be appended to, locked or renamed. A folder exists only as long
as an object's name begins with it.
"""

import contextlib
import errno
import functools
import logging
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, TypeGuard, cast

from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime import bucket_errors

_URL = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')

# The extras of this project with the packages of a scheme.
_EXTRAS = {'gs': 'gcs', 'gcs': 'gcs', 's3': 's3', 's3a': 's3'}


def is_url(text: str) -> bool:
  """Returns whether a text is a URL."""
  return bool(_URL.match(text))


def is_remote(path: Any) -> TypeGuard[pathlib.Path]:
  """Returns whether a path that `paths.as_path` returned is in a bucket.

  To type checkers a `upath.UPath` is a `pathlib.Path`.
  """
  return not isinstance(path, str | os.PathLike)


def scheme(path: Any) -> str:
  """Returns the scheme of a path in a bucket, such as 's3'."""
  return path.protocol


def open_url(url: str, field: str) -> Any:
  """Returns the `upath.UPath` of a URL; a `pathlib.Path` of a file:// URL.

  Args:
    url: such as 'gs://bucket/folder'.
    field: the flag or config field that it comes from, for errors.

  Raises:
    UserError: if fsspec does not know the scheme, or its package is missing.
  """
  match = _URL.match(url)
  assert match, url
  name = match[1].lower()
  if name == 'file':
    return pathlib.Path(url[match.end() :])
  _configure_fsspec()
  # Imported here, so that programs without URLs start faster.
  from upath import UPath

  try:
    path = UPath(f'{name}://{url[match.end() :].rstrip("/")}')
    path.fs  # noqa: B018  Imports the package of the scheme.
  except ImportError as error:
    extra = _EXTRAS.get(name)
    remedy = f"pip install 'zsar_jax[{extra}]'" if extra else 'install it'
    raise UserError(
      f'{field}: {url} needs a package that is not installed ({error_reason(error)}); {remedy}'
    ) from None
  except ValueError as error:
    raise UserError(f'{field}: {url} cannot be opened ({error_reason(error)})') from None
  return path


@contextlib.contextmanager
def reporting_errors(path: Any, field: str = '') -> Iterator[None]:
  """Turns a bucket's error inside the block into a `UserError`.

  Args:
    path: the path that is accessed; errors of local paths stay as they are.
    field: the flag or config field that names the path, if it is known.
  """
  try:
    yield
  except Exception as error:
    if not is_remote(path):
      raise
    described = bucket_errors.describe(error, is_from_bucket=isinstance(error, OSError))
    if described is None:
      raise
    reason, remedy = described
    name = f'{field}: {path}' if field else str(path)
    raise UserError(f'{name}: {reason}; {remedy}') from None


def remove_folder(folder: pathlib.Path) -> None:
  """Deletes a folder, on a disk or in a bucket, as far as possible."""
  if is_remote(folder):
    remote: Any = folder
    with contextlib.suppress(FileNotFoundError):
      remote.fs.rm(remote.path, recursive=True)
  else:
    shutil.rmtree(folder, ignore_errors=True)


def move_folder(folder: pathlib.Path, target: pathlib.Path) -> None:
  """Renames a folder; in a bucket its objects are copied one by one.

  Args:
    folder: exists.
    target: does not exist, on the same disk or in the same bucket.
  """
  if is_remote(folder):
    remote, destination = cast(Any, folder), cast(Any, target)
    for name in remote.fs.find(remote.path):
      remote.fs.cp_file(name, destination.path + name.removeprefix(remote.path.rstrip('/')))
    remove_folder(folder)
  else:
    folder.rename(target)


@contextlib.contextmanager
def local_copy(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a local copy of a file or folder; the path itself if it is local.

  The copy is deleted at the end.

  Raises:
    FileNotFoundError: if a path in a bucket does not exist.
    UserError: if there is no room for the copy.
  """
  if not is_remote(path):
    yield path
    return
  with tempfile.TemporaryDirectory(prefix='zsar_jax-') as folder:
    copy = pathlib.Path(folder) / (path.name or 'bucket')
    remote: Any = path
    try:
      remote.fs.get(remote.path, os.fspath(copy), recursive=path.is_dir())
    except OSError as error:
      if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise
      raise UserError(
        f'{path} cannot be copied to {folder} ({error_reason(error)}); make room there, or set'
        ' TMPDIR to another folder'
      ) from None
    yield copy


@functools.cache
def _configure_fsspec() -> None:
  """Sets the options of fsspec that its users do not need to know.

  Options of the user, from fsspec's own configuration, take precedence.
  """
  import fsspec

  # They raise the errors that they log with a traceback.
  for name in ('fsspec', 'gcsfs', 's3fs'):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  for scheme in ('s3', 'gs', 'gcs', 'abfs', 'az'):
    # Other processes write to the same folders, so a listing is never reused.
    fsspec.config.conf.setdefault(scheme, {}).setdefault('use_listings_cache', False)
  # The default of 10 connections would limit `bucket_requests.MAX_REQUESTS`.
  options = fsspec.config.conf['s3'].setdefault('config_kwargs', {})
  options.setdefault('max_pool_connections', 64)
  # That of requests by default; signed URLs have by default one that newer buckets refuse.
  options.setdefault('signature_version', 's3v4')
