"""Reads grey images, in which bright pixels are inside a region."""

import dataclasses
import functools
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.frame_masks import FrameMasks, PlaneDrawer
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, FrameNumbering, Stride
from zsar_jax.datasets.masks.image_files import EXTENSIONS, image_numbering, read_pixels
from zsar_jax.datasets.masks.numbered_files import numbered_files
from zsar_jax.datasets.masks.per_clip import PerClipSource, require_folder
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import REGION_BITS

# HAT's threshold for grey values, which are probabilities times 255.
_THRESHOLD = 128

# If the grey masks of a clip never get brighter than this, they are labels, or 0 and 1, and no
# probabilities: otherwise every pixel of every frame would lie below 6 percent.
_MAX_LABEL_LIKE = 15

# How much the channels of a grey mask that was saved in color may differ, after a JPEG.
_CHANNEL_TOLERANCE = 8


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
  root = require_folder(path)
  numbering = image_numbering(root, first, spread, stride)
  bit = REGION_BITS[region]
  return PerClipSource(
    root,
    extensions=(),
    region_names=(region,),
    parameters={'format': 'grey', 'path': root, 'region': region} | numbering.parameters,
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
    values = _read_grey(self._files[mask], self.fitting)
    self._brightest = max(self._brightest, int(values.max()))
    bit = np.uint8(self._masks.bit)
    return self.fitting.scale(np.where(values > _THRESHOLD, bit, np.uint8(0)))

  def finish(self) -> None:
    """Raises a `ClipError` if no pixel of the clip is bright."""
    super().finish()
    if 0 < self._brightest <= _MAX_LABEL_LIKE:
      raise ClipError(
        f'{self._masks.folder}: no mask has a value above {self._brightest}, so these are labels, '
        'or 0 and 1, not grey from 0 to 255; give them as palette:PATH'
      )
    if 0 < self._brightest <= _THRESHOLD:
      self.remarks['masks never above 128'] = f'the brightest value is {self._brightest}'


def _read_grey(path: str, fitting: Fitting) -> np.ndarray:
  """Returns the u8[h, w] values of a grey image; those of a 1-bit image become 0 and 255."""
  modes = ('L', '1', 'RGB', 'P')
  values, mode, _ = read_pixels(path, fitting, modes, 'save it in grey, with 8 bits')
  if mode == 'P':
    raise ClipError(
      f'{path} is an image of mode P, whose values are labels and not grey; give it as palette:PATH'
    )
  if mode == '1':
    return np.where(values, np.uint8(255), np.uint8(0))
  if mode == 'RGB':
    if int(np.ptp(values, axis=2).max()) > _CHANNEL_TOLERANCE:
      raise ClipError(f'{path} is colored, not a grey mask; save it in grey, with 8 bits')
    return values[..., 0]
  return values
