"""The loops that the pipeline benchmark compares, and the clips that all of them read.

All loops read the same clips, the same frames of them and the same crops.
"""

import contextlib
import dataclasses
import os
import pathlib
import sys
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
from zsar_jax.runtime.host_memory import keep_freed_memory

from . import clips

# Small, so that work in progress when the clock starts and stops matters little.
BATCH = 4
SEED = 0

# Batches before the clock starts; grain's threads then work on later batches, as when it stops.
WARM_UP = 2

# The list of clips is repeated to this length, that of a real one: to shuffle a handful of clips
# takes grain milliseconds per clip.
_LIST_LENGTH = 20_000


@dataclasses.dataclass(frozen=True)
class Sample:
  """The frames of a clip that are read, at `indices`, and the `box` that they are cut to."""

  clip_id: str
  indices: tuple[int, ...]
  box: Box


@dataclasses.dataclass(frozen=True)
class Work:
  """The work of every loop.

  Attributes:
    folder: has the clips in `clips`, and data sets in `with` and `without` (region planes).
    view: how the clips are sampled and resized.
    samples: the contents of the measured batches, in order.
  """

  folder: pathlib.Path
  view: View
  samples: tuple[Sample, ...] = ()


# Reads all samples; returns CPU seconds, seconds, and the first clip's frames u8[T, S, S, 3].
Loop = Callable[[], tuple[float, float, np.ndarray]]


def make_work(folder: pathlib.Path, videos: int, length: int, num_frames: int, size: int) -> Work:
  """Makes the clips, and the data sets with and without region planes."""
  (folder / 'clips').mkdir()
  for number in range(videos):
    clips.make_clip(folder / 'clips', f'clip{number}', number, length)
  for planes in (True, False):
    with contextlib.redirect_stdout(sys.stderr):
      clips.build_records(folder / 'clips', _data_dir(folder, planes), planes)
  return Work(folder, View(num_frames=num_frames, size=size))


def draw_samples(work: Work, count: int) -> tuple[Sample, ...]:
  """Returns the contents of the training batches after the warm-up: `count` clips, rounded up."""
  subset = _open_subset(work, planes=True)
  batches = training_batches(_SampleRecorder(subset, work.view), BATCH, SEED, WARM_UP, 0)
  samples = []
  for _ in range(-(-count // BATCH)):
    batch = next(batches)
    for clip, indices, box in zip(batch['clip'], batch['indices'], batch['box'], strict=True):
      samples.append(Sample(subset.clip_id(clip), tuple(indices.tolist()), Box(*box.tolist())))
  batches.close()
  return tuple(samples)


class _SampleRecorder(ClipLoader):
  """Draws the random numbers that a `ClipLoader` draws for a training clip; decodes nothing."""

  def training_clip(self, position: int, rng: np.random.Generator) -> dict[str, Any]:
    rng.integers(2**32)  # The clip's seed.
    clip = self.subset.frames(position)
    indices = segment_indices(len(clip), self.view.num_frames, rng)
    box = random_crop(rng, *clip.size, self.view.crop_scale, self.view.crop_ratio)
    return {'clip': position, 'indices': indices, 'box': np.array(dataclasses.astuple(box))}


def make_loop(name: str, work: Work, core: int) -> Loop:
  """Makes one of `LOOPS` in this process, which then runs on one core only."""
  os.sched_setaffinity(0, {core})
  keep_freed_memory()  # As in the trainer.
  cv2.setNumThreads(0)
  return LOOPS[name](work)


def open_loader(work: Work, planes: bool) -> ClipLoader:
  """Returns a loader of training clips."""
  return ClipLoader(_open_subset(work, planes), work.view)


def _data_dir(folder: pathlib.Path, planes: bool) -> pathlib.Path:
  return folder / ('with' if planes else 'without')


def _open_subset(work: Work, planes: bool) -> Subset:
  dataset = open_dataset(_data_dir(work.folder, planes), 'benchmark', 'train')
  subset = select(dataset, 'all', work.view.unannotated, 'benchmark')
  repeated = np.arange(_LIST_LENGTH) % len(subset)
  return dataclasses.replace(
    subset, positions=subset.positions[repeated], labels=subset.labels[repeated]
  )


def _ours(work: Work, planes: bool) -> Loop:
  loader = open_loader(work, planes)

  def loop() -> tuple[float, float, np.ndarray]:
    batches = training_batches(loader, BATCH, SEED, 0, 0)
    for _ in range(WARM_UP):
      next(batches)
    cpu, wall = time.process_time(), time.perf_counter()
    first = next(batches)['frames'][0]
    for _ in range(len(work.samples) // BATCH - 1):
      next(batches)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    batches.close()
    return cpu, wall, np.asarray(first)

  return loop


def _bare(work: Work) -> Loop:
  dataset = _open_subset(work, planes=False).dataset
  positions = {clip_id: position for position, clip_id in enumerate(dataset.index.ids)}
  jpegs = []
  for sample in work.samples:
    clip = dataset.frames(positions[sample.clip_id])
    jpegs.append([np.frombuffer(clip.frame(index), np.uint8) for index in sample.indices])

  def load(number: int) -> list[np.ndarray]:
    box = work.samples[number].box
    frames = []
    for jpeg in jpegs[number]:
      frame = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
      assert frame is not None
      frames.append(resize_frame(frame, box, work.view.size, work.view.interpolation))
    return frames

  def loop() -> tuple[float, float, np.ndarray]:
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(len(jpegs)):
      load(number)
    return time.process_time() - cpu, time.perf_counter() - wall, np.stack(load(0))

  return loop


def _peer(work: Work, reader: str) -> Loop:
  from . import torch_loader

  batches = torch_loader.batches(work.folder / 'clips', work.samples, work.view, reader, BATCH)

  def loop() -> tuple[float, float, np.ndarray]:
    cpu, wall = time.process_time(), time.perf_counter()
    first = None
    for batch in batches:
      first = batch['frames'][0] if first is None else first
    assert first is not None  # There are batches.
    return time.process_time() - cpu, time.perf_counter() - wall, first.numpy()

  return loop


LOOPS: dict[str, Callable[[Work], Loop]] = {
  'ours_planes': lambda work: _ours(work, planes=True),
  'ours': lambda work: _ours(work, planes=False),
  'bare': _bare,
  'peer_pyav': lambda work: _peer(work, 'pyav'),
  'peer_decord': lambda work: _peer(work, 'decord'),
}

# Packages that a loop needs and that may not be installed.
OPTIONAL_PACKAGES = {'peer_pyav': ('torch',), 'peer_decord': ('torch', 'decord')}
