"""Local copies of videos and masks in buckets, deleted as soon as their clip is done."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

from zsar_jax.data.records import ClipError
from zsar_jax.storage import bucket_requests, buckets
from zsar_jax.storage.files import naming
from zsar_jax.storage.paths import as_path

# {copy: URL}, of the copies that exist now.
_copies: dict[str, str] = {}


@contextlib.contextmanager
def borrow(path: str, names: Sequence[str] = ()) -> Iterator[str]:
  """Yields a local copy of what is at a URL; the path itself if it is no URL.

  A `ClipError` inside names the URL in place of the copy. An error of the bucket is none: the clip
  may be in order.

  Args:
    path: a file, or a folder, which is copied with everything below it.
    names: the files of the folder that are copied; empty for all of it.

  Raises:
    ClipError: if the URL does not exist.
    UserError: if the bucket cannot be read.
  """
  if not buckets.is_url(path):
    yield path
    return
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='zsar_jax-'))
    copy = os.path.join(folder, os.path.basename(path))
    try:
      url = as_path(path, 'the path of a clip')
      with buckets.reporting_errors(url):
        _download(url, names, pathlib.Path(copy))
    except FileNotFoundError:
      raise ClipError(f'{path} does not exist', missing=True) from None
    _copies[copy] = path
    try:
      yield copy
    except ClipError as error:
      raise ClipError(name_originals(error.reason), error.missing) from None
    finally:
      del _copies[copy]


def name_originals(text: str) -> str:
  """Returns a text about clips with the URLs in place of the copies that `borrow` has yielded."""
  for copy, path in list(_copies.items()):  # Other threads borrow meanwhile.
    text = text.replace(copy, path)
  return text


def _download(path: pathlib.Path, names: Sequence[str], copy: pathlib.Path) -> None:
  """Copies a file, or files of a folder, or all of them if `names` is empty.

  Raises:
    FileNotFoundError: if there is none.
    UnreachableError: if the bucket fails for too long.
  """
  if not names:
    try:
      (content,) = bucket_requests.read_objects([path])
      with naming(copy):
        copy.write_bytes(content)
      return
    except (FileNotFoundError, IsADirectoryError) as error:
      # Objects may have any names; none is written outside of the folder.
      names = sorted(name for name in bucket_requests.list_tree(path) if _is_relative(name))
      if not names:
        raise FileNotFoundError from error
  contents = bucket_requests.read_objects([path / name for name in names])
  for name, content in zip(names, contents, strict=True):
    file = copy / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with naming(file):
      file.write_bytes(content)


def _is_relative(name: str) -> bool:
  path = pathlib.PurePosixPath(name)
  return not path.is_absolute() and '..' not in path.parts
