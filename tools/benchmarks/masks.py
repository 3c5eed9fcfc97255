"""Making masks: everything but the network, per core, beside what scripts usually do.

The loops get the same videos, and the exact masks of the same 32 frames of each, as a network would
yield them:

    read     reads the frames that a data set would store, and decodes them
    finish   refines masks, checks the gates, encodes and writes them
    ours     both: what zsar make-masks does besides the network
    inpaint  fills the people by OpenCV's method of Telea, which --inpaint=telea adds
    peer     reads all frames with OpenCV, dilates masks and writes a PNG for each

The loops take turns on one core. The result is the CPU time of the process and all its threads, the
median over the repeats. All files are in the disk's cache.

With --person=MODEL, the whole of zsar make-masks --person is measured instead, beside its network
alone on the same frames in memory: their ratio tells whether the device waits for the rest.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from zsar_jax.data import records
from zsar_jax.datasets.masks.made_files import clip_path
from zsar_jax.datasets.video import Storage
from zsar_jax.errors import UserError
from zsar_jax.mask_making.inpainting import open_inpainter
from zsar_jax.mask_making.maker import FrameMask, MakerClip
from zsar_jax.mask_making.making import Making, finish_clip
from zsar_jax.mask_making.making_runners import run_on_device
from zsar_jax.mask_making.person import PersonSpec
from zsar_jax.mask_making.refinement import Refinement
from zsar_jax.mask_making.work import ClipWork, group_works, load_clip
from zsar_jax.recipes.regions import PERSON

from . import clips, lines


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  for flag, default, text in (
    ('videos', 4, 'videos to make'),
    ('length', clips.NUM_FRAMES, 'frames of each video'),
    ('frames', 32, 'frames of each video that get masks'),
    ('repeats', 5, 'of each loop'),
  ):
    parser.add_argument(f'--{flag}', type=int, default=default, help=f'{text} (default: {default})')
  parser.add_argument(
    '--person',
    metavar='MODEL',
    help='measure the whole program with this model, see zsar make-masks',
  )
  parser.add_argument(
    '--workers', type=int, metavar='N', help='with --person: worker processes (default: all cores)'
  )


def run(arguments: argparse.Namespace) -> None:
  """Makes clips in a temporary folder, measures and prints the lines."""
  for flag in ('videos', 'length', 'frames', 'repeats'):
    if getattr(arguments, flag) < 1:
      raise UserError(f'--{flag}: {getattr(arguments, flag)} is too small; at least 1')
  with tempfile.TemporaryDirectory() as folder:
    work = make_work(
      pathlib.Path(folder), arguments.videos, arguments.length, f'segments:{arguments.frames}'
    )
    if arguments.person:
      workers = os.cpu_count() or 1 if arguments.workers is None else arguments.workers
      measured = measure_person(work, arguments.repeats, PersonSpec(arguments.person), workers)
    else:
      measured = measure(work, arguments.repeats)
  for line in measured:
    lines.show(**line)


@dataclasses.dataclass(frozen=True)
class Work:
  """The videos and their masks.

  Attributes:
    folder: of the videos, with the masks that `clips` makes.
    out: receives the masks that the loops write.
    ids: the names of the videos.
    making: the settings of zsar make-masks; its spec is not used.
    read: the videos, read.
    masks: bool[K, H, W] for each of them, the person in its kept frames.
  """

  folder: pathlib.Path
  out: pathlib.Path
  ids: list[str]
  making: Making
  read: dict[str, MakerClip]
  masks: dict[str, np.ndarray]


def make_work(folder: pathlib.Path, videos: int, length: int, keep: str) -> Work:
  """Makes the videos, reads them and their masks."""
  ids = [f'clip{number}' for number in range(videos)]
  for number, clip_id in enumerate(ids):
    clips.make_clip(folder, clip_id, number, num_frames=length)
  out = folder / 'masks'
  spec: Any = None
  making = Making(out, ('person',), '', spec, Storage(keep=keep), Refinement())
  read = {clip_id: _read(folder, clip_id, making.storage) for clip_id in ids}
  masks = {
    clip_id: np.array(
      [clips.read_mask(folder, clip_id, 'person', number) for number in clip.facts.kept]
    )
    for clip_id, clip in read.items()
  }
  return Work(folder, out, ids, making, read, masks)


def measure(work: Work, repeats: int) -> list[dict[str, Any]]:
  """Measures all loops in turn and returns the fields of their lines."""
  inpainter = open_inpainter('telea', work.making.storage.jpeg_quality)

  jpegs: list[int] = []

  def inpaint(clip_id: str) -> None:
    clip = work.read[clip_id]
    planes = [records.encode_plane(mask.plane) for mask in _masks(work, clip_id)]
    jpegs.extend(len(jpeg) for jpeg in inpainter.inpaint(clip, planes))

  def ours(clip_id: str) -> None:
    clip = _read(work.folder, clip_id, work.making.storage)
    finish_clip(work.making, clip, _masks(work, clip_id))

  loops: dict[str, Callable[[str], Any]] = {
    'read': lambda clip_id: _read(work.folder, clip_id, work.making.storage),
    'finish': lambda clip_id: finish_clip(work.making, work.read[clip_id], _masks(work, clip_id)),
    'ours': ours,
    'inpaint': inpaint,
    'peer': lambda clip_id: _peer(work, clip_id),
  }
  core = max(os.sched_getaffinity(0))
  affinity, threads = os.sched_getaffinity(0), cv2.getNumThreads()
  os.sched_setaffinity(0, {core})
  cv2.setNumThreads(0)
  times: dict[str, list[float]] = {name: [] for name in loops}
  try:
    for repeat in range(-1, repeats):
      for name, loop in loops.items():
        start = time.process_time()
        for clip_id in work.ids:
          loop(clip_id)
        if repeat >= 0:  # The repeat before warms up the caches.
          times[name].append((time.process_time() - start) / len(work.ids))
  finally:
    os.sched_setaffinity(0, affinity)
    cv2.setNumThreads(threads)
  frames = sum(map(len, work.masks.values())) / len(work.ids)
  seconds = {name: statistics.median(values) for name, values in times.items()}
  settings = {
    'frames': frames,
    'clips': len(work.ids),
    'repeats': repeats,
    'measured': f'CPU time of one process on core {core} alone, median of the repeats, in turn',
  }
  measured = [
    {
      'name': name,
      'clips_per_second_per_core': round(1 / value, 2),
      'ms_per_clip': round(1e3 * value, 2),
      'ms_per_mask': round(1e3 * value / frames, 3),
      **settings,
      **lines.machine(),
    }
    for name, value in seconds.items()
  ]
  files = [clip_path(work.out, clip_id).stat().st_size for clip_id in work.ids]
  by_name = {line['name']: line for line in measured}
  by_name['ours']['bytes_per_mask'] = round(sum(files) / len(files) / frames)
  by_name['inpaint']['bytes_per_frame'] = round(statistics.mean(jpegs))
  ratio = round(seconds['peer'] / seconds['ours'], 2)
  return [*measured, {'name': 'clips per second of ours / peer', 'ratio': ratio}]


def measure_person(
  work: Work, repeats: int, spec: PersonSpec, workers: int
) -> list[dict[str, Any]]:
  """Measures zsar make-masks --person and its network alone; returns the fields of their lines."""
  maker = spec.open()
  works = [ClipWork(clip_id, str(clips.video_path(work.folder, clip_id))) for clip_id in work.ids]
  storage = work.making.storage
  groups = group_works(works, spec.batch_frames, storage)
  frames = sum(map(len, work.masks.values()))

  def network(repeat: int) -> None:
    for group in groups:
      for _ in maker.make([work.read[clip.name] for clip in group]):
        pass

  def program(repeat: int) -> None:
    making = dataclasses.replace(work.making, root=work.out / f'program{repeat}', spec=spec)
    for outcomes in run_on_device(groups, making, maker, workers):
      assert not any(outcome.failure for outcome in outcomes)

  seconds: dict[str, list[float]] = {'network': [], 'program': []}
  for repeat in range(-1, repeats):
    for name, loop in (('network', network), ('program', program)):
      start = time.perf_counter()
      loop(repeat)
      if repeat >= 0:  # The repeat before warms up the caches.
        seconds[name].append(time.perf_counter() - start)
  medians = {name: statistics.median(values) for name, values in seconds.items()}
  settings = {
    'model': maker.provenance['model'],
    'notes': maker.provenance['notes'],
    'workers': workers,
    'clips': len(works),
    'frames': frames,
    'repeats': repeats,
    'measured': 'wall time, median of the repeats, in turn; the program starts its workers in it',
  }
  rates = [
    {'name': name, 'frames_per_second': round(frames / value, 2), **settings, **lines.machine()}
    for name, value in medians.items()
  ]
  ratio = round(medians['network'] / medians['program'], 3)
  return [*rates, {'name': 'frames per second of the program / its network', 'ratio': ratio}]


def _read(folder: pathlib.Path, clip_id: str, storage: Storage) -> MakerClip:
  clip = load_clip(ClipWork(clip_id, str(clips.video_path(folder, clip_id))), storage)
  for index in range(len(clip.frames)):
    assert clip.frames[index].size
  return clip


def _masks(work: Work, clip_id: str) -> Iterator[FrameMask]:
  for mask in work.masks[clip_id]:
    yield FrameMask(mask * np.uint8(PERSON), people=1, score=0.9)


def _peer(work: Work, clip_id: str) -> None:
  """Reads a video and writes its masks as scripts around segmenters usually do."""
  capture = cv2.VideoCapture(str(clips.video_path(work.folder, clip_id)))
  kept = work.read[clip_id].facts.kept.tolist()
  kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
  folder = work.out / 'peer' / clip_id
  folder.mkdir(parents=True, exist_ok=True)
  number, written = 0, 0
  while True:
    more, _ = capture.read()
    if not more:
      break
    if number in kept:
      mask = work.masks[clip_id][written].astype(np.uint8) * 255
      cv2.imwrite(str(folder / f'{number:05d}.png'), cv2.dilate(mask, kernel))
      written += 1
    number += 1
  capture.release()
  assert written == len(kept), f'{clip_id}: OpenCV reads {number} frames'
