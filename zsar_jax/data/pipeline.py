"""The input pipeline: records to batches of uint8 clips, decoded and resized on the host.

Batch k is a function of the seed and k alone, so the iterator needs no state of its own: a
run that resumes at step k starts the pipeline there, whatever the number of worker processes
or hosts. Of each global batch a host reads its part alone, clips that follow each other.
"""

import dataclasses
import functools
import signal
import zlib

import grain
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from zsar_jax.data import records
from zsar_jax.data.batch import PARTNER, Batch
from zsar_jax.data.frame_table import ClipFrames
from zsar_jax.data.geometry import (
  centre_crop,
  random_crop,
  random_square,
  resize_frame,
  resize_plane,
)
from zsar_jax.data.sampling import nearest_annotated, segment_indices
from zsar_jax.data.shared_memory import SharedBatches
from zsar_jax.data.subset import Subset
from zsar_jax.data.watchdog import DEFAULT_POLICY, WatchedBatches, WorkerPolicy, take_name
from zsar_jax.data.workers import start_worker
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import shapes_from_boxes

# Iterates over batches, and has a `close`.
BatchIterator = WatchedBatches

# Arrays of a batch that have fewer bytes do not travel in shared memory.
_SHARED_BYTES = 1 << 12

# So many clips in a row are tried where one does not decode.
_REPLACEMENTS = 16

# What `Views.crops` may be.
CROPS = (1, 3)


@dataclasses.dataclass(frozen=True)
class View:
  """How a clip becomes T frames of S x S pixels; the fields of `config.view`.

  Attributes:
    num_frames: T.
    size: S, in pixels.
    interpolation: 'bilinear' or 'bicubic', for frames; planes always take the nearest pixel.
    crop_scale: in training, the smallest and largest share of the frame's area that is kept.
    crop_ratio: in training, the smallest and largest width / height of the crop.
    crop_side: in training, the smallest and largest side of a square crop, as a share of the
      frame's short side; (0, 0) crops as `crop_scale` and `crop_ratio` say.
    resize: in evaluation, 'shortest' cuts a square out of a frame; 'squash' makes one of the whole
      frame, whatever its shape.
    centre_crop: in evaluation, the side of the central crop, as a share of the short side, or of
      each side of what is squashed.
    unannotated: what becomes of a frame that nobody annotated: it takes the planes of the
      'nearest' annotated frame, is left unmasked ('leave'), or its clip is left out ('drop').
  """

  num_frames: int = 8
  size: int = 224
  interpolation: str = 'bilinear'
  crop_scale: tuple[float, float] = (0.4, 1.0)
  crop_ratio: tuple[float, float] = (0.75, 4 / 3)
  crop_side: tuple[float, float] = (0.0, 0.0)
  resize: str = 'shortest'
  centre_crop: float = 224 / 256
  unannotated: str = 'nearest'

  @classmethod
  def from_config(cls, config: ConfigDict) -> 'View':
    """The view of `config.view`."""
    return cls(**config.view)


@dataclasses.dataclass(frozen=True)
class Views:
  """The views that an evaluation takes of each clip; nothing about them is random.

  Attributes:
    clips: views in time. View j of V takes from each segment the frame at (j + 0.5) / V of its
      length: of one view, the center.
    crops: 1 for the central square; 3 for those at the start, in the middle and at the end of
      the frame's long side.
  """

  clips: int = 1
  crops: int = 1

  def __len__(self) -> int:
    return self.clips * self.crops

  def places(self, number: int) -> tuple[float, float]:
    """Of a view: the place in each segment and the place on the long side, both in [0, 1]."""
    moment, crop = divmod(number, self.crops)
    return (moment + 0.5) / self.clips, crop / 2 if self.crops == 3 else 0.5


@dataclasses.dataclass(frozen=True)
class ClipLoader:
  """Loads one clip of a subset; decodes only the frames that it samples.

  Attributes:
    subset: the clips.
    view: how they are sampled and resized.
  """

  subset: Subset
  view: View

  def training_clip(self, position: int, rng: np.random.Generator) -> Batch:
    """The clip at `position` with random frames and a random crop.

    One that does not decode is replaced by another, which `rng` chooses.

    Raises:
      UserError: where many in a row do not decode.
    """
    replaced = -1
    for _ in range(_REPLACEMENTS):
      try:
        clip = self._load(position, rng, int(rng.integers(2**32)))
        return clip | {'replaced': np.int32(replaced)}
      except UserError as error:
        failure = error
        replaced = position if replaced < 0 else replaced
        position = int(rng.integers(len(self.subset)))
    raise failure

  def damage(self, position: int) -> str:
    """What is wrong with a clip, in words; all its frames are decoded."""
    try:
      clip = self.subset.frames(position)
      for number in range(len(clip)):
        records.decode_frame(clip.frame(number))
        if clip.annotated[number]:
          records.decode_plane(clip.plane(number), *clip.size)
    except (UserError, OSError) as error:
      return str(error)
    return 'it could be read the second time'

  def evaluation_clip(self, position: int, moment: float = 0.5, place: float = 0.5) -> Batch:
    """One view of the clip at `position`; past the end, padding of weight 0.

    The seed comes from the clip's id, so that a clip is painted with the same colors in every
    view and in every evaluation that it is part of.

    Args:
      position: of the clip, in the subset.
      moment: which frame of each segment, see `segment_indices`.
      place: which square of each frame, see `centre_crop`.
    """
    if position < len(self.subset):
      name = self.subset.clip_id(position)
      return self._load(position, None, zlib.crc32(name.encode()), moment, place)
    shape = (self.view.num_frames, self.view.size, self.view.size)
    return {
      'frames': np.zeros((*shape, 3), np.uint8),
      'regions': np.zeros(shape, np.uint8),
      'annotated': np.zeros(shape[:1], bool),
      'label': np.int32(0),
      'seed': np.uint32(0),
      'clip': np.int32(-1),
      'weight': np.float32(0),
    }

  def _load(
    self,
    position: int,
    rng: np.random.Generator | None,
    seed: int,
    moment: float = 0.5,
    place: float = 0.5,
  ) -> Batch:
    try:
      clip = self.subset.frames(position)
      frames, regions, annotated = self._decode(clip, rng, moment, place)
    except (UserError, OSError) as error:
      raise UserError(
        f'{self.subset.dataset.name}, clip {self.subset.clip_id(position)}: {error}'
      ) from None
    return {
      'frames': frames,
      'regions': regions,
      'annotated': annotated,
      'label': np.int32(self.subset.labels[position]),
      'seed': np.uint32(seed),
      'clip': np.int32(position),
      'weight': np.float32(1),
    }

  def _decode(
    self, clip: ClipFrames, rng: np.random.Generator | None, moment: float, place: float
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """frames u8[T, S, S, 3], regions u8[T, S, S], annotated bool[T] of a clip."""
    view = self.view
    sampled = segment_indices(len(clip), view.num_frames, rng, moment)
    known = clip.annotated
    sources = sampled
    if view.unannotated == 'nearest' and 0 < np.count_nonzero(known) < len(known):
      sources = nearest_annotated(known, sampled)
    height, width = clip.size
    if rng is None:
      box = centre_crop(height, width, view.centre_crop, place, view.resize)
    elif view.crop_side[1]:
      box = random_square(rng, height, width, view.crop_side)
    else:
      box = random_crop(rng, height, width, view.crop_scale, view.crop_ratio)

    frames = np.empty((view.num_frames, view.size, view.size, 3), np.uint8)
    regions = np.zeros((view.num_frames, view.size, view.size), np.uint8)
    for t, index in enumerate(sampled):
      if t and index == sampled[t - 1]:
        frames[t] = frames[t - 1]
        continue
      frame = records.decode_frame(clip.frame(index))
      if frame.shape[:2] != (height, width):
        raise UserError(
          f'frame {index} has {frame.shape[1]} x {frame.shape[0]} pixels and its record says'
          f' {width} x {height}; build the data set again'
        )
      resize_frame(frame, box, view.size, view.interpolation, out=frames[t])
    for t, source in enumerate(sources):
      if t and source == sources[t - 1]:
        regions[t] = regions[t - 1]
      elif known[source]:
        plane = records.decode_plane(clip.plane(source), height, width)
        resize_plane(plane, box, view.size, out=regions[t])
    if self.subset.boxes_as_shapes:
      regions = shapes_from_boxes(regions, self.subset.boxes_as_shapes)
    return frames, regions, known[sources]


def training_batches(
  loader: ClipLoader,
  batch_size: int,
  seed: int,
  first_step: int,
  workers: int,
  share: tuple[int, int] = (0, 1),
  guard: WorkerPolicy = DEFAULT_POLICY,
) -> BatchIterator:
  """Endless training batches: every clip once in each epoch, in an order of its own.

  Args:
    loader: loads the clips.
    batch_size: clips in the global batch; this host's batches hold its share of them.
    seed: of the order, the frames, the crops and the clips' seeds.
    first_step: the number of batches that were consumed before.
    workers: processes that load clips; 0 loads in threads of this process.
    share: (i, n): of n equal parts of each batch, this host's is the i-th; see
      `sharding.process_batch_shard`.
    guard: what happens where workers fail.

  Returns:
    An iterator over batches, to be closed.
  """
  clips = (
    grain.MapDataset.range(len(loader.subset))
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(_TrainingClip(loader))
  )
  return _batches(clips[first_step * batch_size :], batch_size, workers, share, guard)


def evaluation_batches(
  loader: ClipLoader,
  batch_size: int,
  workers: int,
  views: Views = Views(),
  partners: np.ndarray | None = None,
  share: tuple[int, int] = (0, 1),
  guard: WorkerPolicy = DEFAULT_POLICY,
) -> BatchIterator:
  """Every view of every clip exactly once, in order; the last batch is filled up with weight 0.

  Args:
    loader: loads the clips.
    batch_size: views in the global batch.
    workers: processes that load clips; 0 loads in threads of this process.
    views: of each clip; they follow each other.
    partners: i32[N], the position of the clip that each meets; -1 is padding of its own.
    share: as for `training_batches`.
    guard: what happens where workers fail.

  Returns:
    An iterator over batches, to be closed.
  """
  count = len(loader.subset) * len(views)
  elements = grain.MapDataset.range(-(-count // batch_size) * batch_size)
  clips = elements.map(_EvaluationView(loader, views, partners))
  return _batches(clips, batch_size, workers, share, guard)


@dataclasses.dataclass(frozen=True)
class _TrainingClip(grain.transforms.RandomMap):
  loader: ClipLoader

  def random_map(self, element: int, rng: np.random.Generator) -> Batch:
    return self.loader.training_clip(element, rng)


@dataclasses.dataclass(frozen=True)
class _EvaluationView(grain.transforms.Map):
  loader: ClipLoader
  views: Views
  partners: np.ndarray | None

  def map(self, element: int) -> Batch:
    position, number = divmod(element, len(self.views))
    places = self.views.places(number)
    clip = self.loader.evaluation_clip(position, *places)
    if self.partners is None:
      return clip
    end = len(self.loader.subset)
    partner = self.partners[position] if position < end else -1
    other = self.loader.evaluation_clip(end if partner < 0 else int(partner), *places)
    return clip | {f'{PARTNER}{name}': other[name] for name in ('frames', 'regions', 'annotated')}


def _batches(
  clips: grain.MapDataset,
  batch_size: int,
  workers: int,
  share: tuple[int, int],
  guard: WorkerPolicy,
) -> BatchIterator:
  """This host's share of the global batches.

  Batching comes before the workers: each then makes whole batches, and their order does not
  depend on how many there are.
  """
  part, parts = share
  batches = clips.batch(batch_size // parts)[part::parts]

  def start(first: int, name: str) -> SharedBatches:
    rest = batches[first:]
    if not workers:
      read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
      return SharedBatches(iter(rest.to_iter_dataset(read)))
    # Grain's workers read absl flags, which only programs of absl's parse.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    # Inside a worker process one thread reads: the processes are the parallelizm.
    read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    begin = functools.partial(_start_worker, name)
    # Each array in shared memory takes two file handles of this process: small ones are sent.
    sent = grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
    read_alone = grain.experimental.WithOptionsIterDataset(rest.to_iter_dataset(read), sent)
    return SharedBatches(iter(read_alone.mp_prefetch(options, begin)))

  return WatchedBatches(start, workers, guard)


def _start_worker(name: str, worker: int, workers: int) -> None:
  del workers
  # The trainer decides when its workers end: after the step under way.
  start_worker(signal.SIG_IGN)
  take_name(name, worker)
