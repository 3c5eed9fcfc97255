"""Threads that do not keep a program from ending, as those of `ThreadPoolExecutor` do."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any


class DaemonThreads(concurrent.futures.Executor):
  """Runs functions in threads that end with the program, even while they wait for a network."""

  def __init__(self, count: int, name: str):
    """Starts no thread yet.

    Args:
      count: the most threads at once. One is started if all others are busy.
      name: the name of each.
    """
    self._tasks: queue.SimpleQueue = queue.SimpleQueue()
    self._count, self._name = count, name
    self._started = 0
    self._idle = threading.Semaphore(0)
    self._lock = threading.Lock()

  def submit(
    self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
  ) -> concurrent.futures.Future:
    """Returns the future result of a function."""
    future: concurrent.futures.Future = concurrent.futures.Future()
    self._tasks.put((future, function, args, kwargs))
    with self._lock:
      if not self._idle.acquire(blocking=False) and self._started < self._count:
        self._started += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()
    return future

  def _work(self) -> None:
    while True:
      try:
        task = self._tasks.get_nowait()
      except queue.Empty:
        self._idle.release()
        task = self._tasks.get()
      future, function, args, kwargs = task
      if future.set_running_or_notify_cancel():
        try:
          future.set_result(function(*args, **kwargs))
        except BaseException as error:
          future.set_exception(error)
      del task, future, function, args, kwargs  # Clips are large.
