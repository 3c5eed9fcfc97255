"""Local copies of videos and masks in buckets, deleted as soon as their clip is done."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

from zsar_jax.data.records import ClipError
from zsar_jax.runtime import buckets
from zsar_jax.runtime.paths import as_path

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
  """
  if not buckets.is_url(path):
    yield path
    return
  with contextlib.ExitStack() as stack:
    try:
      copy = stack.enter_context(_local_copy(as_path(path, 'the path of a clip'), names))
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
  for copy, path in _copies.items():
    text = text.replace(copy, path)
  return text


@contextlib.contextmanager
def _local_copy(path: pathlib.Path, names: Sequence[str]) -> Iterator[str]:
  if not names:
    with buckets.local_copy(path) as copy:
      yield os.fspath(copy)
    return
  with tempfile.TemporaryDirectory(prefix='zsar_jax-') as folder:
    for name in names:
      pathlib.Path(folder, name).write_bytes((path / name).read_bytes())
    yield folder
