"""Threads that do not keep a program from ending, as those of `ThreadPoolExecutor` do."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any


class DaemonThreads(concurrent.futures.Executor):
  """Runs functions in threads that end with the program, even while they wait for a network."""

  def __init__(self, count: int, name: str):
    """Starts the threads.

    Args:
      count: the number of threads.
      name: the name of each.
    """
    self._tasks: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(count):
      threading.Thread(target=self._work, name=name, daemon=True).start()

  def submit(
    self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
  ) -> concurrent.futures.Future:
    """Returns the future result of a function."""
    future: concurrent.futures.Future = concurrent.futures.Future()
    self._tasks.put((future, function, args, kwargs))
    return future

  def _work(self) -> None:
    while True:
      future, function, args, kwargs = self._tasks.get()
      if future.set_running_or_notify_cancel():
        try:
          future.set_result(function(*args, **kwargs))
        except BaseException as error:
          future.set_exception(error)
      del future, function, args, kwargs  # Clips are large.
