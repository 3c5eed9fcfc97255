"""Masks as NumPy arrays: one .npy or .npz file for each clip, with [N, H, W] values.

Frames are read one by one from the file, also where it is compressed, so that what its header
claims is never allocated.
"""

import contextlib
import dataclasses
import functools
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import IO

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, Counting, Stride, drawn
from zsar_jax.datasets.masks.lookup import OnePerClip, folder_of_masks, region_names
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.wording import counted

_EXTENSIONS = ('.npz', '.npy')

# What an array may hold that is on or off.
_ON_OFF = ({0, 1}, {0, 255})

# Ten hours of video; what claims to have more frames is not read.
_MAX_FRAMES = 1 << 20

# How many labels a remark names.
_LISTED = 8

# What zipfile and NumPy raise of files that are damaged, cut short, or made to harm.
_DAMAGED = (
  OSError,
  ValueError,
  EOFError,
  SyntaxError,
  KeyError,
  TypeError,
  RuntimeError,
  OverflowError,
  MemoryError,
  NotImplementedError,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
)


def open_arrays(
  path: str,
  region: str | None = None,
  values: dict[str, int] | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> OnePerClip:
  """Arrays in `path/{clip}.npz` or `.npy`.

  Args:
    path: the folder of the clips' files.
    region: that arrays which are on or off show.
    values: the region's bit of each value, and of '*' for all others but 0, for arrays of labels.
      With neither of the two, an .npz file may hold several arrays, named after their regions;
      that is told by the first file. Otherwise it is a person that they show.
    spread: whether the masks are spread evenly over the video.
    stride: every how many frames there is a mask, and of which frame the first one is, 0 if None.

  Raises:
    UserError: if the folder is missing.
  """
  root = folder_of_masks(path)
  regions = () if region or values else _named_regions(root)
  region = region or 'person'
  names = region_names(values.values()) if values else regions or (region,)
  counting = Counting(0, spread, first_given=True, stride=stride[0], start=stride[1] or 0)
  return OnePerClip(
    root,
    _EXTENSIONS,
    region_names=names,
    parameters={
      'format': 'arrays',
      'path': root,
      'regions': list(names),
      'values': values,
      **counting.parameters,
    },
    clip_masks=functools.partial(
      ArrayMasks,
      regions=regions,
      region=region,
      values=values,
      counting=counting,
    ),
  )


def _named_regions(root: str) -> tuple[str, ...]:
  """The regions after which the arrays of the first readable .npz file are named, if they are."""
  for folder, folders, files in os.walk(root, followlinks=True):
    folders.sort()
    for name in sorted(files):
      if name.endswith('.npz'):
        with contextlib.suppress(OSError, zipfile.BadZipFile):
          with zipfile.ZipFile(os.path.join(folder, name)) as archive:
            members = {member.removesuffix('.npy') for member in archive.namelist()}
          if members and members <= set(REGION_BITS):
            return tuple(region for region in REGION_BITS if region in members)
          return ()
  return ()


@dataclasses.dataclass(frozen=True)
class ArrayMasks:
  """A clip's file of arrays.

  Attributes:
    path: of the file.
    regions: the arrays' names; none where there is one array of any name.
    region: of the one array, where it is on or off.
    values: the region's bit of each label, and of '*' for all others but 0, where it holds labels.
    counting: how the masks lie in the video.
  """

  path: str
  regions: tuple[str, ...]
  region: str
  values: dict[str, int] | None
  counting: Counting

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    with _opened(self.path, self.regions) as arrays:
      return self._places(arrays, num_frames)

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    with _opened(self.path, self.regions) as arrays:
      fitting = Fitting(video, remarks)
      places = self._places(arrays, video.num_frames)
      seen = {name: set() for name in arrays}

      def draw(number: int) -> np.ndarray:
        plane = np.zeros((video.height, video.width), np.uint8)
        for name, array in arrays.items():
          fitting.check(*array.shape[1:], self.path)
          values = array.frame(number)
          seen[name].update(np.unique(values).tolist())
          if self.values is None:
            bit = REGION_BITS[name if self.regions else self.region]
            found = _on_off(values, seen[name], bit, array.where)
          else:
            found = _by_label(values, self.values)
            self._remark(seen[name], remarks)
          plane |= fitting.scale(found)
        return plane

      yield from drawn(video, places, draw, remarks)

  def _places(self, arrays: Mapping[str, '_Array'], num_frames: int) -> dict[int, int]:
    """The number of each frame's mask."""
    counts = {array.shape[0] for array in arrays.values()}
    if len(counts) > 1:
      raise ClipError(f'{self.path}: arrays have {sorted(counts)} frames; they must be as many')
    count, stride = counts.pop(), self.counting.stride
    wanted = len(range(self.counting.start, num_frames, stride))
    if not self.counting.spread and count != wanted:
      frames = counted(num_frames, 'frame') + (f', {wanted} with stride={stride}' * (stride > 1))
      raise ClipError(
        f'{self.path} has {counted(count, "mask")} and the video {frames}; save one for each frame,'
        ' or add stride=N or spread=yes to --masks if they are of frames further apart'
      )
    return self.counting.places(range(count), num_frames, None, self.path, {})

  def _remark(self, seen: set[int], remarks: Remarks) -> None:
    unused = [value for value in sorted(seen) if value and str(value) not in self.values]
    if unused and '*' not in self.values:
      remarks['labels not used'] = ', '.join(map(str, unused[:_LISTED]))


def _on_off(values: np.ndarray, seen: set[int], bit: int, where: str) -> np.ndarray:
  if not any(seen <= allowed for allowed in _ON_OFF):
    raise ClipError(
      f'{where} has the values {", ".join(map(str, sorted(seen)[:5]))}, not just 0 and 1 or 0 and '
      '255; say with values= what they are'
    )
  return np.where(values, np.uint8(bit), np.uint8(0))


def _by_label(values: np.ndarray, bits: Mapping[str, int]) -> np.ndarray:
  plane = np.where(values, np.uint8(bits.get('*', 0)), np.uint8(0))
  for value, bit in bits.items():
    if value != '*':
      plane[values == int(value)] = bit
  return plane


@dataclasses.dataclass(frozen=True)
class _Array:
  """An array in a file.

  Attributes:
    stream: the file, open for reading.
    start: where the array's values begin in it.
    shape: [N, H, W].
    dtype: bool or whole numbers.
    where: the array, for errors.
  """

  stream: IO[bytes]
  start: int
  shape: tuple[int, int, int]
  dtype: np.dtype
  where: str

  def frame(self, number: int) -> np.ndarray:
    """The [H, W] values of a frame; a `ClipError` where the file ends before them."""
    size = math.prod(self.shape[1:]) * self.dtype.itemsize
    try:
      self.stream.seek(self.start + number * size)
      values = self.stream.read(size)
    except _DAMAGED as error:
      raise ClipError(f'{self.where} cannot be read ({error}); save it again') from None
    if len(values) != size:
      raise ClipError(f'{self.where} ends within frame {number}; save it again')
    return np.frombuffer(values, self.dtype).reshape(self.shape[1:])


@contextlib.contextmanager
def _opened(path: str, regions: tuple[str, ...]) -> Iterator[dict[str, _Array]]:
  """The arrays of a file by name; only the one of an .npy file has none."""
  with contextlib.ExitStack() as stack:
    try:
      if path.endswith('.npy'):
        streams = {'': (stack.enter_context(open(path, 'rb')), os.path.getsize(path))}
      else:
        archive = stack.enter_context(zipfile.ZipFile(path))
        streams = {
          member.filename.removesuffix('.npy'): (
            stack.enter_context(archive.open(member)),
            member.file_size,
          )
          for member in archive.infolist()
        }
      _check_names(streams, regions, path)
      arrays = {
        name: _read_header(stream, size, f'{path}: {name}' if name else path)
        for name, (stream, size) in streams.items()
      }
    except _DAMAGED as error:
      raise ClipError(f'{path} cannot be read ({error}); save it again') from None
    yield arrays


def _check_names(names: Collection[str], regions: tuple[str, ...], path: str) -> None:
  found = ', '.join(names) or 'none of a name'
  if regions and set(names) != set(regions):
    raise ClipError(
      f'{path} must have the arrays {", ".join(regions)}, as the first file has, and has {found}'
    )
  if not regions and len(names) != 1:
    raise ClipError(
      f'{path} has the arrays {found}; save one, or name all of them after regions: '
      f'{", ".join(REGION_BITS)}'
    )


def _read_header(stream: IO[bytes], size: int, where: str) -> _Array:
  """Reads what an array is, from a stream that states to have `size` bytes."""
  version = np.lib.format.read_magic(stream)
  if version == (1, 0):
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
  elif version == (2, 0):
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
  else:
    raise ClipError(f'{where} is of NumPy format {version}; save a plain array')
  if dtype.hasobject:
    raise ClipError(f'{where} holds pickled objects, which are not read; save an array of bool')
  if dtype.kind not in 'biu':
    raise ClipError(f'{where} is of {dtype}; apply the threshold and save an array of bool')
  if len(shape) != 3 or fortran:
    order = ' in Fortran order' if fortran else ''
    raise ClipError(
      f'{where} is {dtype}{list(shape)}{order}; save [frames, height, width] in C order'
    )
  if not 0 <= shape[0] <= _MAX_FRAMES:
    raise ClipError(f'{where} states {shape[0]} frames; save [frames, height, width]')
  start = stream.tell()
  if min(shape) < 0 or math.prod(shape) * dtype.itemsize != size - start:
    raise ClipError(f'{where} states {list(shape)} values and has {size - start} bytes; save again')
  return _Array(stream, start, shape, dtype, where)
