"""The masks of a clip in a bucket, which are copied to this machine to be read."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from zsar_jax.datasets.borrowing import borrow
from zsar_jax.datasets.masks.source import ClipMasks, Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.storage import buckets


@dataclasses.dataclass(frozen=True)
class RemoteMasks:
  """The masks of a clip, a `source.ClipMasks` and a `boxes.ClipBoxes` if those it opens are.

  Each method makes a copy; within `local_masks` there is one for all of them.

  Attributes:
    url: the clip's folder or file.
    open: creates the clip's masks from the path of the copy.
    names: the files of the folder that are copied; empty for all of it.
  """

  url: str
  open: Callable[[str], Any]
  names: tuple[str, ...] = ()

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    with self.copied() as masks:
      return masks.annotated_frames(num_frames, frame_numbers)

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    with self.copied() as masks:
      yield from masks.planes(video, remarks)

  def boxes(self, video: VideoFacts, remarks: Remarks) -> Iterator[Any]:
    """See `boxes.ClipBoxes`."""
    with self.copied() as masks:
      yield from masks.boxes(video, remarks)

  @contextlib.contextmanager
  def copied(self) -> Iterator[Any]:
    """Yields the masks of a copy, which is deleted at the end."""
    with borrow(self.url, self.names) as copy:
      yield self.open(copy)


def masks_at(path: str, create: Callable[[str], Any], names: tuple[str, ...] = ()) -> Any:
  """Returns the masks of a clip at a path or URL.

  Args:
    path: the clip's folder or file.
    create: creates the masks from a path of this machine.
    names: see `RemoteMasks`.
  """
  return RemoteMasks(path, create, names) if buckets.is_url(path) else create(path)


@contextlib.contextmanager
def local_masks(masks: ClipMasks) -> Iterator[ClipMasks]:
  """Yields masks that are read from this machine: those of a copy, if they are in a bucket."""
  if isinstance(masks, RemoteMasks):
    with masks.copied() as copied:
      yield copied
  else:
    yield masks
