"""Combines the masks of several sources for one clip, and draws boxes around shapes."""

import dataclasses
from collections.abc import Collection, Iterator

import cv2
import numpy as np

from zsar_jax.datasets.masks.source import ClipMasks, Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import BOX_SHIFT, OBJECT, PERSON, REGION_BITS, UNKNOWN_SHIFT


@dataclasses.dataclass(frozen=True)
class CombinedMasks:
  """The masks of one clip from all sources that have any.

  A frame is annotated only if every part annotates it: in a frame with an object's mask alone, the
  position of the person is unknown, and painting the background would paint the person.

  Attributes:
    parts: the masks of each source; at least one.
    boxes_from_shapes: whether boxes are drawn around the shapes; see `boxes_from_shapes`.
    unknown: regions that no part draws but that other clips have.
  """

  parts: tuple[ClipMasks, ...]
  boxes_from_shapes: bool
  unknown: tuple[str, ...] = ()

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    frames = (set(part.annotated_frames(num_frames, frame_numbers)) for part in self.parts)
    return set.intersection(*frames)

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`; remarks of the same kind from several parts are joined by '; '."""
    unknown = np.uint8(sum(REGION_BITS[name] for name in self.unknown) << UNKNOWN_SHIFT)
    before = dict(remarks)
    part_remarks: list[Remarks] = [{} for _ in self.parts]
    iterators = [
      part.planes(video, its_remarks)
      for part, its_remarks in zip(self.parts, part_remarks, strict=True)
    ]
    for planes in zip(*iterators, strict=True):
      # After each frame, because a part may add a remark at any of them.
      remarks.update(_join_remarks([before, *part_remarks]))
      if any(plane is None for plane in planes):
        yield None
        continue
      plane = np.bitwise_or.reduce(planes)
      yield (boxes_from_shapes(plane) if self.boxes_from_shapes else plane) | unknown

  def inpainted(
    self, video: VideoFacts, jpeg_quality: int, remarks: Remarks
  ) -> Iterator[bytes] | None:
    """See `source.ClipMasks`; at most one part has inpainted frames."""
    for part in self.parts:
      frames = part.inpainted(video, jpeg_quality, remarks)
      if frames is not None:
        return frames
    return None


def boxes_from_shapes(plane: np.ndarray) -> np.ndarray:
  """Draws boxes around the shapes in a plane.

  Args:
    plane: u8[H, W] region plane.

  Returns:
    u8[H, W], the plane with a person box around each 8-connected component of the person region,
    and an object box around each component of the object region.
  """
  boxed = plane.copy()
  for shape in (PERSON, OBJECT):
    inside = (plane & shape).astype(bool).astype(np.uint8)
    _, _, components, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    for left, top, width, height, _ in components[1:].tolist():  # The first is the outside.
      boxed[top : top + height, left : left + width] |= np.uint8(shape << BOX_SHIFT)
  return boxed


def _join_remarks(all_remarks: list[Remarks]) -> Remarks:
  kinds = dict.fromkeys(kind for remarks in all_remarks for kind in remarks)
  return {
    kind: '; '.join(remarks[kind] for remarks in all_remarks if kind in remarks) for kind in kinds
  }
