"""The input pipeline: batches of uint8 clips, loaded on the host by threads or worker processes.

Batch k is a function of the seed and k alone, so the iterator needs no state of its own: a run
that resumes at step k starts the pipeline at batch k, with any number of worker processes or
hosts. Each host loads only its share of a global batch, a range of consecutive clips.
"""

import concurrent.futures
import copy
import dataclasses
import functools
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION
from typing import Any

import grain
import numpy as np
from absl import flags

from zsar_jax.data.batch import BatchClip, as_partner
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.reading import Reading, finish, finish_together
from zsar_jax.data.shared_memory import SharedBatches, pack_clips
from zsar_jax.data.shared_value import SharedValue
from zsar_jax.data.view import SINGLE_VIEW, EvaluationViews
from zsar_jax.data.watchdog import DEFAULT_POLICY, WatchedBatches, WorkerPolicy, set_worker_name
from zsar_jax.data.workers import initialize_worker
from zsar_jax.runtime.daemon_threads import DaemonThreads
from zsar_jax.storage import bucket_requests

# An iterator over batches with a method `close`.
BatchIterator = WatchedBatches

# Batches with fewer bytes are sent through a pipe. In shared memory, each takes two file handles of
# this process.
_MIN_SHARED_BYTES = 1 << 12

# The number of clips after which training batches end. Grain counts batches in floats, and the
# count of batches of a single clip, as each of many hosts may load, must fit into 63 bits.
_ENDLESS = 1 << 62

# A process loads at least so many batches, and so many clips, from a bucket at once.
_BATCHES_AT_ONCE = 3
_CLIPS_AT_ONCE = 64

# The clips that a thread loads from a bucket together.
_CLIPS_TOGETHER = 32

# A clip and its partner wait for their tables, rows and frames, one after another.
_WAITS_FOR_BUCKET = 6

# How often a batch whose clips arrive slowly looks whether it is still wanted.
_CLOSING_SECONDS = 0.5


def training_batches(
  loader: ClipLoader,
  batch_size: int,
  seed: int,
  first_step: int,
  workers: int,
  share: tuple[int, int] = (0, 1),
  policy: WorkerPolicy = DEFAULT_POLICY,
) -> BatchIterator:
  """Returns endless training batches with every clip once per epoch, reshuffled for each epoch.

  Args:
    loader: loads the clips.
    batch_size: the number of clips in the global batch, of which this host loads its share.
    seed: determines the order, the frames, the crops and the clips' seeds.
    first_step: the index of the first batch to return; earlier batches are skipped.
    workers: the number of processes that load clips; 0 loads in threads of this process.
    share: (i, n): this host loads the i-th of n equal parts of each batch; see
      `sharding.process_batch_shard`.
    policy: what to do when workers fail.

  Returns:
    An iterator over batches; the caller closes it.
  """
  load = (_TrainingReading if _is_remote(loader) else _TrainingClip)(SharedValue(loader))
  clips = grain.MapDataset.range(len(loader.subset)).seed(seed).shuffle().repeat().random_map(load)
  remaining = clips[first_step * batch_size : _ENDLESS]
  return _batches(remaining, batch_size, workers, share, policy, loader)


def evaluation_batches(
  loader: ClipLoader,
  batch_size: int,
  workers: int,
  views: EvaluationViews = SINGLE_VIEW,
  partners: np.ndarray | None = None,
  share: tuple[int, int] = (0, 1),
  policy: WorkerPolicy = DEFAULT_POLICY,
  partners_inpainted: bool = False,
  first_batch: int = 0,
) -> BatchIterator:
  """Returns batches with every view of every clip once, in order, padded to full batches.

  Args:
    loader: loads the clips.
    batch_size: the number of views in the global batch.
    workers: the number of processes that load clips; 0 loads in threads of this process.
    views: the views of each clip; the views of a clip are consecutive.
    partners: i32[N], the position of each clip's partner; -1 adds a padding clip as its partner.
    share: see `training_batches`.
    policy: what to do when workers fail.
    partners_inpainted: whether to load the partners' inpainted frames.
    first_batch: the index of the first batch to return; earlier batches are skipped.

  Returns:
    An iterator over batches; the caller closes it.
  """
  count = len(loader.subset) * len(views)
  elements = grain.MapDataset.range(-(-count // batch_size) * batch_size)
  partner_loader = dataclasses.replace(loader, inpainted=partners_inpainted)
  load = _EvaluationClip(SharedValue((loader, partner_loader, partners)), views)
  clips = elements.map(_EvaluationReading(load) if _is_remote(loader) else load)
  return _batches(clips[first_batch * batch_size :], batch_size, workers, share, policy, loader)


@dataclasses.dataclass(frozen=True)
class _TrainingClip(grain.transforms.RandomMap):
  loader: SharedValue[ClipLoader]

  def random_map(self, element: int, rng: np.random.Generator) -> BatchClip:
    return self.loader.value.training_clip(element, rng)


@dataclasses.dataclass(frozen=True)
class _EvaluationClip(grain.transforms.Map):
  # The loaders of clips and of their partners, and the partners' positions; see
  # `evaluation_batches`.
  shared: SharedValue[tuple[ClipLoader, ClipLoader, np.ndarray | None]]
  views: EvaluationViews

  def map(self, element: int) -> BatchClip:
    return finish(self.read(element))

  def read(self, element: int) -> Reading[BatchClip]:
    loader, partner_loader, partners = self.shared.value
    position, view = divmod(element, len(self.views))
    offsets = self.views.offsets(view)
    clip = yield from loader.read_evaluation_clip(position, *offsets)
    if partners is None:
      return clip
    end = len(loader.subset)
    partner_position = int(partners[position]) if position < end else -1
    # The loader returns a padding clip for positions past the end.
    partner = yield from partner_loader.read_evaluation_clip(
      end if partner_position < 0 else partner_position, *offsets
    )
    return clip | as_partner(partner)


# The readings of clips from a bucket are done together, batch by batch.


@dataclasses.dataclass(frozen=True)
class _TrainingReading(grain.transforms.RandomMap):
  loader: SharedValue[ClipLoader]

  def random_map(self, element: int, rng: np.random.Generator) -> Reading[BatchClip]:
    # Grain uses the generator again for another clip.
    return self.loader.value.read_training_clip(element, copy.deepcopy(rng))


@dataclasses.dataclass(frozen=True)
class _EvaluationReading(grain.transforms.Map):
  load: _EvaluationClip

  def map(self, element: int) -> Reading[BatchClip]:
    return self.load.read(element)


def _stack(clips: Sequence[BatchClip]) -> dict[str, np.ndarray]:
  """Returns the batch of some clips."""
  return {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}


@dataclasses.dataclass(frozen=True)
class _StackRead:
  """Makes a batch of the readings of its clips.

  Attributes:
    stack: makes the batch of loaded clips.
    closing: is set when nobody wants more batches; None in worker processes.
  """

  stack: Callable[[Sequence[BatchClip]], Any]
  closing: threading.Event | None

  def __call__(self, readings: Sequence[Reading[BatchClip]]) -> Any:
    groups = [
      _clip_threads.submit(finish_together, readings[first : first + _CLIPS_TOGETHER])
      for first in range(0, len(readings), _CLIPS_TOGETHER)
    ]
    while concurrent.futures.wait(groups, _CLOSING_SECONDS, FIRST_EXCEPTION).not_done:
      if self.closing and self.closing.is_set():
        # A program ends only when Grain's threads end, which call this.
        for group in groups:
          group.cancel()
        raise concurrent.futures.CancelledError
      for group in groups:
        if group.done() and (error := group.exception()):
          for other in groups:
            other.cancel()
          raise error
    return self.stack([clip for group in groups for clip in group.result()])


# The threads of this process that load clips from buckets.
_clip_threads = DaemonThreads(_CLIPS_AT_ONCE, 'clips')


def _is_remote(loader: ClipLoader) -> bool:
  """Returns whether the clips are in a bucket."""
  return loader.subset.dataset.files.remote is not None


def _batches(
  clips: grain.MapDataset,
  batch_size: int,
  workers: int,
  share: tuple[int, int],
  policy: WorkerPolicy,
  loader: ClipLoader,
) -> BatchIterator:
  """Returns this host's share of the global batches.

  Clips are batched before they are distributed to the workers: each worker loads complete batches,
  and their order does not depend on the number of workers.
  """
  shard, num_shards = share
  size = batch_size // num_shards
  stack = pack_clips if workers else None
  # The batches that a process loads at once.
  threads = 1 if workers else 2
  closing = None if workers else threading.Event()
  if _is_remote(loader):
    stack = _StackRead(stack or _stack, closing)
    threads = max(_BATCHES_AT_ONCE, -(-_CLIPS_AT_ONCE // size))
    # A worker that waits for a slow bucket does not hang; it ends itself if a request fails.
    patience = max(policy.patience, _WAITS_FOR_BUCKET * bucket_requests.RETRY_SECONDS)
    policy = dataclasses.replace(policy, patience=patience)
  batches = clips.batch(size, batch_fn=stack)[shard::num_shards]

  def start(first: int, name: str) -> SharedBatches:
    remaining = batches[first:]
    if not workers:
      read_options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(4, threads))
      return _load_ahead(remaining.to_iter_dataset(read_options))
    # Grain's workers read absl flags, which are parsed only in programs that absl runs.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    # One thread per worker process suffices on a disk, because the processes already run in
    # parallel.
    read_options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
    worker_options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    memory_options = grain.experimental.DatasetOptions(min_shm_size=_MIN_SHARED_BYTES)
    dataset = grain.experimental.WithOptionsIterDataset(
      remaining.to_iter_dataset(read_options), memory_options
    )
    initialize = functools.partial(_initialize_worker, name)
    return _load_ahead(dataset.mp_prefetch(worker_options, initialize))

  return WatchedBatches(start, workers, policy, closing)


def _load_ahead(dataset: grain.IterDataset) -> SharedBatches:
  """Returns an iterator that loads batches before the first one is asked for."""
  iterator = iter(dataset)
  # Grain makes the iterators of its workers with the first batch, or when it is asked for its
  # state; `start_prefetch` starts those that are there.
  iterator.get_state()
  # Threads and processes inherit which signals are blocked. So a Ctrl-C, which reaches all
  # processes of a terminal, does not end workers with a traceback while they import packages.
  blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    iterator.start_prefetch()
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
  return SharedBatches(iterator)


def _initialize_worker(name: str, worker: int, workers: int) -> None:
  del workers
  # Workers ignore SIGINT: the trainer ends them itself after the current step.
  initialize_worker(signal.SIG_IGN)
  set_worker_name(name, worker)
