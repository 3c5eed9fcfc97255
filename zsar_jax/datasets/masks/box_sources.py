"""Opens the boxes named on a command line: files of Something-Else, COCO's or YOLO's."""

import contextlib
import dataclasses
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.boxes import BoxSource, RegionBox
from zsar_jax.datasets.masks.frame_masks import FrameBoxes
from zsar_jax.datasets.masks.remote import RemoteMasks
from zsar_jax.datasets.masks.something_else import SomethingElseBoxes
from zsar_jax.datasets.masks.source import MaskSource, Remarks
from zsar_jax.datasets.masks.spec import FORMATS, open_masks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError

# The formats of masks that have boxes.
_FORMATS = ('coco', 'yolo')


def open_boxes(texts: Sequence[str], clip_ids: Container[str]) -> BoxSource:
  """Opens the boxes that the values of `--boxes` name.

  Args:
    texts: the JSON files of Something-Else; or 'coco:PATH' or 'yolo:PATH' alone, with the options
      that these have as masks. There, `values` may name shapes or boxes; by default, people are
      read. The boxes of shapes are read too.
    clip_ids: the listed clips.

  Raises:
    UserError: The format has no boxes, an option is unknown or wrong, or a file cannot be read.
  """
  name, colon, _ = texts[0].partition(':')
  if not colon or name not in FORMATS:
    return _FileBoxes(SomethingElseBoxes(texts, clip_ids))
  if name not in _FORMATS:
    raise UserError(
      f'--boxes: {texts[0]!r}: {name} files have no boxes; give coco:PATH, yolo:PATH or the JSON'
      ' files of Something-Else'
    )
  if len(texts) > 1:
    raise UserError(f'--boxes: {texts[0]!r} must be the only value; leave out {texts[1]!r}')
  with _naming_boxes():
    return _FileBoxes(open_masks(texts[0]))


class _FileBoxes:
  """A `boxes.BoxSource`.

  Attributes:
    region_names: see `boxes.BoxSource`.
    parameters: see `boxes.BoxSource`.
  """

  def __init__(self, source: MaskSource):
    """Wraps a source whose masks are `FrameBoxes`."""
    drawn = {name.removesuffix('_box') for name in source.region_names}
    self.region_names = tuple(name for name in ('person', 'object') if name in drawn)
    self.parameters: Mapping[str, Any] = source.parameters
    self._source = source

  def for_clip(self, clip: ListedClip) -> '_FileClipBoxes | None':
    """See `boxes.BoxSource`."""
    with _naming_boxes():
      masks = self._source.for_clip(clip)
    if masks is None:
      return None
    assert isinstance(masks, FrameBoxes | RemoteMasks)
    return _FileClipBoxes(masks)


@dataclasses.dataclass(frozen=True)
class _FileClipBoxes:
  """A `boxes.ClipBoxes`.

  Attributes:
    masks: reads the boxes.
  """

  masks: FrameBoxes | RemoteMasks

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """See `boxes.ClipBoxes`."""
    with _naming_boxes():
      return self.masks.annotated_frames(num_frames, frame_numbers)

  def boxes(self, video: VideoFacts, remarks: Remarks) -> Iterator[list[RegionBox] | None]:
    """See `boxes.ClipBoxes`."""
    with _naming_boxes():
      yield from self.masks.boxes(video, remarks)


@contextlib.contextmanager
def _naming_boxes() -> Iterator[None]:
  """Has errors name the flag `--boxes`; the readers of masks name `--masks`."""
  try:
    yield
  except ClipError as error:
    raise ClipError(error.reason.replace('--masks', '--boxes'), error.missing) from None
  except UserError as error:
    raise UserError(str(error).replace('--masks', '--boxes')) from None
