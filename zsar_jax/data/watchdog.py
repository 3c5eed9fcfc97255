"""Worker processes that die or hang: they are named, and the run ends or they are started anew."""

import contextlib
import dataclasses
import errno
import itertools
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.wording import format_bytes

FAILURE_ACTIONS = ('stop', 'restart')

# So often in a row the workers are started anew for the same batch.
_ATTEMPTS = 3

# Seconds for the batch under way, when the run is to stop.
_STOPPING = 5.0

# Each loader of this process has a number, and its workers have a name with it.
_PREFIX = 'zsar '
_LOADERS = itertools.count()

# What multiprocessing calls Grain's workers begins so.
_GRAIN = 'grain-process'

# Where the blocks of shared memory lie in which workers hand over batches.
_SHARED = '/dev/shm'
_LARGER = (
  'make it larger (docker run --shm-size=8g, or --ipc=host), or lower config.data.workers; 0 needs'
  ' none'
)


class Batches(Protocol):
  """An iterator over batches, with a `close`."""

  def __next__(self) -> dict[str, Any]: ...
  def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class WorkerPolicy:
  """What happens where workers fail; the fields of `config.data` of these names.

  Attributes:
    patience: a worker that has given no batch for so many seconds, when it was its turn, hangs.
    on_worker_failure: 'stop' ends the run, 'restart' starts the workers anew.
    stopping: says whether the run is to end; then the patience is short.
  """

  patience: float = 600.0
  on_worker_failure: str = 'stop'
  stopping: Callable[[], Any] = lambda: False


DEFAULT_POLICY = WorkerPolicy()


class WatchedBatches:
  """Batches from worker processes under a `WorkerPolicy`.

  What is read in threads of this process cannot be ended; that it takes long is said.
  """

  def __init__(
    self, start: Callable[[int, str], Batches], workers: int, policy: WorkerPolicy
  ) -> None:
    """Starts the workers.

    Args:
      start: the batches from a number on. Each worker calls `set_worker_name` with the given name.
      workers: how many processes.
      policy: when a worker counts as failed, and what happens then.
    """
    self._start, self._workers, self._policy = start, workers, policy
    self._given = self._first = self._failures = 0
    # When the wait for a batch began; None while nobody waits.
    self._since: float | None = None
    self._hung: str | None = None
    self._closed = threading.Event()
    self._name = f'{_PREFIX}{next(_LOADERS)}'
    self._pids: dict[int, int] = {}  # Of the workers that were seen.
    try:
      self._batches = start(0, self._name)
    except OSError as error:
      raise _unshared(error) from None
    threading.Thread(target=self._watch, daemon=True).start()

  def __iter__(self) -> 'WatchedBatches':
    return self

  def __next__(self) -> dict[str, Any]:
    while True:
      self._since = time.monotonic()
      try:
        batch = next(self._batches)
      except RuntimeError as error:  # Grain's, where a worker has died.
        failure = self._hung or self._failure(error)
        stopping = self._policy.stopping()
        if self._policy.on_worker_failure == 'stop' or self._failures == _ATTEMPTS or stopping:
          remedy = 'a smaller config.data.workers needs less memory'
          if _exit_code(error) == -signal.SIGBUS:
            remedy = f'{_shared_memory()} is full: {_LARGER}'
          elif self._policy.on_worker_failure == 'stop':
            remedy += ', and --config.data.on_worker_failure=restart goes on without ending'
          raise UserError(f'{failure}; the same command goes on; {remedy}') from None
      except OSError as error:  # Of the workers' queues, locks and blocks of shared memory.
        raise _unshared(error) from None
      else:
        self._given, self._failures = self._given + 1, 0
        if len(self._pids) < self._workers:
          self._pids.update(_named().get(self._name, {}))
        return batch
      finally:
        self._since = None
      print(f'{failure}; the workers are started anew', file=sys.stderr, flush=True)
      self._failures += 1
      self._end_workers()
      self._batches.close()
      self._hung, self._first = None, self._given
      self._pids.clear()
      self._batches = self._start(self._given, self._name)

  def close(self) -> None:
    """Ends the workers."""
    if not self._closed.is_set():
      self._closed.set()
      if self._hung:
        self._end_workers()  # They would be waited for.
      self._batches.close()

  def _watch(self) -> None:
    """The thread that ends workers which are waited for too long."""
    said = None
    while not self._closed.wait(0.2):
      since = self._since
      if since is None:
        continue
      waited = time.monotonic() - since
      hopeless = waited > (_STOPPING if self._policy.stopping() else self._policy.patience)
      if hopeless and self._workers and not self._hung:
        turn = (self._given - self._first) % self._workers
        pid = _named().get(self._name, {}).get(turn)
        who = f'worker process {turn} (pid {pid})' if pid else f'worker process {turn}'
        self._hung = f'{who} has given no batch for {waited:.0f} seconds'
        self._end_workers()
      elif hopeless and not self._workers and said != since:
        said = since
        print(
          f'no batch for {waited:.0f} seconds: is the disk with the data set still there?',
          file=sys.stderr,
          flush=True,
        )

  def _end_workers(self) -> None:
    """Ends the workers of this loader, and those that have not come to take a name."""
    named = _named()
    pids = {pid for loader, workers in named.items() for pid in workers.values()}
    unnamed = [
      child.pid
      for child in multiprocessing.active_children()
      if child.name.startswith(_GRAIN) and child.pid not in pids
    ]
    for pid in (*named.get(self._name, {}).values(), *unnamed):
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

  def _failure(self, error: Exception) -> str:
    """Says which workers are gone, and how the one that Grain has noticed has ended."""
    left = _named().get(self._name, {})
    gone = [
      f'{number} (pid {self._pids[number]})' if number in self._pids else str(number)
      for number in range(self._workers)
      if number not in left
    ]
    code = _exit_code(error)
    if code is None:
      return f'a worker process failed ({first_line(error)})'
    names = {one.value: one.name for one in signal.Signals}
    how = f'ended by {names.get(-code, -code)}' if code < 0 else f'ended with status {code}'
    return f'worker process {", ".join(gone) or "?"} was {how}'


def _exit_code(error: Exception) -> int | None:
  """The exit code of a worker, as Grain tells it."""
  code = re.search(r'exit code (-?\d+)', str(error))
  return int(code[1]) if code else None


def _unshared(error: OSError) -> Exception:
  """What to raise where worker processes cannot share memory."""
  if error.errno in (errno.EMFILE, errno.ENFILE):
    return error
  return UserError(
    f'{_shared_memory()} does not take what worker processes share ({error.strerror}): {_LARGER}'
  )


def _shared_memory() -> str:
  """The place in words, with its size."""
  try:
    return f'{_SHARED}, of {format_bytes(shutil.disk_usage(_SHARED).total)},'
  except OSError:  # It is not there, or this is not Linux.
    return 'shared memory'


def set_worker_name(name: str, worker: int) -> None:
  """To be called in a worker process, so that it is found: the system keeps the name, not a file.

  Args:
    name: of the loader, of at most ten characters.
    worker: its number.
  """
  with contextlib.suppress(OSError):  # Not Linux.
    pathlib.Path('/proc/self/comm').write_text(f'{name}.{worker}')


def _named() -> dict[str, dict[int, int]]:
  """Of each loader's name the processes of its workers that live, by their numbers."""
  found: dict[str, dict[int, int]] = {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    # Others end meanwhile. Numbers of processes are given out again, hence the parent's.
    with contextlib.suppress(OSError, ValueError):
      before, _, after = path.read_text().rpartition(')')
      state, parent = after.split()[:2]
      loader, _, worker = before.partition('(')[2].rpartition('.')
      if loader.startswith(_PREFIX) and state != 'Z' and int(parent) == os.getpid():
        found.setdefault(loader, {})[int(worker)] = int(path.parent.name)
  return found
