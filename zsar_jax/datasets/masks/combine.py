"""Combines the masks of several sources for one clip, and draws boxes around shapes."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator

import cv2
import numpy as np

from zsar_jax.datasets.masks.made import MadeMasks
from zsar_jax.datasets.masks.made_files import MadeFrame
from zsar_jax.datasets.masks.remote import local_masks
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

  @contextlib.contextmanager
  def copied(self) -> Iterator['CombinedMasks']:
    """Yields the masks with copies of those in buckets, which are deleted at the end."""
    with contextlib.ExitStack() as stack:
      parts = tuple(stack.enter_context(local_masks(part)) for part in self.parts)
      yield dataclasses.replace(self, parts=parts)

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
    """Reads the K kept frames without their people, in order; None if no part has them.

    Only one source of a data set has them. The arguments are those of `made.MadeMasks.inpainted`.

    Raises:
      records.ClipError: A frame is damaged.
    """
    for part in self.parts:
      if isinstance(part, MadeMasks) and part.has_inpainted:
        return part.inpainted(video, jpeg_quality, remarks)
    return None

  def made_frames(self, video: VideoFacts) -> Iterator[MadeFrame | None]:
    """Yields what the parts that were made here know about the kept frames, besides the planes.

    Of several parts that know a frame, the most people, the lowest score and the largest share
    outside of boxes count. Without such parts, there is nothing to yield.

    Args:
      video: the decoded video.

    Raises:
      records.ClipError: The masks cannot be read, or cannot belong to this video.
    """
    parts = [part.frames(video) for part in self.parts if isinstance(part, MadeMasks)]
    return map(_merge_made, *parts) if parts else iter(())


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


def _merge_made(*frames: MadeFrame | None) -> MadeFrame | None:
  known = [frame for frame in frames if frame is not None]
  if not known:
    return None
  return MadeFrame(
    plane=b'',
    people=max(frame.people for frame in known),
    score=float(np.fmin.reduce([frame.score for frame in known])),
    outside=float(np.fmax.reduce([frame.outside for frame in known])),
    absent=int(np.bitwise_or.reduce([frame.absent for frame in known])),
  )


def _join_remarks(all_remarks: list[Remarks]) -> Remarks:
  joined: dict[str, dict[str, None]] = {}
  for remarks in all_remarks:
    for kind, details in remarks.items():
      # Several sources remark the same on a video.
      joined.setdefault(kind, {})[details] = None
  return {kind: '; '.join(details) for kind, details in joined.items()}
