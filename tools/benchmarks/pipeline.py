"""The input pipeline: clips per second of one core, beside decoding alone and PyTorch's way.

Four or five loops read the same clips, the same frames of them and the same crops:

    ours_planes   this project's training batches, with region planes
    ours          the same from a data set without region planes
    bare          nothing but decoding and resizing the frames' JPEGs, which are in memory
    peer_pyav     a PyTorch DataLoader that reads the videos with PyAV, and the masks from PNG
    peer_decord   the same with decord, where that is installed

Each is a process of its own on the same one core. They take turns, one repeat each, so that what
else the machine does disturbs all of them alike. What counts is the CPU time of the process and
all its threads, as the median over the repeats. All files are in the disk's cache.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.geometry import Box, random_crop, resize_frame
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.sampling import segment_indices
from zsar_jax.data.subset import Subset, select
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.runtime.host_memory import keep_freed_memory

from . import clips, lines, turns

# Small, so that what is at work when the clock starts and stops matters little.
_BATCH = 4
_SEED = 0

# Grain's threads are at work on the next batches when the clock starts, as when it stops.
_WARM_UP = 2

# The list of clips is repeated to the length of a real one: to shuffle a handful takes grain
# milliseconds for each clip.
_LISTED = 20_000

# The comparisons asked for: the ratio, its bound and whether that is the least or the most.
_COMPARISONS = (
  ('clips per second of ours / bare', 'bare', 'ours', 'least', 0.85),
  ('clips per second of ours_planes / peer_pyav', 'peer_pyav', 'ours_planes', 'least', 5.0),
  ('clips per second of ours_planes / peer_decord', 'peer_decord', 'ours_planes', 'least', 5.0),
  ('time of ours_planes / ours', 'ours_planes', 'ours', 'most', 1.15),
)


@dataclasses.dataclass(frozen=True)
class Shot:
  """What is wanted of one clip: the frames at `indices`, cut to `box`."""

  clip_id: str
  indices: tuple[int, ...]
  box: Box


@dataclasses.dataclass(frozen=True)
class Work:
  """What every loop does.

  Attributes:
    folder: holds the clips in `clips`, and the data sets `with` and `without` region planes.
    view: how the clips are sampled and resized.
    shots: what the measured batches hold, in order.
  """

  folder: pathlib.Path
  view: View
  shots: tuple[Shot, ...] = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  for flag, default, text in (
    ('videos', 8, 'videos that are made'),
    ('length', clips.NUM_FRAMES, 'frames of each video'),
    ('clips', 96, 'clips that each loop reads in a repeat'),
    ('repeats', 5, 'of each loop'),
    ('frames', 8, 'frames sampled of a clip'),
    ('size', 224, "a frame's side in pixels"),
  ):
    parser.add_argument(f'--{flag}', type=int, default=default, help=f'{text} (default: {default})')
  parser.add_argument(
    '--soak',
    type=int,
    metavar='N',
    help='only read N clips with region planes, and say how the resident memory develops',
  )


def run(arguments: argparse.Namespace) -> None:
  """Makes clips in a temporary folder, measures and prints the lines."""
  for flag in ('videos', 'length', 'clips', 'repeats', 'frames', 'size', 'soak'):
    value = getattr(arguments, flag)
    if value is not None and value < 1:
      raise UserError(f'--{flag}: {value} is too small; at least 1')
  with tempfile.TemporaryDirectory() as folder:
    work = make_work(
      pathlib.Path(folder), arguments.videos, arguments.length, arguments.frames, arguments.size
    )
    if arguments.soak:
      _soak(work, arguments.soak)
      return
    work = dataclasses.replace(work, shots=plan(work, arguments.clips))
    measured = measure(work, arguments.repeats)
  for line in [*measured, *compare(measured)]:
    lines.show(**line)


def make_work(folder: pathlib.Path, videos: int, length: int, num_frames: int, size: int) -> Work:
  """Makes the clips, and the data sets out of them."""
  (folder / 'clips').mkdir()
  for number in range(videos):
    clips.make_clip(folder / 'clips', f'clip{number}', number, length)
  for planes in (True, False):
    with contextlib.redirect_stdout(sys.stderr):
      clips.build_records(folder / 'clips', _data_dir(folder, planes), planes)
  return Work(folder, View(num_frames=num_frames, size=size))


def plan(work: Work, count: int) -> tuple[Shot, ...]:
  """What the training batches after the warm-up hold, in whole batches of `count` clips or more."""
  subset = _subset(work, planes=True)
  batches = training_batches(_Planner(subset, work.view), _BATCH, _SEED, _WARM_UP, 0)
  shots = []
  for _ in range(-(-count // _BATCH)):
    batch = next(batches)
    for clip, indices, box in zip(batch['clip'], batch['indices'], batch['box'], strict=True):
      shots.append(Shot(subset.clip_id(clip), tuple(indices.tolist()), Box(*box.tolist())))
  batches.close()
  return tuple(shots)


class _Planner(ClipLoader):
  """Draws what a `ClipLoader` draws for a training clip, and decodes nothing."""

  def training_clip(self, position: int, rng: np.random.Generator) -> dict[str, Any]:
    rng.integers(2**32)  # The clip's seed.
    clip = self.subset.frames(position)
    indices = segment_indices(len(clip), self.view.num_frames, rng)
    box = random_crop(rng, *clip.size, self.view.crop_scale, self.view.crop_ratio)
    return {'clip': position, 'indices': indices, 'box': np.array(dataclasses.astuple(box))}


def _data_dir(folder: pathlib.Path, planes: bool) -> pathlib.Path:
  return folder / ('with' if planes else 'without')


def _subset(work: Work, planes: bool) -> Subset:
  dataset = open_dataset(_data_dir(work.folder, planes), 'benchmark', 'train')
  subset = select(dataset, 'all', work.view.unannotated, 'benchmark')
  places = np.arange(_LISTED) % len(subset)
  return dataclasses.replace(
    subset, positions=subset.positions[places], labels=subset.labels[places]
  )


# A loop reads the clips of all shots and returns (CPU seconds, seconds, the first clip's frames
# u8[T, S, S, 3]).
Loop = Callable[[], tuple[float, float, np.ndarray]]


def _ours(work: Work, planes: bool) -> Loop:
  loader = ClipLoader(_subset(work, planes), work.view)

  def loop() -> tuple[float, float, np.ndarray]:
    batches = training_batches(loader, _BATCH, _SEED, 0, 0)
    for _ in range(_WARM_UP):
      next(batches)
    cpu, wall = time.process_time(), time.perf_counter()
    first = next(batches)['frames'][0]
    for _ in range(len(work.shots) // _BATCH - 1):
      next(batches)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    batches.close()
    return cpu, wall, np.asarray(first)

  return loop


def _bare(work: Work) -> Loop:
  subset = _subset(work, planes=False)
  place = {clip_id: number for number, clip_id in enumerate(subset.dataset.index.ids)}
  jpegs = []
  for shot in work.shots:
    clip = subset.dataset.frames(place[shot.clip_id])
    jpegs.append([np.frombuffer(clip.frame(index), np.uint8) for index in shot.indices])

  def load(number: int) -> list[np.ndarray]:
    box = work.shots[number].box
    return [
      resize_frame(
        cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), box, work.view.size, work.view.interpolation
      )
      for jpeg in jpegs[number]
    ]

  return _timed(load, len(jpegs))


def _peer(work: Work, reader: str) -> Loop:
  from . import torch_loader

  batches = torch_loader.batches(work.folder / 'clips', work.shots, work.view, reader, _BATCH)

  def loop() -> tuple[float, float, np.ndarray]:
    cpu, wall = time.process_time(), time.perf_counter()
    first = None
    for batch in batches:
      first = batch['frames'][0] if first is None else first
    return time.process_time() - cpu, time.perf_counter() - wall, first.numpy()

  return loop


def _timed(load: Callable[[int], list[np.ndarray]], count: int) -> Loop:
  def loop() -> tuple[float, float, np.ndarray]:
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(count):
      load(number)
    return time.process_time() - cpu, time.perf_counter() - wall, np.stack(load(0))

  return loop


_LOOPS: dict[str, Callable[[Work], Loop]] = {
  'ours_planes': lambda work: _ours(work, planes=True),
  'ours': lambda work: _ours(work, planes=False),
  'bare': _bare,
  'peer_pyav': lambda work: _peer(work, 'pyav'),
  'peer_decord': lambda work: _peer(work, 'decord'),
}

# What the loops need that may not be installed.
_NEEDED = {'peer_pyav': ('torch',), 'peer_decord': ('torch', 'decord')}


def measure(work: Work, repeats: int) -> list[dict[str, Any]]:
  """Measures all loops in turn.

  Returns:
    For each loop the fields of its line; with a 'skipped' where it cannot run here.

  Raises:
    RuntimeError: if the loops did not read the same frames.
  """
  core = max(os.sched_getaffinity(0))
  children, results = {}, {}
  for name in _LOOPS:
    missing = [p for p in _NEEDED.get(name, ()) if importlib.util.find_spec(p) is None]
    if missing:
      results[name] = {'skipped': f'{missing[0]} is not installed'}
    else:
      children[name] = turns.Child(_settled, name, work, core)
  times: dict[str, list[tuple[float, float]]] = {name: [] for name in children}
  frames = {}
  try:
    for repeat in range(-1, repeats):
      for name, child in children.items():
        cpu, wall, frames[name] = child.turn()
        if repeat >= 0:  # The one before warms up caches.
          times[name].append((1e3 * cpu / len(work.shots), 1e3 * wall / len(work.shots)))
  finally:
    for child in children.values():
      child.end()
  for name in ('ours_planes', 'ours'):
    if not np.array_equal(frames[name], frames['bare']):
      raise RuntimeError(f'the loops {name} and bare did not read the same frames')
  for name, taken in times.items():
    cpu, wall = (statistics.median(column) for column in zip(*taken, strict=True))
    difference = np.abs(frames[name].astype(int) - frames['bare']).mean()
    results[name] = {
      'clips_per_second_per_core': round(1e3 / cpu, 2),
      'ms_per_clip': round(cpu, 3),
      'ms_per_clip_each': [round(cpu, 3) for cpu, _ in taken],
      'wall_ms_per_clip': round(wall, 3),
      'difference_from_bare': round(float(difference), 3),
    }
  settings = {
    'T': work.view.num_frames,
    'size': work.view.size,
    'clips': len(work.shots),
    'repeats': repeats,
    'measured': f'CPU time of one process on core {core} alone, median of the repeats, in turn',
  }
  machine = lines.machine()
  return [{'name': name, **results[name], **settings, **machine} for name in _LOOPS]


def compare(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """The fields of the comparisons' lines, from those of the measurements."""
  time_of = {line['name']: line['ms_per_clip'] for line in measured if 'ms_per_clip' in line}
  found = []
  for name, above, below, bound, wanted in _COMPARISONS:
    if above in time_of and below in time_of:
      ratio = round(time_of[above] / time_of[below], 3)
      met = ratio >= wanted if bound == 'least' else ratio <= wanted
      found.append({'name': name, 'ratio': ratio, f'at_{bound}': wanted, 'met': met})
  return found


def _settled(name: str, work: Work, core: int) -> Loop:
  """A loop, on its core."""
  _settle(core)
  return _LOOPS[name](work)


def _settle(core: int) -> None:
  """Puts this process on one core, with memory kept as in the trainer."""
  os.sched_setaffinity(0, {core})
  keep_freed_memory()
  cv2.setNumThreads(0)


def _soak(work: Work, count: int) -> None:
  """Reads `count` clips, and prints the resident memory on the way."""
  keep_freed_memory()
  loader = ClipLoader(_subset(work, planes=True), work.view)
  batches = training_batches(loader, _BATCH, _SEED, 0, 0)
  total = -(-count // _BATCH)
  resident = {}
  for number in range(total):
    next(batches)
    for share in range(0, 101, 10):
      if number + 1 == max(_WARM_UP, total * share // 100):
        resident[f'{share} %'] = _resident_megabytes()
  batches.close()
  lines.show(
    name='soak',
    clips=total * _BATCH,
    resident_megabytes=resident,
    growth_megabytes=round(resident['100 %'] - resident['10 %'], 1),
    T=work.view.num_frames,
    size=work.view.size,
    **lines.machine(),
  )


def _resident_megabytes() -> float:
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return round(pages * os.sysconf('SC_PAGE_SIZE') / 1e6, 1)
