"""Processes that take turns, so that what else the machine does disturbs all of them alike."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

# Does the work once, and returns a number by which one sees that it was done.
Loop = Callable[[], float]


class Lazy(Mapping):
  """Loops that are made when it is their turn for the first time."""

  def __init__(self, makers: Mapping[str, Callable[[], Loop]]):
    """Keeps what makes each loop, by name."""
    self._makers, self._made = makers, {}

  def __getitem__(self, name: str) -> Loop:
    if name not in self._made:
      self._made[name] = self._makers[name]()
    return self._made[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._makers)

  def __len__(self) -> int:
    return len(self._makers)


class Child:
  """A process that makes something callable, and calls it whenever it is asked to."""

  def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any):
    """Starts the process.

    Args:
      make: importable; what it returns is called in the process.
      *arguments: of `make`.
    """
    context = multiprocessing.get_context('spawn')
    # Both sides are on the same GPU, and on one: JAX leaves the other its share of the memory.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    os.environ.setdefault('CUDA_VISIBLE_DEVICES', '0')
    self._connection, there = context.Pipe()
    self._process = context.Process(target=_serve, args=(make, arguments, there), daemon=True)
    self._process.start()
    there.close()

  def turn(self, *arguments: Any) -> Any:
    """Calls it once.

    Raises:
      RuntimeError: if it failed, with its words.
    """
    self._connection.send(arguments)
    try:
      done, answer = self._connection.recv()
    except EOFError:
      self._process.join()
      raise RuntimeError(f'its process ended with {self._process.exitcode}') from None
    if not done:
      raise RuntimeError(answer)
    return answer

  def end(self) -> None:
    """Ends the process."""
    self._connection.close()
    self._process.join()


def _serve(make: Callable[..., Any], arguments: tuple, connection: Connection) -> None:
  """Calls what `make` makes until nobody can ask any more."""
  call = make(*arguments)
  while True:
    try:
      asked = connection.recv()
    except EOFError:
      return
    try:
      answer = True, call(*asked)
    except Exception as error:  # Such as a compiler that is not installed.
      answer = False, f'{type(error).__name__}: {error}'.splitlines()[0][:300]
    connection.send(answer)


def measure(
  sides: Mapping[str, tuple[Any, ...]], loops: Sequence[str], repeats: int, cores: Sequence[int]
) -> dict[str, dict[str, Any]]:
  """Times loops in turn: each once to warm up, then each `repeats` times.

  Args:
    sides: by name the function that makes a side's loops, and its arguments. Each side is a
      process of its own.
    loops: 'SIDE/LOOP', in the order of the turns.
    repeats: of each.
    cores: where all run, one after the other.

  Returns:
    By loop 'seconds', the median, 'seconds_each' and 'cpu_seconds_each' of the process and all
    its threads, and 'value' of the first turn; or 'skipped' with the reason.
  """
  children = {name: Child(_timed, tuple(cores), *made) for name, made in sides.items()}
  taken: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
  results: dict[str, dict[str, Any]] = {loop: {} for loop in loops}
  try:
    for repeat in range(-1, repeats):
      for loop in loops:
        if 'skipped' in results[loop]:
          continue
        side, _, name = loop.partition('/')
        try:
          wall, cpu, value = children[side].turn(name)
        except RuntimeError as error:
          results[loop] = {'skipped': str(error)}
          continue
        results[loop].setdefault('value', value)
        if repeat >= 0:
          taken[loop].append((wall, cpu))
  finally:
    for child in children.values():
      child.end()
  for loop, times in taken.items():
    if 'skipped' not in results[loop]:
      walls, cpus = ([round(one, 4) for one in column] for column in zip(*times, strict=True))
      results[loop] |= {
        'seconds': statistics.median(walls),
        'cpu_seconds': statistics.median(cpus),
        'seconds_each': walls,
        'cpu_seconds_each': cpus,
      }
  return results


def _timed(
  cores: tuple[int, ...], make: Callable[..., Mapping[str, Loop]], *arguments: Any
) -> Callable[[str], tuple[float, float, float]]:
  os.sched_setaffinity(0, cores)  # Before the libraries count the cores.
  loops: Mapping[str, Loop] = {}

  def turn(name: str) -> tuple[float, float, float]:
    nonlocal loops
    loops = loops or make(*arguments)  # In a turn, so that what goes wrong is told.
    loop = loops[name]
    cpu, wall = time.process_time(), time.perf_counter()
    value = loop()
    return time.perf_counter() - wall, time.process_time() - cpu, value

  return turn
