"""Reads the masks that `zsar make-masks` made; see `made_files`."""

import dataclasses
import functools
import os
import time
from collections.abc import Collection, Iterator
from typing import Any

import cv2
import numpy as np

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.made_files import (
  INPAINTING,
  MadeClip,
  MadeFrame,
  clip_path,
  decode_plane,
  read_clip,
  read_settings,
  settings_checksum,
)
from zsar_jax.datasets.masks.per_clip import MaskOwners, candidate_names
from zsar_jax.datasets.masks.remote import RemoteMasks, masks_at
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import PERSON
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage.folders import open_folders

# Levels of luminance. In the median frame, thumbnails of the same frame differ by less, on average
# over their pixels: compressing a video again, or scaling it, changes them by 1 or 2.
_MAX_DIFFERENCE = 8


class MadeSource:
  """A `source.MaskSource` of masks that were made here."""

  def __init__(self, path: str):
    """Opens the masks.

    Args:
      path: the --out of zsar make-masks.

    Raises:
      UserError: The folder has no masks, or its settings are damaged.
    """
    self._folders = open_folders(path, '--masks')
    self._root = self._folders.root
    try:
      settings = read_settings(self._root)
    except UserError as error:
      raise UserError(f'--masks: {error}') from None
    self._checksum = settings_checksum(settings)
    self.region_names = tuple(settings['regions'])
    self.has_inpainted = bool(settings.get(INPAINTING)) and 'person' in self.region_names
    self.parameters: dict[str, Any] = {'format': 'made', 'path': self._root, 'made': settings}
    self._owners = MaskOwners()

  def for_clip(self, clip: ListedClip) -> 'MadeMasks | RemoteMasks | None':
    """Returns the masks of a clip, or None if none were made for it.

    Raises:
      UserError: The masks may belong to another clip.
    """
    for name in candidate_names(clip):
      path = str(clip_path(self._root, name))
      if self._folders.is_file(path):
        self._owners.claim(path, clip)
        masks = functools.partial(
          MadeMasks, checksum=self._checksum, has_inpainted=self.has_inpainted
        )
        return masks_at(path, masks)
    return None


@functools.lru_cache(maxsize=2)
def _read_once(path: str, checksum: str, version: tuple[int, ...]) -> MadeClip:
  """Reads a file that a build needs several times in a row; `version` tells it from later ones."""
  return read_clip(path, checksum)


def _version(path: str) -> tuple[int, ...]:
  """Returns numbers that differ for a file that was written again; () if there is none.

  Times may be whole seconds: a file of this second can be written again and keep its time, so its
  numbers are never returned twice.
  """
  try:
    status = os.stat(path)
  except OSError:
    return ()
  may_keep_time = time.time() - status.st_mtime < 2
  unique = (time.monotonic_ns(),) if may_keep_time else ()
  return status.st_ino, status.st_mtime_ns, status.st_size, *unique


@dataclasses.dataclass(frozen=True)
class MadeMasks:
  """The masks of a clip, a `source.ClipMasks`.

  Attributes:
    path: the file.
    checksum: of the settings that it must have been made with.
    has_inpainted: whether people were removed from its frames.
  """

  path: str
  checksum: str
  has_inpainted: bool = False

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    clip = self._read(num_frames)
    return {
      int(number) for number, frame in zip(clip.numbers, clip.frames, strict=True) if frame.plane
    }

  def frames(self, video: VideoFacts) -> list[MadeFrame | None]:
    """Returns what is known about each kept frame besides its images; None for other frames."""
    clip = self._read(video.num_frames)
    known = {
      int(number): dataclasses.replace(frame, plane=b'', inpainted=b'')
      for number, frame in zip(clip.numbers, clip.frames, strict=True)
    }
    return [known.get(int(number)) for number in video.kept]

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    clip = self._read(video.num_frames)
    index_of = {int(number): index for index, number in enumerate(clip.numbers)}
    indices = [index_of.get(int(number)) for number in video.kept]
    self._check_frames(clip, indices, video)
    indices = [index if index is None or clip.frames[index].plane else None for index in indices]
    if without := indices.count(None):
      remarks['frames without masks'] = f'{without} of {len(indices)}'
    for kind, details in clip.remarks.items():
      remarks.setdefault(kind, details)
    fitting = Fitting(video, remarks)
    for index in indices:
      if index is None:
        yield None
        continue
      fitting.check(clip.height, clip.width, self.path)
      try:
        plane = decode_plane(clip, index)
      except UserError:
        raise ClipError(f'{self.path} is damaged; delete it and make it again') from None
      assert plane is not None
      yield fitting.scale(plane)

  def inpainted(self, video: VideoFacts, jpeg_quality: int, remarks: Remarks) -> Iterator[bytes]:
    """Reads the K kept frames without their people, in order.

    Args:
      video: the decoded video.
      jpeg_quality: 1 to 100, for frames that are scaled to the size of the stored ones; others
        keep their bytes.
      remarks: receives a remark if frames are enlarged, and so less sharp than the stored ones.

    Yields:
      A JPEG of u8[H, W, 3], or b'' for a frame from which nobody was removed.

    Raises:
      ClipError: A frame is damaged.
    """
    clip = self._read(video.num_frames)
    if clip.height < video.height:
      remarks['inpainted frames enlarged'] = f'from {clip.width} x {clip.height}'
    index_of = {int(number): index for index, number in enumerate(clip.numbers)}
    for number in video.kept:
      index = index_of.get(int(number))
      yield b'' if index is None else self._inpainted_frame(clip, index, video, jpeg_quality)

  def _inpainted_frame(
    self, clip: MadeClip, index: int, video: VideoFacts, jpeg_quality: int
  ) -> bytes:
    """Returns an inpainted frame at the size of the video's frames; b'' if there is none."""
    jpeg = clip.frames[index].inpainted
    damage = f'{self.path} is damaged; delete it and make it again'
    try:
      if not jpeg:
        plane = decode_plane(clip, index) if clip.frames[index].plane else None
        if plane is not None and (plane & PERSON).any():
          raise ClipError(damage)  # People would be visible in a frame that claims to have none.
        return jpeg
      frame = records.decode_frame(jpeg)
    except UserError:
      raise ClipError(damage) from None
    if frame.shape[:2] != (clip.height, clip.width):
      raise ClipError(damage)
    if (clip.height, clip.width) == (video.height, video.width):
      return jpeg
    size = (video.width, video.height)
    method = cv2.INTER_AREA if clip.height > video.height else cv2.INTER_LINEAR
    scaled = cv2.resize(frame, size, interpolation=method)
    return next(records.encode_frames([scaled], jpeg_quality))

  def _read(self, num_frames: int) -> MadeClip:
    """Reads the file; raises a `ClipError` if it is of a video with another number of frames."""
    clip = _read_once(self.path, self.checksum, _version(self.path))
    if clip.num_frames != num_frames:
      raise ClipError(
        f'{self.path} has masks of a video with {pluralize(clip.num_frames, "frame")}, and this'
        f' one has {num_frames}; make masks of the videos that are built'
      )
    return clip

  def _check_frames(self, clip: MadeClip, indices: list[int | None], video: VideoFacts) -> None:
    """Raises a `ClipError` if the masks are of other frames than those of the video."""
    pairs = [(own, index) for own, index in enumerate(indices) if index is not None]
    if not pairs:
      raise ClipError(
        f'{self.path} has masks of the frames {clip.numbers[0]} to {clip.numbers[-1]}, none of'
        ' which is stored; build with the --keep that the masks were made with'
      )
    own, made = (list(side) for side in zip(*pairs, strict=True))
    difference = np.abs(
      video.thumbnails[own].astype(np.int16) - clip.thumbnails[made].astype(np.int16)
    )
    if np.median(difference.mean((1, 2))) > _MAX_DIFFERENCE:
      raise ClipError(
        f'{self.path} has masks of frames that look different from those of this video, such as'
        f' frame {video.kept[own[0]]}; make masks of the videos that are built'
      )
