"""Readings: functions that pause where they need bytes of files in a bucket.

A *reading* is a generator. It yields the ranges that it needs, receives the files with these in
memory, and returns its result:

    (table,) = yield [(table, [(0, 128)])]

Many readings are done in step: the requests of all of them are sent at once, and neighboring ranges
are read in one. A reading of files on a disk yields nothing.
"""

import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from zsar_jax.data.remote_files import RangeRequest, RemoteFile, read_ahead
from zsar_jax.errors import UserError
from zsar_jax.storage.bucket_requests import UnreachableError

T = TypeVar('T')

Reading = Generator[Sequence[RangeRequest], list[RemoteFile], T]


def finish(reading: Reading[T]) -> T:
  """Returns the result of a reading, and raises its errors."""
  (result,) = finish_together([reading])
  return result


def finish_together(readings: Sequence[Reading[T]]) -> list[T]:
  """Returns the results of several readings of the same data set, in their order.

  Raises:
    UnreachableError: if the bucket cannot be read; no reading gets to know of it.
    Exception: of whichever reading raises one first. An `OSError` of a request is raised in the
      reading that made it.
  """
  results: list[Any] = [None] * len(readings)
  waiting: dict[int, Sequence[RangeRequest]] = {}

  def go_on(number: int, step: Callable[[], Sequence[RangeRequest]]) -> None:
    try:
      waiting[number] = step()
    except StopIteration as end:
      results[number] = end.value

  for number, reading in enumerate(readings):
    go_on(number, functools.partial(next, reading))
  while waiting:
    requests, waiting = waiting, {}
    for number, files in _read(requests).items():
      reading = readings[number]
      if isinstance(files, Exception):
        go_on(number, functools.partial(reading.throw, files))
      else:
        go_on(number, functools.partial(reading.send, files))
  return results


def _read(
  requests: dict[int, Sequence[RangeRequest]],
) -> dict[int, list[RemoteFile] | Exception]:
  """Returns, for each reading, its files with the ranges in memory, or the error of its ranges."""
  try:
    files = iter(read_ahead([item for items in requests.values() for item in items]))
    return {number: [next(files) for _ in items] for number, items in requests.items()}
  except UnreachableError:
    raise
  except (OSError, UserError) as error:
    if len(requests) == 1:
      return dict.fromkeys(requests, error)
  # The error belongs to some of the readings; halves find them in few rounds.
  numbers = list(requests)
  half = len(numbers) // 2
  return _read({number: requests[number] for number in numbers[:half]}) | _read(
    {number: requests[number] for number in numbers[half:]}
  )
