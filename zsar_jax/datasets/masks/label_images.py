"""Reads label images, in which the value of a pixel names an object."""

import dataclasses
import functools
import os
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.frame_masks import FrameMasks, PlaneDrawer
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, FrameNumbering, Stride
from zsar_jax.datasets.masks.image_files import EXTENSIONS, image_numbering, read_pixels
from zsar_jax.datasets.masks.numbered_files import numbered_files
from zsar_jax.datasets.masks.per_clip import PerClipSource, require_folder
from zsar_jax.datasets.masks.region_labels import (
  draw_labels,
  label_bit,
  region_names,
  remark_unused,
)
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import OBJECT, PERSON

# An image with more grey values than this holds no labels.
_MAX_LABELS = 64

# EgoHOS: left and right hand; what the left, the right, and both hold; what that acts upon.
EGOHOS_VALUES = {str(value): PERSON if value < 3 else OBJECT for value in range(1, 9)}
_EGOHOS_HIGHEST = 8

# Images by frame number; each comes with its object where every object has its own images.
_Images = dict[int, list[tuple[int | None, str]]]


def open_palette(
  path: str,
  values: dict[str, int] | None = None,
  first: int | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> PerClipSource:
  """Opens label images, such as those of DAVIS and SAM 2, in `path/{clip}/{frame}.png`.

  Also opens `path/{clip}/{object}/{frame}.png`, with an image for each object: a pixel is inside
  where it is not 0, and the number of the folder is the label. SA-V numbers folders from 000,
  which is an object, whereas 0 in an image is the background.

  Args:
    path: the folder of the clips' folders.
    values: the region's bit of each label, and of '*' for all other labels but 0.
    first: the number of the first frame; None infers it.
    spread: whether the masks are spread evenly over the video.
    stride: which frames have a mask; they begin with frame 0 by default.

  Raises:
    UserError: The folder is missing or `first` cannot be inferred.
  """
  return _open_labels('palette', path, values or {'*': PERSON}, first, spread, stride, None)


def open_egohos(
  path: str,
  values: dict[str, int] | None = None,
  first: int | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> PerClipSource:
  """Opens EgoHOS's label images of hands and held objects; see `open_palette` for arguments."""
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
) -> PerClipSource:
  folders = require_folder(path)
  numbering = image_numbering(folders, first, spread, stride)
  return PerClipSource(
    folders,
    extensions=(),
    region_names=region_names(bits.values()),
    parameters={'format': name, 'path': folders.root, 'values': bits} | numbering.parameters,
    clip_masks=functools.partial(LabelMasks, bits=bits, numbering=numbering, highest=highest),
  )


@dataclasses.dataclass(frozen=True)
class LabelMasks(FrameMasks):
  """A clip's folder of label images, or of one folder of images for each object.

  Attributes:
    folder: the clip's folder.
    bits: the region's bit of each label, in digits, and of '*' for all other labels but 0.
    numbering: how the images are numbered.
    highest: the highest label of the format; None if there is no limit.
  """

  folder: str
  bits: dict[str, int]
  numbering: FrameNumbering
  highest: int | None

  def open(self) -> AbstractContextManager[_Images]:
    """Returns a context manager that gives {number: [(object, image)]}."""
    files: _Images = {
      number: [(None, path)] for number, path in numbered_files(self.folder, EXTENSIONS).items()
    }
    objects = [
      name
      for name in sorted(os.listdir(self.folder))
      if name.isascii() and name.isdecimal() and os.path.isdir(os.path.join(self.folder, name))
    ]
    if files and objects:
      raise ClipError(
        f'{self.folder} has images as well as folders of objects, such as {objects[0]}; remove '
        'either'
      )
    for name in objects:
      path = os.path.join(self.folder, name)
      self.check_label(int(name), path)
      for number, image in numbered_files(path, EXTENSIONS).items():
        files.setdefault(number, []).append((int(name), image))
    return nullcontext(files)

  def match(
    self, content: _Images, num_frames: int, frame_numbers: np.ndarray | None, remarks: Remarks
  ) -> dict[int, int]:
    """Returns {frame: number of its images}."""
    return self.numbering.match(content, num_frames, frame_numbers, self.folder, remarks)

  def drawer(self, content: _Images, video: VideoFacts, remarks: Remarks) -> PlaneDrawer:
    """See `FrameMasks`."""
    return _LabelDrawer(self, content, video, remarks)

  def check_label(self, label: int, path: str) -> None:
    """Raises a `ClipError` if the format does not have a label."""
    if self.highest is not None and label > self.highest:
      raise ClipError(
        f'{path} has the label {label}, and this format ends at {self.highest}; give it '
        'as palette:PATH with values='
      )


class _LabelDrawer(PlaneDrawer):
  """Draws label images and reports labels of no region."""

  def __init__(self, masks: LabelMasks, files: _Images, video: VideoFacts, remarks: Remarks):
    super().__init__(video, remarks)
    self._masks, self._files = masks, files
    self._labels: set[int] = set()

  def draw(self, mask: int) -> np.ndarray:
    """Draws the images of a number."""
    bits = self._masks.bits
    plane = self.empty_plane()
    for object_id, path in self._files[mask]:
      labels = _read_labels(path, self.fitting)
      if object_id is not None:
        inside = np.where(labels, np.uint8(label_bit(bits, object_id)), np.uint8(0))
        self._labels.add(object_id)
      else:
        present = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        self._masks.check_label(present[-1], path)
        inside = draw_labels(labels, bits)
        self._labels.update(label for label in present if label)
      plane |= self.fitting.scale(inside)
    remark_unused(self._labels, bits, self.remarks)
    return plane


def _read_labels(path: str, fitting: Fitting) -> np.ndarray:
  """Returns the u8[h, w] labels of an image: the indices of a palette, or plain values."""
  remedy = 'save the indices, as a palette or an 8-bit grey PNG, not their colors'
  labels, mode, exact = read_pixels(path, fitting.check, ('P', 'L', '1'), remedy)
  if not exact:
    raise ClipError(f'{path} does not keep labels as they are; save an 8-bit PNG')
  if mode == 'L' and np.count_nonzero(np.bincount(labels.ravel())) > _MAX_LABELS:
    raise ClipError(f'{path} has more than {_MAX_LABELS} values, not labels; give it as grey:PATH')
  return labels.astype(np.uint8)
