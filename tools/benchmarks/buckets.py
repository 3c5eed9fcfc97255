"""Data in a bucket: clips per second, opening and resuming, beside the same data on a disk.

The bucket is a server of S3 in a process of its own, which answers after a given time and can
refuse requests. Each measurement runs in a process of its own.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.shard_cache import CacheSettings
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.recipes.regions import PERSON
from zsar_jax.runtime import distributed

from .bucket_server import Faults, SlowBucket
from .lines import machine, show

_CLASSES = ('a', 'b', 'c', 'd', 'e')
_BATCH = 64
# A step in the middle of a long training.
_RESUMED_STEP = 3_000_000


@dataclasses.dataclass(frozen=True)
class _Task:
  """A clip of frames of noise; clips with the same `label` have the same pixels."""

  id: str
  label: int
  frames: int
  height: int
  width: int


def _encode(task: _Task) -> records.EncodedClip:
  size = task.height, task.width
  rng = np.random.default_rng(task.label)
  frame = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
  plane = np.zeros(size, np.uint8)
  plane[size[0] // 4 : size[0] // 2, size[1] // 3 : size[1] // 2] = PERSON
  jpegs = list(records.encode_frames([frame], 60)) * task.frames
  return records.encode_clip(task.id, task.label, jpegs, [plane] * task.frames, size, 25.0)


class _Clips(ClipBuilder, skip_registration=True):  # type: ignore[call-arg]  # As in builder.
  """Builds the clips."""

  name = 'clips'
  VERSION = tfds.core.Version('1.0.0')
  classes = _CLASSES
  class_splits: Mapping[str, tuple[str, ...]] = {}
  region_names = ('person',)
  encode = staticmethod(_encode)

  def __init__(self, folder: pathlib.Path, count: int, frames: int, size: tuple[int, int]):
    self.parameters = {'count': count, 'frames': frames, 'size': size}
    self._options = count, frames, size
    super().__init__(folder)

  def tasks(self) -> dict[str, list[_Task]]:
    """Returns one task for each clip."""
    count, frames, size = self._options
    return {'train': [_Task(f'{n}', n % len(_CLASSES), frames, *size) for n in range(count)]}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  parser.add_argument('--clips', type=int, default=20_000, help='clips of the data set')
  parser.add_argument('--frames', type=int, default=5, help='frames of each clip')
  parser.add_argument('--height', type=int, default=20, help='of the frames, in pixels')
  parser.add_argument('--width', type=int, default=30, help='of the frames, in pixels')
  parser.add_argument('--sampled', type=int, default=3, help='frames that are read of a clip')
  parser.add_argument('--latency', type=float, default=0.03, help='seconds of each request')
  parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='worker processes')
  parser.add_argument('--batches', type=int, default=150, help=f'batches of {_BATCH} to measure')
  parser.add_argument('--hosts', type=int, default=64, help='hosts that open the data at once')


def run(arguments: argparse.Namespace) -> None:
  """Measures and prints the lines."""
  with tempfile.TemporaryDirectory(prefix='zsar_jax-') as folder:
    root = pathlib.Path(folder)
    local = root / 'served' / 'bucket' / 'data'
    size = arguments.height, arguments.width
    build(_Clips(local, arguments.clips, arguments.frames, size), workers=0)
    show(
      **machine(), **{key: value for key, value in vars(arguments).items() if key != 'benchmark'}
    )
    rates = {}
    for workers in arguments.workers:
      for name in ('disk', 'bucket', 'cache'):
        cache = str(root / f'cache{workers}') if name == 'cache' else ''
        data = os.fspath(local) if name == 'disk' else 's3://bucket/data'
        measure = (_measure, data, workers, arguments, cache)
        line = _serve(root / 'served', Faults(latency=arguments.latency), *measure)
        show(name=name, workers=workers, **line)
        rates[name, workers] = line['clips_per_second']
    for workers in arguments.workers:
      ratio = rates['disk', workers] / rates['bucket', workers]
      show(
        name='clips per second of disk / bucket',
        workers=workers,
        ratio=round(ratio, 2),
        at_most=3.0,
        met=ratio <= 3,
      )
    for rate in (0, 1000):
      faults = Faults(latency=arguments.latency, rate=rate)
      line = _serve(root / 'served', faults, _open_on_hosts, arguments.hosts)
      show(name='hosts', hosts=arguments.hosts, requests_per_second=rate or None, **line)


def _serve(
  root: pathlib.Path, faults: Faults, function: Callable[..., dict[str, Any]], *arguments: Any
) -> dict[str, Any]:
  """Calls a function in a process of its own, beside a server; returns its result and counts."""
  with SlowBucket(root, faults) as server:
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(server.url, sender, function, arguments))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    counts = server.counts()
  return result | {name: counts[name] for name in ('requests', 'bytes', 'faults')}


def _call(
  url: str, sender: Any, function: Callable[..., dict[str, Any]], arguments: Sequence[Any]
) -> None:
  os.environ |= {
    'AWS_ACCESS_KEY_ID': 'test',
    'AWS_SECRET_ACCESS_KEY': 'test',
    'AWS_DEFAULT_REGION': 'us-east-1',
    'AWS_ENDPOINT_URL': url,
  }
  sender.send(json.loads(json.dumps(function(*arguments))))


def _measure(data: str, workers: int, arguments: argparse.Namespace, cache: str) -> dict[str, Any]:
  """Measures one way to read; with a cache, after all clips were read once."""
  settings = CacheSettings(pathlib.Path(cache), 2**40) if cache else None
  began = time.perf_counter()
  dataset = open_dataset(data, 'clips', 'train', settings)
  opened = time.perf_counter() - began
  view = View(num_frames=arguments.sampled, size=min(224, arguments.height))
  loader = ClipLoader(select(dataset, 'all', 'nearest', 'clips'), view)
  warm_up = -(-arguments.clips // _BATCH) if cache else 20

  began = time.perf_counter()
  batches = training_batches(loader, _BATCH, 0, 0, workers)
  next(batches)
  started = time.perf_counter() - began
  for _ in range(warm_up):
    next(batches)
  began, cpu = time.perf_counter(), _cpu_seconds()
  for _ in range(arguments.batches):
    next(batches)
  seconds, cpu = time.perf_counter() - began, _cpu_seconds() - cpu
  batches.close()

  began = time.perf_counter()
  batches = training_batches(loader, _BATCH, 0, _RESUMED_STEP, workers)
  next(batches)
  resumed = time.perf_counter() - began
  batches.close()
  clips = arguments.batches * _BATCH
  return {
    'open_seconds': round(opened, 2),
    'first_batch_seconds': round(started, 2),
    'resume_seconds': round(resumed, 2),
    'clips_per_second': round(clips / seconds, 1),
    'cpu_ms_per_clip_in_main': round(1e3 * cpu / clips, 3),
  }


def _cpu_seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def _open_on_hosts(hosts: int) -> dict[str, Any]:
  """Opens the data as many hosts at once: threads, of which one is that of process 0."""
  # Each host asks whether it is process 0.
  distributed.is_main = lambda: threading.current_thread().name.endswith('_0')
  barrier = threading.Barrier(hosts)

  def open_once(_: int) -> float:
    barrier.wait()
    began = time.perf_counter()
    open_dataset('s3://bucket/data', 'clips', 'train')
    return time.perf_counter() - began

  with ThreadPoolExecutor(hosts, 'host') as pool:
    seconds = sorted(pool.map(open_once, range(hosts)))
  return {'median_seconds': round(seconds[hosts // 2], 2), 'last_seconds': round(seconds[-1], 2)}
