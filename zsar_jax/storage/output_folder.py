"""Files that grow while a program runs, on a disk or in a bucket.

An object in a bucket cannot be appended to, so such files are written on the local disk and copied
as a whole when they have changed.
"""

import contextlib
import pathlib
import shutil
import tempfile
import threading
import time
from typing import Any

from zsar_jax.errors import first_line
from zsar_jax.runtime.progress import log
from zsar_jax.storage import bucket_requests, buckets, checksums

# Seconds between copies; more if copying takes long, so that it takes at most this share of time.
_SECONDS = 5.0
_SHARE = 0.05

# Seconds for the last copy of a program that ends by an error.
_LAST_SECONDS = 10.0


class OutputFolder:
  """A folder to which programs append.

  Attributes:
    path: where to write: the folder itself, or a local folder whose files are copied to it.
  """

  def __init__(self, folder: pathlib.Path):
    """Starts copying, if the folder is in a bucket.

    Args:
      folder: exists, on a disk or in a bucket.
    """
    self._folder: Any = folder
    self._remote = buckets.is_remote(folder)
    if not self._remote:
      self.path = folder
      return
    self.path = pathlib.Path(tempfile.mkdtemp(prefix='zsar_jax-'))
    self._copied: dict[pathlib.Path, list[int | None]] = {}
    self._copying = threading.Lock()
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._copy_regularly, daemon=True)
    self._thread.start()

  def fetch(self, name: str) -> pathlib.Path:
    """Returns the path of a file to append to, with its former content if there is any."""
    path = self.path / name
    if self._remote:
      with contextlib.suppress(FileNotFoundError):
        path.write_bytes((self._folder / name).read_bytes())
    return path

  def flush(self) -> None:
    """Copies what has changed, and returns when it is in the folder.

    Raises:
      UserError: if the bucket cannot be written to.
    """
    if self._remote:
      with self._copying, buckets.reporting_errors(self._folder, '--workdir'):
        self._copy()

  def close(self, failed: bool = False) -> None:
    """Copies what has changed, for the last time.

    Args:
      failed: whether an error ends the program. Then another one would hide it, and a bucket that
        does not answer must not delay the end.
    """
    if not self._remote:
      return
    self._closed.set()
    try:
      if failed:
        attempt = threading.Thread(target=self._try_to_flush, daemon=True)
        attempt.start()
        attempt.join(_LAST_SECONDS)
      else:
        self.flush()
    finally:
      shutil.rmtree(self.path, ignore_errors=True)

  def _try_to_flush(self) -> None:
    with contextlib.suppress(Exception):
      self.flush()

  def _copy(self) -> None:
    changed = {}
    for path in sorted(self.path.rglob('*')):
      if path.suffix == '.tmp' or not path.is_file():  # Of `files.open_atomically`.
        continue
      # Not its time, which may be whole seconds, in which a line of the same length may follow.
      state = checksums.checksum(path)
      if self._copied.get(path) != state:
        changed[path] = state
    bucket_requests.upload(
      [(path, self._folder / path.relative_to(self.path).as_posix()) for path in changed]
    )
    self._copied |= changed

  def _copy_regularly(self) -> None:
    pause, warned = _SECONDS, False
    while not self._closed.wait(pause):
      start = time.monotonic()
      try:
        with self._copying:
          if not self._closed.is_set():
            self._copy()
        warned = False
      except Exception as error:  # The next attempt, or that of `flush`, may succeed.
        if not warned and not self._closed.is_set():
          log(f'{self._folder}: files will be copied there later ({first_line(error)})')
        warned = True
      pause = max(_SECONDS, (time.monotonic() - start) / _SHARE)
