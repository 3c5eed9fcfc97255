"""The input pipeline: batches of uint8 clips, loaded on the host by threads or worker processes.

Batch k is a function of the seed and k alone, so the iterator needs no state of its own: a run
that resumes at step k starts the pipeline at batch k, with any number of worker processes or
hosts. Each host loads only its share of a global batch, a range of consecutive clips.
"""

import dataclasses
import functools
import signal

import grain
import numpy as np
from absl import flags

from zsar_jax.data.batch import BatchClip, as_partner
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.shared_memory import SharedBatches, pack_clips
from zsar_jax.data.shared_value import SharedValue
from zsar_jax.data.view import SINGLE_VIEW, EvaluationViews
from zsar_jax.data.watchdog import DEFAULT_POLICY, WatchedBatches, WorkerPolicy, set_worker_name
from zsar_jax.data.workers import initialize_worker

# An iterator over batches with a method `close`.
BatchIterator = WatchedBatches

# Batches with fewer bytes are sent through a pipe. In shared memory, each takes two file handles of
# this process.
_MIN_SHARED_BYTES = 1 << 12


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
  clips = (
    grain.MapDataset.range(len(loader.subset))
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(_TrainingClip(SharedValue(loader)))
  )
  return _batches(clips[first_step * batch_size :], batch_size, workers, share, policy)


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
  shared = SharedValue((loader, partner_loader, partners))
  clips = elements.map(_EvaluationClip(shared, views))
  return _batches(clips[first_batch * batch_size :], batch_size, workers, share, policy)


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
    loader, partner_loader, partners = self.shared.value
    position, view = divmod(element, len(self.views))
    offsets = self.views.offsets(view)
    clip = loader.evaluation_clip(position, *offsets)
    if partners is None:
      return clip
    end = len(loader.subset)
    partner_position = int(partners[position]) if position < end else -1
    # The loader returns a padding clip for positions past the end.
    partner = partner_loader.evaluation_clip(
      end if partner_position < 0 else partner_position, *offsets
    )
    return clip | as_partner(partner)


def _batches(
  clips: grain.MapDataset,
  batch_size: int,
  workers: int,
  share: tuple[int, int],
  policy: WorkerPolicy,
) -> BatchIterator:
  """Returns this host's share of the global batches.

  Clips are batched before they are distributed to the workers: each worker loads complete batches,
  and their order does not depend on the number of workers.
  """
  shard, num_shards = share
  size = batch_size // num_shards
  batches = clips.batch(size, batch_fn=pack_clips if workers else None)[shard::num_shards]

  def start(first: int, name: str) -> SharedBatches:
    remaining = batches[first:]
    if not workers:
      read_options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
      return _load_ahead(remaining.to_iter_dataset(read_options))
    # Grain's workers read absl flags, which are parsed only in programs that absl runs.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    # One thread per worker process, because the processes already run in parallel.
    read_options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    worker_options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    memory_options = grain.experimental.DatasetOptions(min_shm_size=_MIN_SHARED_BYTES)
    dataset = grain.experimental.WithOptionsIterDataset(
      remaining.to_iter_dataset(read_options), memory_options
    )
    initialize = functools.partial(_initialize_worker, name)
    return _load_ahead(dataset.mp_prefetch(worker_options, initialize))

  return WatchedBatches(start, workers, policy)


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
