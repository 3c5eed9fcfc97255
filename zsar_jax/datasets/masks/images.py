"""Masks as images, one for each frame: grey, palette and label images in a folder per clip."""

import dataclasses
import functools
import os
import struct
from collections.abc import Collection, Iterator

import numpy as np
from PIL import Image

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.frame_matching import (
  EVERY_FRAME,
  Counting,
  Stride,
  decided_first,
  drawn,
  find_first,
  numbered_files,
)
from zsar_jax.datasets.masks.lookup import OnePerClip, folder_of_masks, region_names
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import OBJECT, PERSON, REGION_BITS

_EXTENSIONS = ('.png', '.jpg', '.jpeg')

# HAT's threshold for grey values that are probabilities times 255.
_THRESHOLD = 128

# A clip whose grey masks never get brighter than this holds labels, or 0 and 1, and no
# probabilities: every pixel of every frame would have to lie below 6 per cent.
_MAX_LABEL_LIKE = 15

# How much the channels of a grey mask that was saved in color may differ, after a JPEG.
_CHANNEL_TOLERANCE = 8

# An image with more grey values than this holds no labels.
_MAX_LABELS = 64

# EgoHOS: left and right hand; what the left, the right, and both hold; what that acts upon.
EGOHOS_VALUES = {str(value): PERSON if value < 3 else OBJECT for value in range(1, 9)}
_EGOHOS_HIGHEST = 8

# What Pillow raises of files that are damaged, cut short, or claim an absurd size.
_DAMAGED = (
  OSError,
  SyntaxError,
  ValueError,
  EOFError,
  OverflowError,
  struct.error,
  Image.DecompressionBombError,
)


def open_grey(
  path: str,
  region: str = 'person',
  first: int | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> OnePerClip:
  """Grey images, as of HAT, in `path/{clip}/{frame}.png`: above 128 is inside.

  Args:
    path: the folder of the clips' folders.
    region: that the masks show.
    first: the number of the first frame; None finds it out.
    spread: whether the masks are spread evenly over the video.
    stride: every how many frames there is a mask, and of which frame the first one is, 0 if None.

  Raises:
    UserError: if the folder is missing or `first` cannot be found out.
  """
  root = folder_of_masks(path)
  counting = _counting(root, first, spread, stride)
  bit = REGION_BITS[region]
  return OnePerClip(
    root,
    extensions=(),
    region_names=(region,),
    parameters={'format': 'grey', 'path': root, 'region': region} | counting.parameters,
    clip_masks=functools.partial(GreyMasks, bit=bit, counting=counting),
  )


def open_palette(
  path: str,
  values: dict[str, int] | None = None,
  first: int | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> OnePerClip:
  """Label images, as of DAVIS and SAM 2, in `path/{clip}/{frame}.png`: a pixel is an object's id.

  Also `path/{clip}/{object}/{frame}.png`, with an image for each object: it is inside where the
  image is not 0, and its value is the number of its folder. SA-V's begin with 000, which is
  an object, whereas 0 in an image is none.

  Args:
    path: the folder of the clips' folders.
    values: the region's bit of each value, and of '*' for all others but 0.
    first: the number of the first frame; None finds it out.
    spread: whether the masks are spread evenly over the video.
    stride: every how many frames there is a mask, and of which frame the first one is, 0 if None.

  Raises:
    UserError: if the folder is missing or `first` cannot be found out.
  """
  return _open_labels('palette', path, values or {'*': PERSON}, first, spread, stride, None)


def open_egohos(
  path: str,
  values: dict[str, int] | None = None,
  first: int | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> OnePerClip:
  """EgoHOS's label images of hands and what they hold; arguments as of `open_palette`."""
  values = values or EGOHOS_VALUES
  return _open_labels('egohos', path, values, first, spread, stride, _EGOHOS_HIGHEST)


def _open_labels(
  name: str,
  path: str,
  bits: dict[str, int],
  first: int | None,
  spread: bool,
  stride: Stride,
  highest: int | None,
) -> OnePerClip:
  root = folder_of_masks(path)
  counting = _counting(root, first, spread, stride)
  return OnePerClip(
    root,
    extensions=(),
    region_names=region_names(bits.values()),
    parameters={'format': name, 'path': root, 'values': bits} | counting.parameters,
    clip_masks=functools.partial(LabelMasks, bits=bits, counting=counting, highest=highest),
  )


def _counting(root: str, first: int | None, spread: bool, stride: Stride) -> Counting:
  if spread:
    return Counting(0, spread)
  given = first is not None
  if not given:
    first = decided_first(find_first(root, _EXTENSIONS), root)
  return Counting(first, first_given=given, stride=stride[0], start=stride[1] or 0)


@dataclasses.dataclass(frozen=True)
class GreyMasks:
  """A clip's folder of grey images.

  Attributes:
    folder: of the images.
    bit: the region that they show.
    counting: how they are numbered.
  """

  folder: str
  bit: int
  counting: Counting

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    files = numbered_files(self.folder, _EXTENSIONS)
    return self.counting.places(files, num_frames, own, self.folder, {})

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`.

    Masks saved as 0 and 1 in place of 0 and 255 would be empty, and a single one cannot be told
    from HAT's faint noise where nobody is. All the clip's masks together can.
    """
    files = numbered_files(self.folder, _EXTENSIONS)
    places = self.counting.places(files, video.num_frames, video.numbers, self.folder, remarks)
    fitting = Fitting(video, remarks)
    brightest = 0

    def draw(number: int) -> np.ndarray:
      nonlocal brightest
      values = _read_grey(files[number], fitting)
      brightest = max(brightest, int(values.max()))
      return fitting.scale(np.where(values > _THRESHOLD, np.uint8(self.bit), np.uint8(0)))

    yield from drawn(video, places, draw, remarks, lambda: self._check(brightest, remarks))

  def _check(self, brightest: int, remarks: Remarks) -> None:
    if 0 < brightest <= _MAX_LABEL_LIKE:
      raise ClipError(
        f'{self.folder}: no mask has a value above {brightest}, so that these are labels or 0 and '
        '1, not grey from 0 to 255; give them as palette:PATH'
      )
    if 0 < brightest <= _THRESHOLD:
      remarks['masks never above 128'] = f'the brightest value is {brightest}'


@dataclasses.dataclass(frozen=True)
class LabelMasks:
  """A clip's folder of label images, or of one folder of masks for each object.

  Attributes:
    folder: of the images.
    bits: the region's bit of each label, in digits, and of '*' for all others but 0.
    counting: how the images are numbered.
    highest: the highest label that the format has; None where it may have any.
  """

  folder: str
  bits: dict[str, int]
  counting: Counting
  highest: int | None

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    return self.counting.places(self._files(), num_frames, own, self.folder, {})

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    files = self._files()
    places = self.counting.places(files, video.num_frames, video.numbers, self.folder, remarks)
    fitting = Fitting(video, remarks)
    table = _bit_table(self.bits)
    unused = set()

    def draw(number: int) -> np.ndarray:
      plane = np.zeros((video.height, video.width), np.uint8)
      for object_id, path in files[number]:
        labels = _read_labels(path, fitting)
        if object_id is not None:
          bit = self.bits.get(str(object_id), self.bits.get('*', 0))
          inside = np.where(labels, np.uint8(bit), np.uint8(0))
          unused.update([] if bit else [object_id])
        else:
          present = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(table)))
          self._check_label(present[-1], path)
          inside = table[labels]
          unused.update(value for value in present.tolist() if value and not table[value])
        plane |= fitting.scale(inside)
      if unused:
        remarks['labels not used'] = ', '.join(map(str, sorted(unused)))
      return plane

    yield from drawn(video, places, draw, remarks)

  def _files(self) -> dict[int, list[tuple[int | None, str]]]:
    """The images of each number, with their object where each has its own."""
    files = {
      number: [(None, path)] for number, path in numbered_files(self.folder, _EXTENSIONS).items()
    }
    objects = [
      name
      for name in sorted(os.listdir(self.folder))
      if name.isascii() and name.isdecimal() and os.path.isdir(os.path.join(self.folder, name))
    ]
    if files and objects:
      raise ClipError(
        f'{self.folder} has images as well as folders of objects, such as {objects[0]}; leave one '
        'of the two'
      )
    for name in objects:
      path = os.path.join(self.folder, name)
      self._check_label(int(name), path)
      for number, image in numbered_files(path, _EXTENSIONS).items():
        files.setdefault(number, []).append((int(name), image))
    return files

  def _check_label(self, label: int, path: str) -> None:
    if self.highest is not None and label > self.highest:
      raise ClipError(
        f'{path} has the label {label}, and this format ends at {self.highest}; give it '
        'as palette:PATH with values='
      )


def _bit_table(bits: dict[str, int]) -> np.ndarray:
  """u8[256], the region's bit of each label."""
  table = np.full(256, bits.get('*', 0), np.uint8)
  table[0] = 0
  for value, bit in bits.items():
    if value != '*' and int(value) < 256:
      table[int(value)] = bit
  return table


def _read_grey(path: str, fitting: Fitting) -> np.ndarray:
  """The u8[h, w] values of a grey image; of a 1-bit image they are 0 and 255."""
  values, mode, _ = _read(path, fitting, ('L', '1', 'RGB', 'P'), 'save it in grey, of 8 bits')
  if mode == 'P':
    raise ClipError(
      f'{path} is an image of mode P, whose values are labels and not grey; give it as palette:PATH'
    )
  if mode == '1':
    return np.where(values, np.uint8(255), np.uint8(0))
  if mode == 'RGB':
    if int(np.ptp(values, axis=2).max()) > _CHANNEL_TOLERANCE:
      raise ClipError(f'{path} is colored, not a grey mask; save it in grey, of 8 bits')
    return values[..., 0]
  return values


def _read_labels(path: str, fitting: Fitting) -> np.ndarray:
  """The u8[h, w] labels of an image, which are indices of a palette or plain values."""
  remedy = 'save the indices, as a palette or an 8-bit grey PNG, not their colors'
  labels, mode, exact = _read(path, fitting, ('P', 'L', '1'), remedy)
  if not exact:
    raise ClipError(f'{path} does not keep labels as they are; save an 8-bit PNG')
  if mode == 'L' and np.count_nonzero(np.bincount(labels.ravel())) > _MAX_LABELS:
    raise ClipError(f'{path} has more than {_MAX_LABELS} values, not labels; give it as grey:PATH')
  return labels.astype(np.uint8)


def _read(
  path: str, fitting: Fitting, modes: tuple[str, ...], remedy: str
) -> tuple[np.ndarray, str, bool]:
  """The pixels of an image as they are stored.

  Args:
    path: of a PNG or a JPEG.
    fitting: checks the size before anything is decoded.
    modes: Pillow's, that are taken.
    remedy: for images of another mode.

  Returns:
    [h, w] or [h, w, 3] values, the mode, and whether values are those that were saved: a JPEG's
    are not, and those of a grey PNG of 2 or 4 bits are stretched.
  """
  try:
    if not os.path.getsize(path):
      raise ClipError(f'{path} is an empty file; make it again')
    with Image.open(path, formats=('PNG', 'JPEG')) as image:
      fitting.check(image.height, image.width, path)
      if image.mode not in modes:
        raise ClipError(f'{path} is an image of mode {image.mode}; {remedy}')
      # Of a damaged file there may be no tile, which decoding will say.
      stretched = image.mode == 'L' and any(tile[3] != 'L' for tile in image.tile)
      exact = image.format == 'PNG' and not stretched
      return np.asarray(image), image.mode, exact
  except _DAMAGED as error:
    raise ClipError(f'{path} cannot be decoded ({error}); make it again') from None
