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

from zsar_jax.runtime import bucket_errors, buckets
from zsar_jax.runtime.progress import log

# Seconds between copies; more if copying takes long, so that it takes at most this share of time.
_SECONDS = 5.0
_SHARE = 0.05


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
    self._copied: dict[pathlib.Path, tuple[int, int]] = {}
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
      with self._copying, bucket_errors.reporting(self._folder, '--workdir'):
        self._copy()

  def close(self, failed: bool = False) -> None:
    """Copies what has changed, for the last time.

    Args:
      failed: whether an error ends the program, so that another one would hide it.
    """
    if not self._remote:
      return
    self._closed.set()
    try:
      with contextlib.suppress(*((Exception,) if failed else ())):
        self.flush()
    finally:
      shutil.rmtree(self.path, ignore_errors=True)

  def _copy(self) -> None:
    for path in sorted(self.path.rglob('*')):
      if path.suffix == '.tmp' or not path.is_file():  # Of `files.open_atomically`.
        continue
      status = path.stat()
      state = status.st_size, status.st_mtime_ns
      if self._copied.get(path) != state:
        target = self._folder / path.relative_to(self.path).as_posix()
        target.fs.pipe_file(target.path, path.read_bytes())
        self._copied[path] = state

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
          log(f'{self._folder}: files could not be copied there and will be later ({error!r:.200})')
        warned = True
      pause = max(_SECONDS, (time.monotonic() - start) / _SHARE)
