"""Runs work in several processes in turn, so that other work of the machine affects all alike."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

# Does the work once, and returns a number that shows that it was done.
Loop = Callable[[], float]


class Lazy(Mapping):
  """Loops that are made when they are first used."""

  def __init__(
    self,
    makers: Mapping[str, Callable[[], Loop]],
    peak_bytes: Callable[[], int | None] = lambda: None,
  ):
    """Makes nothing yet.

    Args:
      makers: the functions that make the loops, by name.
      peak_bytes: returns the most device memory that the process had; None if it is not known.
    """
    self._makers, self._loops = makers, {}
    self.peak_bytes = peak_bytes

  def __getitem__(self, name: str) -> Loop:
    if name not in self._loops:
      self._loops[name] = self._makers[name]()
    return self._loops[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._makers)

  def __len__(self) -> int:
    return len(self._makers)


class Worker:
  """A process that makes a function, and calls it on request."""

  def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any):
    """Starts the process.

    Args:
      make: an importable function that returns the function to call.
      *arguments: of `make`.
    """
    context = multiprocessing.get_context('spawn')
    # Both sides use the same GPU, and only one: JAX must leave memory for the other side.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    os.environ.setdefault('CUDA_VISIBLE_DEVICES', '0')
    self._connection, remote = context.Pipe()
    self._process = context.Process(target=_serve, args=(make, arguments, remote), daemon=True)
    self._process.start()
    remote.close()

  def call(self, *arguments: Any) -> Any:
    """Calls the function once and returns its result.

    Raises:
      RuntimeError: if it failed, with the error's text.
    """
    self._connection.send(arguments)
    try:
      succeeded, result = self._connection.recv()
    except EOFError:
      self._process.join()
      raise RuntimeError(f'its process ended with {self._process.exitcode}') from None
    if not succeeded:
      raise RuntimeError(result)
    return result

  def close(self) -> None:
    """Ends the process."""
    self._connection.close()
    self._process.join()


def _serve(make: Callable[..., Any], arguments: tuple, connection: Connection) -> None:
  """Calls the function that `make` returns until the connection is closed."""
  function = make(*arguments)
  while True:
    try:
      call = connection.recv()
    except EOFError:
      return
    try:
      answer = True, function(*call)
    except Exception as error:  # For example a compiler that is not installed.
      answer = False, f'{type(error).__name__}: {error}'.splitlines()[0][:300]
    connection.send(answer)


def measure(
  sides: Mapping[str, tuple[Any, ...]], loops: Sequence[str], repeats: int, cores: Sequence[int]
) -> dict[str, dict[str, Any]]:
  """Times loops in turn: each once to warm up, then each `repeats` times.

  Args:
    sides: by name, the function that makes a side's loops, and its arguments. Each side is a
      process of its own.
    loops: 'SIDE/LOOP', in the order of the turns.
    repeats: the number of repeats of each loop.
    cores: where all sides run, one after the other.

  Returns:
    By loop, the medians 'seconds' and 'cpu_seconds', which counts the process and all its threads,
    'seconds_each', 'cpu_seconds_each', 'value' of the first turn, and on a GPU 'peak_bytes', the
    most device memory of its process so far; or 'skipped' with the reason.
  """
  used = {loop.partition('/')[0] for loop in loops}
  workers = {name: Worker(_make_timed, tuple(cores), *sides[name]) for name in used}
  times: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
  results: dict[str, dict[str, Any]] = {loop: {} for loop in loops}
  try:
    for repeat in range(-1, repeats):
      for loop in loops:
        if 'skipped' in results[loop]:
          continue
        side, _, name = loop.partition('/')
        try:
          wall, cpu, value, peak_bytes = workers[side].call(name)
        except RuntimeError as error:
          results[loop] = {'skipped': str(error)}
          continue
        results[loop].setdefault('value', value)
        if peak_bytes is not None:
          results[loop]['peak_bytes'] = peak_bytes
        if repeat >= 0:
          times[loop].append((wall, cpu))
  finally:
    for worker in workers.values():
      worker.close()
  for loop, pairs in times.items():
    if 'skipped' not in results[loop]:
      walls, cpus = (
        [round(seconds, 4) for seconds in column] for column in zip(*pairs, strict=True)
      )
      results[loop] |= {
        'seconds': statistics.median(walls),
        'cpu_seconds': statistics.median(cpus),
        'seconds_each': walls,
        'cpu_seconds_each': cpus,
      }
  return results


def _make_timed(
  cores: tuple[int, ...], make: Callable[..., Mapping[str, Loop]], *arguments: Any
) -> Callable[[str], tuple[float, float, float, int | None]]:
  os.sched_setaffinity(0, cores)  # Before libraries count the cores.
  loops: Mapping[str, Loop] = {}

  def run(name: str) -> tuple[float, float, float, int | None]:
    nonlocal loops
    loops = loops or make(*arguments)  # In a call, so that an error is reported.
    loop = loops[name]
    cpu, wall = time.process_time(), time.perf_counter()
    value = loop()
    times = time.perf_counter() - wall, time.process_time() - cpu
    return *times, value, loops.peak_bytes() if isinstance(loops, Lazy) else None

  return run
