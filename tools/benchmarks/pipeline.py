"""The input pipeline: clips per second of one core, beside bare decoding and PyTorch's loader.

Four or five loops read the same clips, the same frames of them and the same crops:

    ours_planes   this project's training batches, with region planes
    ours          the same from a data set without region planes
    bare          only decodes and resizes the frames' JPEGs, which are in memory
    peer_pyav     a PyTorch DataLoader that reads videos with PyAV, and masks from PNG files
    peer_decord   the same with decord, if that is installed

Each loop is a process of its own on the same core. The loops take turns, one repeat each, so that
other work of the machine affects all of them alike. The result is the CPU time of the process and
all its threads, the median over the repeats. All files are in the disk's cache.
"""

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import statistics
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.data.pipeline import training_batches
from zsar_jax.errors import UserError
from zsar_jax.runtime.host_memory import keep_freed_memory

from . import clips, lines, pipeline_loops, turns
from .pipeline_loops import BATCH, LOOPS, OPTIONAL_PACKAGES, SEED, WARM_UP, Work

# The name of each comparison, its loops, and the required ratio with the kind of bound.
_COMPARISONS = (
  ('clips per second of ours / bare', 'bare', 'ours', 'least', 0.85),
  ('clips per second of ours_planes / peer_pyav', 'peer_pyav', 'ours_planes', 'least', 5.0),
  ('clips per second of ours_planes / peer_decord', 'peer_decord', 'ours_planes', 'least', 5.0),
  ('time of ours_planes / ours', 'ours_planes', 'ours', 'most', 1.15),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  for flag, default, text in (
    ('videos', 8, 'videos to make'),
    ('length', clips.NUM_FRAMES, 'frames of each video'),
    ('clips', 96, 'clips that each loop reads in a repeat'),
    ('repeats', 5, 'of each loop'),
    ('frames', 8, 'frames sampled from a clip'),
    ('size', 224, 'side of a frame in pixels'),
  ):
    parser.add_argument(f'--{flag}', type=int, default=default, help=f'{text} (default: {default})')
  parser.add_argument(
    '--soak',
    type=int,
    metavar='N',
    help='only read N clips with region planes, and report the resident memory over time',
  )


def run(arguments: argparse.Namespace) -> None:
  """Makes clips in a temporary folder, measures and prints the lines."""
  for flag in ('videos', 'length', 'clips', 'repeats', 'frames', 'size', 'soak'):
    value = getattr(arguments, flag)
    if value is not None and value < 1:
      raise UserError(f'--{flag}: {value} is too small; at least 1')
  with tempfile.TemporaryDirectory() as folder:
    work = pipeline_loops.make_work(
      pathlib.Path(folder), arguments.videos, arguments.length, arguments.frames, arguments.size
    )
    if arguments.soak:
      _soak(work, arguments.soak)
      return
    samples = pipeline_loops.draw_samples(work, arguments.clips)
    measured = measure(dataclasses.replace(work, samples=samples), arguments.repeats)
  for line in [*measured, *compare(measured)]:
    lines.show(**line)


def measure(work: Work, repeats: int) -> list[dict[str, Any]]:
  """Measures all loops in turn.

  Returns:
    For each loop the fields of its line, with a 'skipped' if it cannot run here.

  Raises:
    RuntimeError: if the loops did not read the same frames.
  """
  core = max(os.sched_getaffinity(0))
  workers = {}
  results: dict[str, dict[str, Any]] = {}
  for name in LOOPS:
    packages = OPTIONAL_PACKAGES.get(name, ())
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
      results[name] = {'skipped': f'{missing[0]} is not installed'}
    else:
      workers[name] = turns.Worker(pipeline_loops.make_loop, name, work, core)
  times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
  frames = {}
  try:
    for repeat in range(-1, repeats):
      for name, worker in workers.items():
        cpu, wall, frames[name] = worker.call()
        if repeat >= 0:  # The repeat before warms up the caches.
          times[name].append((1e3 * cpu / len(work.samples), 1e3 * wall / len(work.samples)))
  finally:
    for worker in workers.values():
      worker.close()
  check_same_frames(frames)
  for name, pairs in times.items():
    cpu, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
    difference = np.abs(frames[name].astype(int) - frames['bare']).mean()
    results[name] = {
      'clips_per_second_per_core': round(1e3 / cpu, 2),
      'ms_per_clip': round(cpu, 3),
      'ms_per_clip_each': [round(cpu, 3) for cpu, _ in pairs],
      'wall_ms_per_clip': round(wall, 3),
      'difference_from_bare': round(float(difference), 3),
    }
  settings = {
    'T': work.view.num_frames,
    'size': work.view.size,
    'clips': len(work.samples),
    'repeats': repeats,
    'measured': f'CPU time of one process on core {core} alone, median of the repeats, in turn',
  }
  machine = lines.machine()
  return [{'name': name, **results[name], **settings, **machine} for name in LOOPS]


def check_same_frames(frames: Mapping[str, np.ndarray]) -> None:
  """Checks that this project's loops read the frames that the bare loop reads.

  Raises:
    RuntimeError: if one does not.
  """
  for name in ('ours_planes', 'ours'):
    if not np.array_equal(frames[name], frames['bare']):
      raise RuntimeError(f'the loops {name} and bare did not read the same frames')


def compare(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the fields of the comparisons' lines, from those of the measurements."""
  times = {line['name']: line['ms_per_clip'] for line in measured if 'ms_per_clip' in line}
  comparisons = []
  for name, above, below, bound, required in _COMPARISONS:
    if above in times and below in times:
      ratio = round(times[above] / times[below], 3)
      met = ratio >= required if bound == 'least' else ratio <= required
      comparisons.append({'name': name, 'ratio': ratio, f'at_{bound}': required, 'met': met})
  return comparisons


def _soak(work: Work, count: int) -> None:
  """Reads `count` clips and prints the resident memory after each tenth of them."""
  keep_freed_memory()
  batches = training_batches(pipeline_loops.open_loader(work, planes=True), BATCH, SEED, 0, 0)
  total = -(-count // BATCH)
  resident = {}
  for number in range(total):
    next(batches)
    for share in range(0, 101, 10):
      if number + 1 == max(WARM_UP, total * share // 100):
        resident[f'{share} %'] = _resident_megabytes()
  batches.close()
  lines.show(
    name='soak',
    clips=total * BATCH,
    resident_megabytes=resident,
    growth_megabytes=round(resident['100 %'] - resident['10 %'], 1),
    T=work.view.num_frames,
    size=work.view.size,
    **lines.machine(),
  )


def _resident_megabytes() -> float:
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return round(pages * os.sysconf('SC_PAGE_SIZE') / 1e6, 1)
