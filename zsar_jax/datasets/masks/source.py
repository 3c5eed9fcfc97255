"""What every source of masks gives: `MaskSource` for a data set, `ClipMasks` for a clip."""

from collections.abc import Collection, Iterator
from typing import Protocol

import numpy as np

from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts

# What was noticed of a clip's masks: from a kind of remark, such as 'masks resized', to what it
# was here. The build report counts the kinds and names the clips.
Remarks = dict[str, str]


class ClipMasks(Protocol):
  """The masks of one clip, unread: a small frozen dataclass that pickles."""

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """The frames, from 0, that `planes` would have a plane for if all were kept.

    Args:
      num_frames: N, of the video.
      own: i64[N], the frames' own numbers where they are images of a folder; None of a file.

    Raises:
      records.ClipError: for masks that cannot be this video's.
    """

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """The K kept frames' planes, in order.

    Args:
      video: the decoded video.
      remarks: gets what is noticed, at the latest with the last plane.

    Yields:
      A frame's u8[H, W] region plane, or None for a frame that nobody annotated.

    Raises:
      records.ClipError: for a mask that cannot be read or cannot be this video's.
    """


class MaskSource(Protocol):
  """Masks of a whole data set.

  Attributes:
    region_names: which of `regions.REGION_BITS` the source may draw.
    parameters: what determines the planes besides the files, as JSON values.
  """

  region_names: tuple[str, ...]
  parameters: dict[str, object]

  def for_clip(self, clip: ListedClip) -> ClipMasks | None:
    """The masks of a clip, or None where there is none."""
