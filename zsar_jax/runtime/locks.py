"""One process at a time in a folder that it writes to."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

from zsar_jax.runtime import file_systems


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[None]:
  """Holds `folder`/lock; waits for another process that does, and says so.

  The system lets go of it when the process ends, however it ends. Where the file system has no
  locks, a warning says that nothing is held.

  Raises:
    OSError: where the folder cannot be written to.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / 'lock', 'w') as file:
    file_systems.missing_features(folder)
    try:
      file_systems.lock(file, wait=False)
    except BlockingIOError:
      print(f'waiting for the other process that works in {folder}', file=sys.stderr)
      file_systems.lock(file, wait=True)
    yield
