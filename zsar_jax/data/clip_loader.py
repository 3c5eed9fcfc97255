"""Loads single clips: samples frames, decodes only those, crops and resizes them in uint8."""

import dataclasses
import zlib

import numpy as np

from zsar_jax.data import records
from zsar_jax.data.batch import BatchClip, padding_clip
from zsar_jax.data.frame_table import ClipFrames
from zsar_jax.data.geometry import (
  Box,
  center_crop,
  random_crop,
  random_square,
  resize_frame,
  resize_plane,
)
from zsar_jax.data.reading import Reading, finish
from zsar_jax.data.sampling import evaluation_indices, nearest_annotated, segment_indices
from zsar_jax.data.subset import Subset
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import shapes_from_boxes
from zsar_jax.storage.bucket_requests import UnreachableError

# The number of clips that `training_clip` tries before it raises the error of the last one.
_MAX_ATTEMPTS = 16


@dataclasses.dataclass(frozen=True)
class ClipLoader:
  """Loads the clips of a subset as entries of `zsar_jax.data.batch`, without the batch axis.

  Attributes:
    subset: the clips.
    view: determines how clips are sampled, cropped and resized.
    inpainted: whether to load the frames without their people, see `batch.INPAINTED_FIELDS`.
  """

  subset: Subset
  view: View
  inpainted: bool = dataclasses.field(default=False, kw_only=True)

  def training_clip(self, position: int, rng: np.random.Generator) -> BatchClip:
    """Returns the clip at `position` with random frames and a random crop.

    A random other clip replaces a clip that cannot be decoded, whose position is in 'replaced'.

    Raises:
      UserError: if `_MAX_ATTEMPTS` clips in a row cannot be decoded.
      UnreachableError: if a bucket cannot be read.
    """
    return finish(self.read_training_clip(position, rng))

  def read_training_clip(self, position: int, rng: np.random.Generator) -> Reading[BatchClip]:
    """The reading of `training_clip`, with the same result and errors."""
    replaced = -1
    for _ in range(_MAX_ATTEMPTS):
      seed = int(rng.integers(2**32))
      try:
        clip = yield from self._load(position, seed, rng)
        return clip | {'replaced': np.int32(replaced)}
      except UnreachableError:
        raise  # The clip is not damaged.
      except UserError as error:
        last_error = error
        replaced = position if replaced < 0 else replaced
        position = int(rng.integers(len(self.subset)))
    raise last_error

  def evaluation_clip(
    self, position: int, time_offset: float = 0.5, crop_offset: float = 0.5
  ) -> BatchClip:
    """Returns one view of the clip at `position`, or a clip of weight 0 if that is past the end.

    The seed is a checksum of the clip's id, so that a clip is painted with the same colors in
    every view and in every evaluation that includes it.

    Args:
      position: the position of the clip in the subset.
      time_offset: selects the frame of each segment, see `evaluation_indices`.
      crop_offset: selects the square of each frame, see `center_crop`.
    """
    return finish(self.read_evaluation_clip(position, time_offset, crop_offset))

  def read_evaluation_clip(
    self, position: int, time_offset: float = 0.5, crop_offset: float = 0.5
  ) -> Reading[BatchClip]:
    """The reading of `evaluation_clip`, with the same result and errors."""
    if position >= len(self.subset):
      return padding_clip(self.view.num_frames, self.view.size, self.inpainted)
    clip_id = self.subset.clip_id(position)
    seed = zlib.crc32(clip_id.encode())
    return (yield from self._load(position, seed, None, time_offset, crop_offset))

  def describe_damage(self, position: int) -> str:
    """Decodes all frames of a clip and returns a description of the damage.

    Raises:
      UnreachableError: if a bucket cannot be read.
    """
    try:
      clip = self.subset.frames(position)
      numbers = range(len(clip))
      clip = finish(clip.read_ahead(numbers, np.flatnonzero(clip.annotated), numbers))
      for number in numbers:
        records.decode_frame(clip.frame(number))
        if jpeg := clip.inpainted(number):
          records.decode_frame(jpeg)
        if clip.annotated[number]:
          records.decode_plane(clip.plane(number), *clip.size)
    except UnreachableError:
      raise
    except (UserError, OSError) as error:
      return str(error)
    return 'it could be read the second time'

  def _load(
    self,
    position: int,
    seed: int,
    rng: np.random.Generator | None,
    time_offset: float = 0.5,
    crop_offset: float = 0.5,
  ) -> Reading[BatchClip]:
    """Loads a clip with frames and a crop from `rng` or, if it is None, at the offsets."""
    try:
      clip = yield from self.subset.read_frames(position)
      sampled = self._sample(len(clip), rng, time_offset)
      box = self._crop(*clip.size, rng, crop_offset)
      sources = self._plane_sources(clip, sampled)
      clip = yield from clip.read_ahead(sampled, sources, sources if self.inpainted else ())
      frames = self._decode_frames(clip, sampled, box)
      regions, annotated = self._decode_planes(clip, sources, box)
      inpainted = {}
      if self.inpainted:
        inpainted['inpainted'] = self._decode_inpainted(clip, sources, box, frames)
    except UnreachableError:
      raise
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
      **inpainted,
    }

  def _sample(
    self, num_frames: int, rng: np.random.Generator | None, time_offset: float
  ) -> np.ndarray:
    """Returns i64[T], the frames of a clip: random, or those of the view without `rng`."""
    view = self.view
    if rng is None:
      return evaluation_indices(num_frames, view.num_frames, view.sampling, time_offset)
    return segment_indices(num_frames, view.num_frames, rng)

  def _crop(
    self, height: int, width: int, rng: np.random.Generator | None, crop_offset: float
  ) -> Box:
    """Returns the crop of a clip: random, or at `crop_offset` without `rng`."""
    view = self.view
    if rng is None:
      return center_crop(height, width, view.centre_crop, crop_offset, view.resize)
    if view.crop_side[1]:
      return random_square(rng, height, width, view.crop_side)
    return random_crop(rng, height, width, view.crop_scale, view.crop_ratio)

  def _decode_frames(self, clip: ClipFrames, sampled: np.ndarray, box: Box) -> np.ndarray:
    """Returns frames u8[T, S, S, 3]; decodes a frame that is sampled repeatedly only once."""
    frames = np.empty((self.view.num_frames, self.view.size, self.view.size, 3), np.uint8)
    for t, index in enumerate(sampled):
      if t and index == sampled[t - 1]:
        frames[t] = frames[t - 1]
      else:
        self._decode_frame(clip.frame(index), clip.size, box, f'frame {index}', out=frames[t])
    return frames

  def _decode_frame(
    self, jpeg: bytes, size: tuple[int, int], box: Box, name: str, out: np.ndarray
  ) -> None:
    """Decodes, crops and resizes a frame to `out`, u8[S, S, 3].

    Args:
      jpeg: the frame.
      size: the height and width that it must have.
      box: the crop.
      name: the name of the frame, for errors.
      out: the result.

    Raises:
      UserError: if the frame is damaged or has another size.
    """
    frame = records.decode_frame(jpeg)
    if frame.shape[:2] != size:
      raise UserError(
        f'{name} has {frame.shape[1]} x {frame.shape[0]} pixels, but its record says'
        f' {size[1]} x {size[0]}; build the data set again'
      )
    resize_frame(frame, box, self.view.size, self.view.interpolation, out=out)

  def _decode_inpainted(
    self, clip: ClipFrames, sources: np.ndarray, box: Box, frames: np.ndarray
  ) -> np.ndarray:
    """Returns the frames without their people, u8[T, S, S, 3].

    They are those of the frames whose planes are taken, `sources`. Where nobody was removed from
    such a frame, the frame in `frames` is returned.
    """
    inpainted = frames.copy()
    for t, source in enumerate(sources):
      jpeg = clip.inpainted(source)
      if jpeg and t and source == sources[t - 1]:
        inpainted[t] = inpainted[t - 1]
      elif jpeg:
        self._decode_frame(jpeg, clip.size, box, f'inpainted frame {source}', out=inpainted[t])
    return inpainted

  def _plane_sources(self, clip: ClipFrames, sampled: np.ndarray) -> np.ndarray:
    """Returns i64[T], the frames whose planes the sampled frames take."""
    annotated = clip.annotated
    if self.view.unannotated == 'nearest' and 0 < np.count_nonzero(annotated) < len(annotated):
      return nearest_annotated(annotated, sampled)
    return sampled

  def _decode_planes(
    self, clip: ClipFrames, sources: np.ndarray, box: Box
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns regions u8[T, S, S] and annotated bool[T]."""
    view = self.view
    annotated = clip.annotated
    regions = np.zeros((view.num_frames, view.size, view.size), np.uint8)
    for t, source in enumerate(sources):
      if t and source == sources[t - 1]:
        regions[t] = regions[t - 1]
      elif annotated[source]:
        plane = records.decode_plane(clip.plane(source), *clip.size)
        resize_plane(plane, box, view.size, out=regions[t])
    if self.subset.boxes_as_shapes:
      regions = shapes_from_boxes(regions, self.subset.boxes_as_shapes)
    return regions, annotated[sources]
