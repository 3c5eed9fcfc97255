"""Detects worker processes that die or hang; ends the run with a message, or restarts them."""

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
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from zsar_jax.errors import UserError, first_line
from zsar_jax.storage.bucket_requests import UnreachableError

# The values of `WorkerPolicy.on_worker_failure`.
FAILURE_ACTIONS = ('stop', 'restart')

# The number of times in a row that the workers are restarted for the same batch.
_MAX_RESTARTS = 3

# Seconds to wait for a batch while the run is stopping.
_STOPPING_PATIENCE = 5.0

# Each loader of this process has a number, which is part of its workers' names.
_NAME_PREFIX = 'zsar '
_LOADER_NUMBERS = itertools.count()

# The beginning of the name that multiprocessing gives to Grain's workers.
_GRAIN_PREFIX = 'grain-process'

# The file system of the shared memory in which workers hand over batches.
_SHARED_MEMORY = '/dev/shm'
_SHARED_MEMORY_REMEDY = (
  'make it larger (docker run --shm-size=8g, or --ipc=host), or lower config.data.workers; 0 needs'
  ' none'
)


class Batches(Protocol):
  """An iterator over batches, with a method `close`."""

  def __next__(self) -> dict[str, Any]: ...
  def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class WorkerPolicy:
  """The treatment of failed workers, as set by the fields of the same names in `config.data`.

  Attributes:
    patience: the seconds after which a worker hangs if its batch is due and does not arrive.
    on_worker_failure: 'stop' ends the run, 'restart' restarts the workers.
    stopping: returns whether the run is stopping, which shortens the patience.
  """

  patience: float = 600.0
  on_worker_failure: str = 'stop'
  stopping: Callable[[], Any] = lambda: False


DEFAULT_POLICY = WorkerPolicy()


class WatchedBatches:
  """Batches from worker processes under a `WorkerPolicy`.

  Without worker processes, threads of this process read. They cannot be ended, so if they take
  longer than the patience, only a message is printed.
  """

  def __init__(
    self,
    start: Callable[[int, str], Batches],
    workers: int,
    policy: WorkerPolicy,
    closing: threading.Event | None = None,
  ) -> None:
    """Starts the workers.

    Args:
      start: returns the batches from a given number on. Each worker passes the given name to
        `set_worker_name`.
      workers: the number of processes.
      policy: when a worker counts as failed, and how failures are treated.
      closing: is set when nobody wants more batches.
    """
    self._start, self._workers, self._policy = start, workers, policy
    self._closing = closing
    self._unreachable = False  # Whether the workers wait for a bucket that fails.
    # The number of batches returned, the number returned before the last restart, and the restarts
    # since the last batch.
    self._returned = self._restarted_at = self._restarts = 0
    # When the current wait for a batch began, or None.
    self._waiting_since: float | None = None
    self._hang: str | None = None  # The message about a hanging worker.
    self._closed = threading.Event()
    self._name = f'{_NAME_PREFIX}{next(_LOADER_NUMBERS)}'
    self._pids: dict[int, int] = {}  # Process ids by the workers' numbers.
    try:
      self._batches = start(0, self._name)
    except OSError as error:
      raise _shared_memory_error(error) from None
    threading.Thread(target=self._watch, daemon=True).start()

  def __iter__(self) -> 'WatchedBatches':
    return self

  def __next__(self) -> dict[str, Any]:
    while True:
      self._waiting_since = time.monotonic()
      try:
        batch = next(self._batches)
      except UnreachableError:
        self._unreachable = True
        raise
      except RuntimeError as error:  # Grain's, if a worker has died.
        failure = self._hang or self._describe_failure(error)
        if not self._may_restart():
          raise UserError(f'{failure}; the same command goes on; {self._remedy(error)}') from None
      except OSError as error:  # From the workers' queues, locks and blocks of shared memory.
        raise _shared_memory_error(error) from None
      else:
        self._returned, self._restarts = self._returned + 1, 0
        if len(self._pids) < self._workers:
          self._pids.update(_named_processes().get(self._name, {}))
        return batch
      finally:
        self._waiting_since = None
      print(f'{failure}; the workers are restarted', file=sys.stderr, flush=True)
      self._restart()

  def close(self) -> None:
    """Ends the workers."""
    if not self._closed.is_set():
      self._closed.set()
      if self._closing:
        self._closing.set()
      # Grain would wait for workers that hang, or until workers that start have loaded a batch.
      if self._hang or self._unreachable:
        self._kill_workers()
      elif not self._returned:
        _kill(_unnamed_workers())
      self._batches.close()

  def _may_restart(self) -> bool:
    return (
      self._policy.on_worker_failure == 'restart'
      and self._restarts < _MAX_RESTARTS
      and not self._policy.stopping()
    )

  def _restart(self) -> None:
    self._restarts += 1
    self._kill_workers()
    self._batches.close()
    self._hang, self._restarted_at = None, self._returned
    self._pids.clear()
    self._batches = self._start(self._returned, self._name)

  def _remedy(self, error: Exception) -> str:
    if _exit_code(error) == -signal.SIGBUS:
      return f'{_describe_shared_memory()} is full: {_SHARED_MEMORY_REMEDY}'
    remedy = 'a smaller config.data.workers needs less memory'
    if self._policy.on_worker_failure == 'stop':
      remedy += ', and --config.data.on_worker_failure=restart goes on without ending'
    return remedy

  def _watch(self) -> None:
    """Kills workers that hang; runs in a separate thread."""
    reported = None
    while not self._closed.wait(0.2):
      since = self._waiting_since
      if since is None:
        continue
      waited = time.monotonic() - since
      if waited <= (_STOPPING_PATIENCE if self._policy.stopping() else self._policy.patience):
        continue
      if self._workers and not self._hang:
        # Workers take turns.
        number = (self._returned - self._restarted_at) % self._workers
        pid = _named_processes().get(self._name, {}).get(number)
        worker = f'worker process {number} (pid {pid})' if pid else f'worker process {number}'
        self._hang = f'{worker} has given no batch for {waited:.0f} seconds'
        self._kill_workers()
      elif not self._workers and reported != since:
        reported = since
        print(
          f'no batch for {waited:.0f} seconds: is the disk or the bucket with the data set still'
          ' there?',
          file=sys.stderr,
          flush=True,
        )

  def _kill_workers(self) -> None:
    """Kills the workers of this loader, and workers that have not set their name yet."""
    unnamed = _unnamed_workers()  # First, since a worker may set its name meanwhile.
    _kill([*_named_processes().get(self._name, {}).values(), *unnamed])

  def _describe_failure(self, error: Exception) -> str:
    """Returns the workers that ended, and the exit code or signal of the one that Grain reports."""
    code = _exit_code(error)
    if code is None:
      return f'a worker process failed ({first_line(error)})'
    alive = _named_processes().get(self._name, {})
    ended = [
      f'{number} (pid {self._pids[number]})' if number in self._pids else str(number)
      for number in range(self._workers)
      if number not in alive
    ]
    signals = {number.value: number.name for number in signal.Signals}
    cause = f'ended by {signals.get(-code, -code)}' if code < 0 else f'ended with status {code}'
    return f'worker process {", ".join(ended) or "?"} was {cause}'


def _exit_code(error: Exception) -> int | None:
  """Returns the exit code of a worker in Grain's message."""
  code = re.search(r'exit code (-?\d+)', str(error))
  return int(code[1]) if code else None


def _shared_memory_error(error: OSError) -> Exception:
  """Returns the error to raise if worker processes cannot share memory."""
  if error.errno in (errno.EMFILE, errno.ENFILE):
    return error
  return UserError(
    f'{_describe_shared_memory()} cannot hold the data of worker processes ({error.strerror}):'
    f' {_SHARED_MEMORY_REMEDY}'
  )


def _describe_shared_memory() -> str:
  """Returns the shared memory in words, with its size."""
  try:
    return f'{_SHARED_MEMORY}, of {shutil.disk_usage(_SHARED_MEMORY).total / 2**20:.1f} MiB,'
  except OSError:  # It does not exist, or this is not Linux.
    return 'shared memory'


def set_worker_name(name: str, worker: int) -> None:
  """Names the current process, so that the loader's process finds it; to be called in a worker.

  The name is kept by the system and not in a file, so that no folder needs to be writable.

  Args:
    name: the name of the loader, with at most ten characters.
    worker: the worker's number.
  """
  with contextlib.suppress(OSError):  # Not Linux.
    pathlib.Path('/proc/self/comm').write_text(f'{name}.{worker}')


def _unnamed_workers() -> list[int]:
  """Returns the process ids of workers that still import packages, of whichever loader."""
  children = multiprocessing.active_children()
  named = {pid for workers in _named_processes().values() for pid in workers.values()}
  return [
    child.pid
    for child in children
    if child.name.startswith(_GRAIN_PREFIX) and child.pid is not None and child.pid not in named
  ]


def _kill(pids: Iterable[int]) -> None:
  for pid in pids:
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, signal.SIGKILL)


def _named_processes() -> dict[str, dict[int, int]]:
  """Returns {loader's name: {worker's number: process id}} of this process's living children."""
  processes: dict[str, dict[int, int]] = {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    # Processes may end meanwhile. The parent is checked because ids are reused.
    with contextlib.suppress(OSError, ValueError):
      before, _, after = path.read_text().rpartition(')')
      state, parent = after.split()[:2]
      loader, _, worker = before.partition('(')[2].rpartition('.')
      if loader.startswith(_NAME_PREFIX) and state != 'Z' and int(parent) == os.getpid():
        processes.setdefault(loader, {})[int(worker)] = int(path.parent.name)
  return processes
