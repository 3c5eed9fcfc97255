"""One process at a time in a folder that it writes to."""

import contextlib
import fcntl
import pathlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def alone_in(folder: pathlib.Path) -> Iterator[None]:
  """Holds `folder`/lock; waits for another process that does, and says so.

  The system lets go of it when the process ends, however it ends.

  Raises:
    OSError: where the folder cannot be written to.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / 'lock', 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f'waiting for the other process that works in {folder}', file=sys.stderr)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield
