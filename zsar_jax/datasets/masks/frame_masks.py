"""The steps that the readers of all mask formats share.

A reader is a `FrameMasks`: it reads what is stored about a clip, matches the stored masks to the
video's frames, and has a `PlaneDrawer` draw the planes of the kept frames.
"""

import abc
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np

from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.skipped_shapes import SkippedShapes
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts

_Result = TypeVar('_Result')


class PlaneDrawer(abc.ABC):
  """Draws the planes of one clip's frames, in order.

  Attributes:
    video: the decoded video.
    remarks: receives the observations about the masks.
    fitting: checks the sizes of masks and scales them.
    skipped: counts the shapes that cannot be drawn.
  """

  def __init__(self, video: VideoFacts, remarks: Remarks):
    self.video = video
    self.remarks = remarks
    self.fitting = Fitting(video, remarks)
    self.skipped = SkippedShapes(remarks)

  @abc.abstractmethod
  def draw(self, mask: Any) -> np.ndarray | None:
    """Draws the plane of a frame.

    Args:
      mask: the value of the frame in the result of `FrameMasks.match`.

    Returns:
      u8[H, W] region plane, or None if the frame turns out not to be annotated.
    """

  def finish(self) -> None:
    """Checks the clip after its last mask; raises a `ClipError` if something is wrong."""
    self.skipped.check()

  def empty_plane(self) -> np.ndarray:
    """Returns u8[H, W] of zeros."""
    return np.zeros((self.video.height, self.video.width), np.uint8)


class BoxDrawer(PlaneDrawer):
  """Draws the planes of formats that have boxes, and also gives the boxes themselves."""

  @abc.abstractmethod
  def boxes(self, mask: Any) -> list[RegionBox] | None:
    """Reads the boxes of a frame, in pixels of the stored frame.

    Args:
      mask: see `draw`.

    Returns:
      The boxes, or None if the frame turns out not to be annotated.
    """


class FrameMasks(abc.ABC):
  """Base of the readers, each a `source.ClipMasks`."""

  @abc.abstractmethod
  def open(self) -> AbstractContextManager[Any]:
    """Returns a context manager that gives the stored masks of the clip."""

  @abc.abstractmethod
  def match(
    self, content: Any, num_frames: int, frame_numbers: np.ndarray | None, remarks: Remarks
  ) -> Mapping[int, Any]:
    """Finds the masks of the annotated frames.

    Args:
      content: the result of `open`.
      num_frames: see `annotated_frames`.
      frame_numbers: see `annotated_frames`.
      remarks: receives the observations about the masks.

    Returns:
      {frame, counted from 0: mask}. A mask is what `PlaneDrawer.draw` takes, and None for a frame
      in which a detector found nothing.

    Raises:
      ClipError: The masks cannot belong to this video.
    """

  @abc.abstractmethod
  def drawer(self, content: Any, video: VideoFacts, remarks: Remarks) -> PlaneDrawer:
    """Creates the drawer of the planes."""

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    with self.open() as content:
      return self.match(content, num_frames, frame_numbers, {})

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    with self.open() as content:
      drawer = self.drawer(content, video, remarks)
      yield from self._read(content, drawer, drawer.draw)

  def _read(
    self, content: Any, drawer: PlaneDrawer, read: Callable[[Any], _Result | None]
  ) -> Iterator[_Result | None]:
    """Yields what `read` returns for the mask of each kept frame, or None for one without mask."""
    video, remarks = drawer.video, drawer.remarks
    masks = self.match(content, video.num_frames, video.numbers, remarks)
    kept = video.kept.tolist()
    annotated = [frame for frame in kept if frame in masks]
    if len(annotated) < len(kept):
      remarks['frames without masks'] = f'{len(kept) - len(annotated)} of {len(kept)}'
    if without := sum(masks[frame] is None for frame in annotated):
      remarks['frames without a result'] = f'{without} of {len(annotated)}'
    for frame in kept:
      result = read(masks[frame]) if frame in masks else None
      if frame == kept[-1]:
        drawer.finish()
      yield result


class FrameBoxes(FrameMasks):
  """Base of the readers of formats that have boxes, each also a `boxes.ClipBoxes`."""

  @abc.abstractmethod
  def drawer(self, content: Any, video: VideoFacts, remarks: Remarks) -> BoxDrawer:
    """See `FrameMasks`."""

  def boxes(self, video: VideoFacts, remarks: Remarks) -> Iterator[list[RegionBox] | None]:
    """See `boxes.ClipBoxes`."""
    with self.open() as content:
      drawer = self.drawer(content, video, remarks)
      yield from self._read(content, drawer, drawer.boxes)
