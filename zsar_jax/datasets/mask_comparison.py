"""Compares masks with masks that are trusted: region overlap, boundaries, missed and added area.

Per region and frame, IoU and boundary F are the measures J and F of DAVIS (Perazzi et al., CVPR
2016). The values of a clip are means over the frames that both masks annotate. A frame in which
both are empty counts as 1.
"""

import dataclasses
import heapq
import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.remote import local_masks
from zsar_jax.datasets.masks.source import ClipMasks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.recipes.regions import REGION_BITS

# The distance at which boundaries match, as a share of the frame's diagonal: that of DAVIS.
_TOLERANCE = 0.008

# The number of frames of a clip that are named and drawn as its worst.
_WORST_FRAMES = 4

MEASURES = ('iou', 'boundary_f', 'missed', 'added')


@dataclasses.dataclass(frozen=True)
class FrameAgreement:
  """How the mask of a frame agrees with the reference.

  Attributes:
    iou: the area of the intersection, as a share of that of the union.
    boundary_f: the harmonic mean of the shares of both boundaries that lie near the other one.
    mask: the area of the mask in pixels.
    reference: the area of the reference in pixels.
    common: the area of the intersection in pixels.
  """

  iou: float
  boundary_f: float
  mask: int
  reference: int
  common: int


def compare_frame(mask: np.ndarray, reference: np.ndarray) -> FrameAgreement:
  """Compares the masks bool[H, W] of a region in a frame."""
  areas = [int(np.count_nonzero(part)) for part in (mask, reference, mask & reference)]
  union = areas[0] + areas[1] - areas[2]
  iou = areas[2] / union if union else 1.0
  return FrameAgreement(iou, boundary_f(mask, reference), *areas)


def boundary_f(mask: np.ndarray, reference: np.ndarray) -> float:
  """Returns DAVIS' F of the boundaries of two masks bool[H, W].

  Precision is the share of the mask's boundary pixels that lie within `_TOLERANCE` of one of the
  reference's; recall is the same with both exchanged. Without a boundary in either, F is 1, and
  without one in one of them, 0. The source is `db_eval_boundary` of
  github.com/fperazzi/davis-2017.
  """
  radius = math.ceil(_TOLERANCE * math.hypot(*mask.shape))
  left, top, width, height = cv2.boundingRect((mask | reference).astype(np.uint8))
  # Nothing beyond this margin changes the result, and most masks are small.
  margin = radius + 2
  window = (
    slice(max(0, top - margin), top + height + margin),
    slice(max(0, left - margin), left + width + margin),
  )
  boundaries = [_boundary(part[window]).astype(np.uint8) for part in (mask, reference)]
  if not boundaries[0].any() and not boundaries[1].any():
    return 1.0
  offsets = np.arange(-radius, radius + 1)
  disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
  shares = []
  for own, other in (boundaries, boundaries[::-1]):
    near = cv2.dilate(other, disk) * own
    shares.append(int(np.count_nonzero(near)) / max(1, int(np.count_nonzero(own))))
  return 2 * shares[0] * shares[1] / sum(shares) if all(shares) else 0.0


def _boundary(mask: np.ndarray) -> np.ndarray:
  """Returns bool[H, W], the pixels that differ from the next pixel to the right, below or both."""
  padded = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
  right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
  return (mask ^ right) | (mask ^ below) | (mask ^ diagonal)


@dataclasses.dataclass(frozen=True)
class ComparisonTask:
  """A clip that two sources have masks of. It pickles.

  Attributes:
    clip: the clip.
    masks: the masks to measure.
    reference: the masks that are trusted.
    regions: the names of the regions to compare, in `regions.REGION_BITS`.
    storage: which frames and pixels to compare.
  """

  clip: ListedClip
  masks: ClipMasks
  reference: ClipMasks
  regions: tuple[str, ...]
  storage: Storage


@dataclasses.dataclass(frozen=True)
class RegionComparison:
  """The comparison of a region in a clip.

  Attributes:
    iou: the mean over frames, see `FrameAgreement`.
    boundary_f: the mean over frames.
    missed: the area that only the reference has, as a share of the reference's, over all frames;
      0 if the reference is empty.
    added: the area that only the mask has, as a share of the mask's; 0 if the mask is empty.
    worst_frames: the numbers of the frames with the lowest IoU below 1, the lowest first.
  """

  iou: float
  boundary_f: float
  missed: float
  added: float
  worst_frames: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ClipComparison:
  """The comparison of a clip.

  Attributes:
    name: the clip.
    frames: the number of frames that both masks annotate.
    only_masks: the number of frames that only the masks annotate.
    only_reference: the number of frames that only the reference annotates.
    regions: by region; empty if no frame is annotated by both.
    failure: why the clip cannot be compared, or None.
  """

  name: str
  frames: int = 0
  only_masks: int = 0
  only_reference: int = 0
  regions: dict[str, RegionComparison] = dataclasses.field(default_factory=dict)
  failure: str | None = None

  def to_json(self) -> dict[str, Any]:
    """Returns the figures as JSON values, with 4 digits after the point."""
    return {
      'frames': self.frames,
      'only_masks': self.only_masks,
      'only_reference': self.only_reference,
      'regions': {
        region: {name: round(getattr(comparison, name), 4) for name in MEASURES}
        | {'worst_frames': list(comparison.worst_frames)}
        for region, comparison in self.regions.items()
      },
    }


class _RegionSums:
  """Sums up the frames of a region."""

  def __init__(self):
    self.iou = self.boundary_f = 0.0
    self.mask = self.reference = self.common = 0
    # (-IoU, -number): a heap whose smallest item is the best of the worst frames.
    self.worst: list[tuple[float, int]] = []

  def add(self, number: int, frame: FrameAgreement) -> None:
    """Adds the frame with a number."""
    self.iou += frame.iou
    self.boundary_f += frame.boundary_f
    self.mask += frame.mask
    self.reference += frame.reference
    self.common += frame.common
    if frame.iou < 1:
      heapq.heappush(self.worst, (-frame.iou, -number))
      if len(self.worst) > _WORST_FRAMES:
        heapq.heappop(self.worst)

  def comparison(self, frames: int) -> RegionComparison:
    """Returns the result for a number of frames."""
    return RegionComparison(
      iou=self.iou / frames,
      boundary_f=self.boundary_f / frames,
      missed=1 - self.common / self.reference if self.reference else 0.0,
      added=1 - self.common / self.mask if self.mask else 0.0,
      worst_frames=tuple(-number for _, number in sorted(self.worst, reverse=True)),
    )


def compare_clip(task: ComparisonTask) -> ClipComparison:
  """Compares the masks of a clip; a video or masks that cannot be read are its `failure`."""
  sums = {region: _RegionSums() for region in task.regions}
  frames = only_masks = only_reference = 0
  try:
    for number, _, masks, reference in iterate_planes(task):
      if masks is None or reference is None:
        only_masks += masks is not None
        only_reference += reference is not None
        continue
      frames += 1
      for region in task.regions:
        bit = REGION_BITS[region]
        sums[region].add(number, compare_frame(masks & bit > 0, reference & bit > 0))
  except ClipError as error:
    return ClipComparison(task.clip.name, failure=error.reason)
  regions = {region: total.comparison(frames) for region, total in sums.items()} if frames else {}
  return ClipComparison(task.clip.name, frames, only_masks, only_reference, regions)


def iterate_planes(
  task: ComparisonTask,
) -> Iterator[tuple[int, bytes, np.ndarray | None, np.ndarray | None]]:
  """Reads the kept frames of a clip with both of their planes, one after another.

  Yields:
    The number of the frame in the video, its JPEG, and its planes u8[H, W] in the masks and in the
    reference; None for a plane that is not annotated.

  Raises:
    records.ClipError: the video or its masks cannot be read.
  """

  with local_masks(task.masks) as masks, local_masks(task.reference) as reference:
    yield from _iterate(dataclasses.replace(task, masks=masks, reference=reference))


def _iterate(
  task: ComparisonTask,
) -> Iterator[tuple[int, bytes, np.ndarray | None, np.ndarray | None]]:
  """`iterate_planes` for masks on this machine."""

  def annotated(num_frames: int, numbers: np.ndarray | None) -> set[int]:
    sides = [
      set(side.annotated_frames(num_frames, numbers)) for side in (task.masks, task.reference)
    ]
    return sides[0] & sides[1]

  video = read_video(task.clip.path, task.storage, annotated=annotated)
  planes = [side.planes(video.facts, {}) for side in (task.masks, task.reference)]
  yield from zip(video.facts.kept.tolist(), video.jpegs, *planes, strict=True)
