"""Locks a folder that only one process at a time may write to."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

from zsar_jax.storage import buckets, file_systems, leases


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[None]:
  """Holds a lock on `folder`/lock; waits, and says so, while another process holds it.

  The system releases the lock when the process ends, however it ends. On file systems without
  locks nothing is held; a warning says so. In a bucket the lock is a lease, see `leases`.

  Raises:
    OSError: if the folder cannot be written to.
  """
  if buckets.is_remote(folder):
    with leases.hold(folder / 'lock', str(folder)):
      yield
    return
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / 'lock', 'w') as file:
    file_systems.missing_features(folder)
    try:
      file_systems.lock(file, wait=False)
    except BlockingIOError:
      print(f'waiting for the other process that works in {folder}', file=sys.stderr)
      file_systems.lock(file, wait=True)
    file_systems.restore_replaced(folder)
    yield
