"""Runs the making of masks over groups of clips: on a device, in worker processes, or on Beam.

With a network, worker processes read the videos, this process runs the network, and threads refine
and write the masks, so that the device waits for neither. Other makers run in the worker processes.
"""

import collections
import concurrent.futures
import functools
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from zsar_jax.data.records import ClipError
from zsar_jax.data.workers import hold_interrupts, worker_pool
from zsar_jax.datasets.beam import Beam, run_on_beam
from zsar_jax.datasets.masks.made_files import clip_path
from zsar_jax.datasets.stage_runners import polled_progress, progress_bar
from zsar_jax.mask_making.maker import FrameMask, Maker, MakerClip
from zsar_jax.mask_making.making import (
  Finish,
  Making,
  Outcome,
  finish_clip,
  finish_now,
  load_group,
  make_group,
  make_group_alone,
)
from zsar_jax.mask_making.work import ClipWork

Groups = Sequence[tuple[ClipWork, ...]]

# The number of groups that are read ahead of the network, besides one for each worker process.
_READ_AHEAD = 2

# The number of masks that may wait for a thread that refines and writes them.
_WAITING_MASKS = 64


def run_on_device(
  groups: Groups, making: Making, maker: Maker, workers: int
) -> Iterator[list[Outcome]]:
  """Makes masks with a network in this process.

  Args:
    groups: the clips.
    making: the settings.
    maker: the maker that `making.spec` creates.
    workers: the number of processes that read videos, and of threads that write masks; 0 does
      everything in this thread.

  Yields:
    The outcomes of each group, in order.

  Raises:
    UserError: a worker process was killed.
  """
  if not workers:
    finish: Finish = functools.partial(finish_now, making)
    for group in groups:
      pending = make_group(group, load_group(group, making), making, maker, finish)
      yield [outcome() for outcome in pending]
    return
  threads = concurrent.futures.ThreadPoolExecutor(workers)
  finish = functools.partial(_finish_in_thread, threads, making)
  load = functools.partial(load_group, making=making)
  # The outcomes of these groups are waited for later, so that the network goes on meanwhile.
  unfinished: collections.deque = collections.deque()
  with worker_pool(workers) as pool:
    try:
      for group, future in _submit_ahead(pool, load, groups, workers + _READ_AHEAD):
        unfinished.append(make_group(group, future.result(), making, maker, finish))
        if len(unfinished) > workers:
          yield [outcome() for outcome in unfinished.popleft()]
      for pending in unfinished:
        yield [outcome() for outcome in pending]
    finally:
      threads.shutdown(wait=True, cancel_futures=True)


def run_in_processes(groups: Groups, making: Making, workers: int) -> Iterator[list[Outcome]]:
  """Makes masks with a maker that needs no device, in worker processes.

  Args:
    groups: the clips.
    making: the settings.
    workers: the number of processes; 0 or 1 makes them in this process.

  Yields:
    The outcomes of each group, in order.

  Raises:
    UserError: a worker process was killed.
  """
  if workers <= 1:
    for group in groups:
      yield make_group_alone(group, making)
    return
  run = functools.partial(make_group_alone, making=making)
  with worker_pool(workers) as pool:
    for _, future in _submit_ahead(pool, run, groups, 4 * workers):
      yield future.result()


def run_with_beam(groups: Groups, making: Making, beam: Beam) -> None:
  """Makes masks on Apache Beam, each of whose processes creates a maker of its own.

  Raises:
    UserError: as `run_on_beam` does.
  """
  paths = {str(clip_path(making.root, work.name)): 1 for group in groups for work in group}
  with polled_progress(paths, f'masks on {beam.runner}'):
    run_on_beam(make_group_alone, [(group, making) for group in groups], beam)


def show_progress(outcomes: Iterator[list[Outcome]], clips: int) -> list[Outcome]:
  """Returns all outcomes; shows clips per second, frames per second and the time left meanwhile.

  Args:
    outcomes: the outcomes of each group.
    clips: the number of clips in them.
  """
  collected: list[Outcome] = []
  frames, start = 0, time.monotonic()
  with progress_bar(clips, 'masks') as bar:
    for group in outcomes:
      collected += group
      frames += sum(outcome.frames for outcome in group)
      bar.set_postfix_str(f'{frames / (time.monotonic() - start):.1f} frames/s', refresh=False)
      bar.update(len(group))
  return collected


def _submit_ahead(
  pool: concurrent.futures.Executor, function: Callable, groups: Groups, ahead: int
) -> Iterator[tuple[tuple[ClipWork, ...], concurrent.futures.Future]]:
  """Yields each group with the future of its call, while `ahead` later calls are in progress."""
  remaining = iter(groups)
  pending: collections.deque = collections.deque()

  def submit(count: int) -> None:
    for group in itertools.islice(remaining, count):
      with hold_interrupts():
        pending.append((group, pool.submit(function, group)))

  submit(ahead)
  while pending:
    yield pending.popleft()
    submit(1)


def _finish_in_thread(
  threads: concurrent.futures.Executor,
  making: Making,
  clip: MakerClip,
  masks: Iterator[FrameMask | None],
) -> Callable[[], Outcome]:
  """Hands the masks of a clip to a thread, as the maker in this thread yields them."""
  handed: queue.Queue = queue.Queue(_WAITING_MASKS)
  stopped = threading.Event()
  end = object()

  def received() -> Iterator[FrameMask | None]:
    while (item := handed.get()) is not end:
      if isinstance(item, BaseException):
        raise item
      yield item

  def finish() -> Outcome:
    try:
      return finish_clip(making, clip, received())
    finally:
      stopped.set()

  def hand(item: object) -> None:
    """Waits for room, unless the thread has stopped early."""
    while not stopped.is_set():
      try:
        handed.put(item, timeout=0.1)
        return
      except queue.Full:
        continue

  future = threads.submit(finish)
  try:
    for mask in masks:
      hand(mask)
  except ClipError as error:  # `finish_clip` writes it down.
    hand(error)
  except BaseException as error:
    hand(error)
    raise
  else:
    hand(end)
  return future.result
