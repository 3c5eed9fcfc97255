"""Several sources of masks for one clip, and boxes around shapes."""

import dataclasses
from collections.abc import Collection, Iterator

import cv2
import numpy as np

from zsar_jax.datasets.masks.source import ClipMasks, Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import BOX_SHIFT, OBJECT, PERSON, REGION_BITS, UNKNOWN_SHIFT


@dataclasses.dataclass(frozen=True)
class CombinedMasks:
  """The masks of one clip from the sources that have masks of it, together.

  A frame is annotated only where each part annotates it: of a frame with an object's mask alone
  nobody knows where the person is, and painting its background would paint the person.

  Attributes:
    parts: at least one.
    boxes_from_shapes: whether boxes are drawn around the shapes; see `boxes_from_shapes`.
    unknown: regions that no part draws, and that are known of other clips.
  """

  parts: tuple[ClipMasks, ...]
  boxes_from_shapes: bool
  unknown: tuple[str, ...] = ()

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    return set.intersection(*(set(part.annotated_frames(num_frames, own)) for part in self.parts))

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`; remarks of a kind that several parts make are joined by '; '."""
    unknown = np.uint8(sum(REGION_BITS[name] for name in self.unknown) << UNKNOWN_SHIFT)
    before = dict(remarks)
    noticed = [{} for _ in self.parts]
    drawn = [part.planes(video, of_part) for part, of_part in zip(self.parts, noticed, strict=True)]
    for planes in zip(*drawn, strict=True):
      # Again for each frame, as nothing says which one a part remarks upon.
      remarks.update(_joined([before, *noticed]))
      if any(plane is None for plane in planes):
        yield None
        continue
      plane = np.bitwise_or.reduce(planes)
      yield (boxes_from_shapes(plane) if self.boxes_from_shapes else plane) | unknown


def boxes_from_shapes(plane: np.ndarray) -> np.ndarray:
  """Draws boxes around what is in a plane.

  Args:
    plane: u8[H, W] region plane.

  Returns:
    u8[H, W], the plane with a person box around each 8-connected piece of the person region, and
    an object box around each of the object region.
  """
  boxed = plane.copy()
  for shape in (PERSON, OBJECT):
    inside = (plane & shape).astype(bool).astype(np.uint8)
    _, _, pieces, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    for left, top, width, height, _ in pieces[1:].tolist():  # The first is what is outside.
      boxed[top : top + height, left : left + width] |= np.uint8(shape << BOX_SHIFT)
  return boxed


def _joined(all_remarks: list[Remarks]) -> Remarks:
  kinds = dict.fromkeys(kind for remarks in all_remarks for kind in remarks)
  return {
    kind: '; '.join(remarks[kind] for remarks in all_remarks if kind in remarks) for kind in kinds
  }
