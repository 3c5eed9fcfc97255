"""Stages chunks in this process, in worker processes or on Apache Beam, and shows the progress."""

import concurrent.futures
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

import tqdm

from zsar_jax.data.workers import hold_interrupts, worker_pool
from zsar_jax.datasets.beam import Beam, run_on_beam
from zsar_jax.datasets.staging import Chunk, StagedChunk, stage_chunk
from zsar_jax.runtime import terminal

# The interval of checks for chunks that processes of Beam have finished.
_POLL_SECONDS = 2.0

# Chunks, each with the path that it is staged at.
Work = Sequence[tuple[Chunk, str]]


def stage_in_processes(work: Work, name: str, workers: int | None) -> list[StagedChunk]:
  """Stages chunks in worker processes.

  Args:
    work: the chunks and their paths.
    name: the name of the data set, for the progress bar.
    workers: the number of processes; 0 or 1 works in this process, None takes all cores.

  Raises:
    UserError: if a worker process was killed.
  """
  clips = sum(len(chunk.tasks) for chunk, _ in work)
  workers = min(os.cpu_count() or 1 if workers is None else workers, len(work))
  with progress_bar(clips, name) as progress:
    if workers <= 1:
      results = []
      for chunk, path in work:
        results.append(stage_chunk(chunk, path))
        progress.update(len(chunk.tasks))
      return results

    with worker_pool(workers) as pool:
      with hold_interrupts():
        futures = [pool.submit(stage_chunk, chunk, path) for chunk, path in work]
      for future in concurrent.futures.as_completed(futures):
        staged = future.result()
        progress.update(len(staged.entries) + len(staged.failures))
      return [future.result() for future in futures]


def stage_with_beam(work: Work, name: str, beam: Beam) -> list[StagedChunk]:
  """Stages chunks on Apache Beam.

  Args:
    work: the chunks and their paths.
    name: the name of the data set, for the progress bar.
    beam: the runner.

  Raises:
    UserError: as `run_on_beam` does.
  """
  reports = {f'{path}.json': len(chunk.tasks) for chunk, path in work}
  with polled_progress(reports, f'{name} on {beam.runner}'):
    run_on_beam(stage_chunk, work, beam)
  # All chunks are finished: this only reads their reports.
  return stage_in_processes(work, name, workers=0)


@contextlib.contextmanager
def polled_progress(clips_of: Mapping[str, int], name: str) -> Iterator[None]:
  """Shows the progress of other processes, by the files that they write.

  Args:
    clips_of: {path of a file: the number of clips that are finished when it exists}.
    name: what is made.
  """
  done = threading.Event()
  remaining = dict(clips_of)

  def poll() -> None:
    with progress_bar(sum(remaining.values()), name) as progress:
      finished = False
      while not finished:
        finished = done.wait(_POLL_SECONDS)
        for path in [path for path in remaining if os.path.exists(path)]:
          progress.update(remaining.pop(path))

  thread = threading.Thread(target=poll, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()


def progress_bar(clips: int, name: str) -> tqdm.tqdm:
  """Returns a bar that shows clips per second and the time left; `name` says what is made."""
  # In a log file, every update of the bar is a line.
  interval = 0.2 if sys.stderr.isatty() else 60
  return tqdm.tqdm(
    total=clips, desc=name, unit=' clips', mininterval=interval, file=terminal.raw_stderr()
  )
