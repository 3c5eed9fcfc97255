"""Reads NumPy arrays of masks: one .npy or .npz file for each clip, with [N, H, W] values."""

import dataclasses
import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.array_files import ArrayReader, array_names, open_array_file
from zsar_jax.datasets.masks.frame_masks import FrameMasks, PlaneDrawer
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, FrameNumbering, Stride
from zsar_jax.datasets.masks.per_clip import PerClipSource, require_folder
from zsar_jax.datasets.masks.region_labels import draw_labels, region_names, remark_unused
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage.folders import Folders

_EXTENSIONS = ('.npz', '.npy')

# The sets of values that a binary array may have.
_BINARY_VALUES = ({0, 1}, {0, 255})

# The maximum number of unused labels that a remark names.
_LISTED = 8


def open_arrays(
  path: str,
  region: str | None = None,
  values: dict[str, int] | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> PerClipSource:
  """Opens arrays in `path/{clip}.npz` or `.npy`.

  Args:
    path: the folder of the clips' files.
    region: the region that binary arrays show.
    values: the region's bit of each label, and of '*' for all other labels but 0, for arrays of
      labels. With neither `region` nor `values`, an .npz file may hold several arrays that are
      named after their regions, if the first file does; otherwise arrays show a person.
    spread: whether the masks are spread evenly over the video.
    stride: which frames have a mask; they begin with frame 0 by default.

  Raises:
    UserError: The folder is missing.
  """
  folders = require_folder(path)
  regions = () if region or values else _named_regions(folders)
  region = region or 'person'
  names = region_names(values.values()) if values else regions or (region,)
  step, start = stride
  numbering = FrameNumbering(0, spread, first_given=True, stride=step, start=start or 0)
  return PerClipSource(
    folders,
    _EXTENSIONS,
    region_names=names,
    parameters={
      'format': 'arrays',
      'path': folders.root,
      'regions': list(names),
      'values': values,
      **numbering.parameters,
    },
    clip_masks=functools.partial(
      ArrayMasks,
      regions=regions,
      region=region,
      values=values,
      numbering=numbering,
    ),
  )


def _named_regions(folders: Folders) -> tuple[str, ...]:
  """Returns the names of the arrays in the first readable .npz file, if all are regions."""
  for file in folders.files(folders.root):
    if file.endswith('.npz'):
      names = array_names(file)
      if names:
        return tuple(filter(names.__contains__, REGION_BITS)) if names <= set(REGION_BITS) else ()
  return ()


@dataclasses.dataclass(frozen=True)
class ArrayMasks(FrameMasks):
  """A clip's file of arrays.

  Attributes:
    path: the file.
    regions: the names of the arrays; empty where there is a single array of any name.
    region: the region of a single binary array.
    values: the region's bit of each label, and of '*' for all other labels but 0, where a single
      array holds labels.
    numbering: which frames have a mask.
  """

  path: str
  regions: tuple[str, ...]
  region: str
  values: dict[str, int] | None
  numbering: FrameNumbering

  def open(self) -> AbstractContextManager[dict[str, ArrayReader]]:
    """Opens the arrays by name."""
    return open_array_file(self.path, self.regions)

  def match(
    self,
    content: Mapping[str, ArrayReader],
    num_frames: int,
    frame_numbers: np.ndarray | None,
    remarks: Remarks,
  ) -> dict[int, int]:
    """Returns {frame: index in the arrays}; arrays have no frame numbers to match."""
    counts = {array.shape[0] for array in content.values()}
    if len(counts) > 1:
      raise ClipError(f'{self.path}: arrays have {sorted(counts)} frames; they must have as many')
    count, stride = counts.pop(), self.numbering.stride
    expected = len(range(self.numbering.start, num_frames, stride))
    if not self.numbering.spread and count != expected:
      frames = pluralize(num_frames, 'frame') + (
        f', {expected} with stride={stride}' * (stride > 1)
      )
      raise ClipError(
        f'{self.path} has {pluralize(count, "mask")} and the video {frames}; save one for each'
        ' frame, or add stride=N or spread=yes to --masks if they are of frames further apart'
      )
    return self.numbering.match(range(count), num_frames, None, self.path, remarks)

  def drawer(
    self, content: Mapping[str, ArrayReader], video: VideoFacts, remarks: Remarks
  ) -> PlaneDrawer:
    """See `FrameMasks`."""
    return _ArrayDrawer(self, content, video, remarks)


class _ArrayDrawer(PlaneDrawer):
  """Draws the arrays, and checks the values of all frames of an array together."""

  def __init__(
    self,
    masks: ArrayMasks,
    arrays: Mapping[str, ArrayReader],
    video: VideoFacts,
    remarks: Remarks,
  ):
    super().__init__(video, remarks)
    self._masks, self._arrays = masks, arrays
    self._values: dict[str, set[int]] = {name: set() for name in arrays}

  def draw(self, mask: int) -> np.ndarray:
    """Draws the frame at an index of the arrays."""
    plane = self.empty_plane()
    for name, array in self._arrays.items():
      self.fitting.check(*array.shape[1:], self._masks.path)
      values = array.frame(mask)
      self._values[name].update(np.unique(values).tolist())
      bits = self._masks.values
      if bits is None:
        self._check_binary(name)
        bit = REGION_BITS[name if self._masks.regions else self._masks.region]
        inside = np.where(values, np.uint8(bit), np.uint8(0))
      else:
        inside = draw_labels(values, bits)
        remark_unused(filter(None, self._values[name]), bits, self.remarks, _LISTED)
      plane |= self.fitting.scale(inside)
    return plane

  def _check_binary(self, name: str) -> None:
    values = self._values[name]
    if not any(values <= allowed for allowed in _BINARY_VALUES):
      raise ClipError(
        f'{self._arrays[name].where} has the values {", ".join(map(str, sorted(values)[:5]))}, not '
        'just 0 and 1 or 0 and 255; say with values= what they are'
      )
