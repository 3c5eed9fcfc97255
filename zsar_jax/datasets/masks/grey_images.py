"""Reads grey images, in which bright pixels are inside a region."""

import dataclasses
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_masks import FrameMasks, PlaneDrawer
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, FrameNumbering, Stride
from zsar_jax.datasets.masks.image_files import EXTENSIONS, image_numbering, read_pixels
from zsar_jax.datasets.masks.numbered_files import numbered_files
from zsar_jax.datasets.masks.per_clip import PerClipSource, require_folder
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import REGION_BITS

# HAT's threshold for grey values, which are probabilities times 255.
THRESHOLD = 128

# If the grey masks of a clip never get brighter than this, they are labels, or 0 and 1, and no
# probabilities: otherwise every pixel of every frame would lie below 6 percent.
_MAX_LABEL_LIKE = 15

# How much the channels of a grey mask that was saved in color may differ, after a JPEG.
_CHANNEL_TOLERANCE = 8

# What to do about labels, for errors.
_LABELS_REMEDY = 'give it as palette:PATH'


def open_grey(
  path: str,
  region: str = 'person',
  first: int | None = None,
  spread: bool = False,
  stride: Stride = EVERY_FRAME,
) -> PerClipSource:
  """Opens grey images, such as HAT's, in `path/{clip}/{frame}.png`: above 128 is inside.

  Args:
    path: the folder of the clips' folders.
    region: the region that the masks show.
    first: the number of the first frame; None infers it.
    spread: whether the masks are spread evenly over the video.
    stride: which frames have a mask; they begin with frame 0 by default.

  Raises:
    UserError: The folder is missing or `first` cannot be inferred.
  """
  folders = require_folder(path)
  numbering = image_numbering(folders, first, spread, stride)
  bit = REGION_BITS[region]
  return PerClipSource(
    folders,
    extensions=(),
    region_names=(region,),
    parameters={'format': 'grey', 'path': folders.root, 'region': region} | numbering.parameters,
    clip_masks=functools.partial(GreyMasks, bit=bit, numbering=numbering),
  )


@dataclasses.dataclass(frozen=True)
class GreyMasks(FrameMasks):
  """A clip's folder of grey images.

  Attributes:
    folder: the folder of the images.
    bit: the bit of the region that they show.
    numbering: how they are numbered.
  """

  folder: str
  bit: int
  numbering: FrameNumbering

  def open(self) -> AbstractContextManager[dict[int, str]]:
    """Returns a context manager that gives {number: image}."""
    return nullcontext(numbered_files(self.folder, EXTENSIONS))

  def match(
    self,
    content: dict[int, str],
    num_frames: int,
    frame_numbers: np.ndarray | None,
    remarks: Remarks,
  ) -> dict[int, int]:
    """Returns {frame: number of its image}."""
    return self.numbering.match(content, num_frames, frame_numbers, self.folder, remarks)

  def drawer(self, content: dict[int, str], video: VideoFacts, remarks: Remarks) -> PlaneDrawer:
    """See `FrameMasks`."""
    return _GreyDrawer(self, content, video, remarks)


class _GreyDrawer(PlaneDrawer):
  """Draws grey images, and checks that the clip's brightest pixel is bright.

  Masks saved as 0 and 1 instead of 0 and 255 would be drawn empty. A single one looks like HAT's
  faint noise in a frame without people; all masks of the clip together do not.
  """

  def __init__(self, masks: GreyMasks, files: dict[int, str], video: VideoFacts, remarks: Remarks):
    super().__init__(video, remarks)
    self._masks, self._files = masks, files
    self._brightest = 0

  def draw(self, mask: int) -> np.ndarray:
    """Draws the image of a number."""
    values = read_grey(self._files[mask], self.fitting.check)
    self._brightest = max(self._brightest, int(values.max()))
    bit = np.uint8(self._masks.bit)
    return self.fitting.scale(np.where(values > THRESHOLD, bit, np.uint8(0)))

  def finish(self) -> None:
    """Raises a `ClipError` if no pixel of the clip is bright."""
    super().finish()
    refuse_labels(self._brightest, self._masks.folder)
    if 0 < self._brightest <= THRESHOLD:
      self.remarks['masks never above 128'] = f'the brightest value is {self._brightest}'


def read_grey(
  path: str, check_size: Callable[[int, int, str], None], labels_remedy: str = _LABELS_REMEDY
) -> np.ndarray:
  """Reads a grey image.

  Args:
    path: a PNG or JPEG file.
    check_size: see `read_pixels`.
    labels_remedy: what to do about an image of labels, for the error.

  Returns:
    u8[h, w] values; those of a 1-bit image become 0 and 255. Above `THRESHOLD` is inside.

  Raises:
    ClipError: The image cannot be decoded, is not grey, or has a wrong size.
  """
  modes = ('L', '1', 'RGB', 'P')
  values, mode, _ = read_pixels(path, check_size, modes, 'save it in grey, with 8 bits')
  if mode == 'P':
    raise ClipError(
      f'{path} is an image of mode P, whose values are labels and not grey; {labels_remedy}'
    )
  if mode == '1':
    return np.where(values, np.uint8(255), np.uint8(0))
  if mode == 'RGB':
    if int(np.ptp(values, axis=2).max()) > _CHANNEL_TOLERANCE:
      raise ClipError(f'{path} is colored, not a grey mask; save it in grey, with 8 bits')
    return values[..., 0]
  return values


def refuse_labels(brightest: int, folder: str, labels_remedy: str = _LABELS_REMEDY) -> None:
  """Raises a `ClipError` if the highest value in all masks of a clip is that of labels.

  Args:
    brightest: the highest value.
    folder: the masks, for the error.
    labels_remedy: what to do about them, for the error.
  """
  if 0 < brightest <= _MAX_LABEL_LIKE:
    raise ClipError(
      f'{folder}: no mask has a value above {brightest}, so these are labels, or 0 and 1, not grey'
      f' from 0 to 255; {labels_remedy}'
    )
