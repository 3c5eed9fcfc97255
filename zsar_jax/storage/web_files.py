"""Single files of web servers, which do not list folders and do not all send ranges of files."""

import pathlib
from typing import Any

from zsar_jax.storage import bucket_requests, buckets


def is_on_web(path: Any) -> bool:
  """Returns whether a path in a bucket is a web address."""
  return path.protocol in ('http', 'https')


def file_name(path: Any) -> str:
  """Returns the name of a file in a bucket; on the web, without the query of its address."""
  return path.name.partition('?')[0] if is_on_web(path) else path.name


def find_file(path: Any) -> dict[str, Any]:
  """Returns what a server says about a file, with its 'size' in bytes or None.

  Raises:
    FileNotFoundError: if it does not exist.
    Exception: of aiohttp, if the server does not answer or refuses it.
  """
  try:
    return path.fs.info(path.path)
  except FileNotFoundError as error:  # fsspec makes it of every error.
    cause = error.__cause__
    if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, 'status', 0) == 404:
      raise
    raise cause from None


def exists(path: Any) -> bool:
  """Returns whether a path exists, on a disk, in a bucket or on the web.

  Raises:
    Exception: of the packages for buckets, if a bucket or server does not answer.
  """
  if not buckets.is_remote(path) or not is_on_web(path):
    return path.exists()
  try:
    find_file(path)
  except FileNotFoundError:
    return False
  return True


def download(path: Any, size: int | None, file: pathlib.Path) -> None:
  """Copies a file of `size` bytes, if that is known, to this machine.

  Raises:
    FileNotFoundError: if it does not exist.
    UnreachableError: if the server fails for too long.
  """
  from aiohttp import ClientTimeout

  # fsspec's own limit of five minutes includes the time in which the file arrives.
  bucket_requests.download(path, size, file, timeout=ClientTimeout(total=None))
