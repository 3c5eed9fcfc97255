"""The maker `boxes`: shapes of what given boxes enclose, by the image model of SAM 2.1."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.mask_making import box_shapes
from zsar_jax.mask_making.maker import FrameMask, MakerClip
from zsar_jax.mask_making.sam_boxes import BoxSegmenter, open_box_segmenter
from zsar_jax.recipes.regions import REGION_BITS


@dataclasses.dataclass(frozen=True)
class BoxesSpec:
  """Creates a `BoxMaker`; see `maker.MakerSpec`.

  Attributes:
    model: the checkpoint of SAM 2.1, see `loading.load_model`.
    regions: the regions that the boxes can have, of 'person' and 'object'.
    batch_frames: the number of frames in a batch.
    device: see `loading.choose_device`.
  """

  model: str
  regions: tuple[str, ...]
  batch_frames: int = 16
  device: str = 'auto'

  uses_device = True

  def open(self) -> 'BoxMaker':
    """See `maker.MakerSpec`."""
    return BoxMaker(self, open_box_segmenter(self.model, flag='--object', device=self.device))


class BoxMaker:
  """Segments the boxes of clips; a frame that nobody annotated stays unknown."""

  def __init__(self, spec: BoxesSpec, segmenter: BoxSegmenter):
    self.regions = spec.regions
    self.provenance: dict[str, Any] = {
      'maker': 'boxes',
      'about': f'shapes in given boxes, by {segmenter.provenance["model"]}',
      **segmenter.provenance,
      **box_shapes.SETTINGS,
    }
    self._segmenter, self._batch_frames = segmenter, spec.batch_frames

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask | None]:
    """See `maker.Maker`."""
    # Frames without boxes cost nothing, so a batch may span many of them.
    batch: list[tuple[MakerClip, int]] = []
    num_boxed = 0
    for clip in clips:
      assert clip.boxes is not None
      for index, boxes in enumerate(clip.boxes):
        batch.append((clip, index))
        num_boxed += bool(boxes)
        if num_boxed == self._batch_frames:
          yield from self._make_batch(batch)
          batch, num_boxed = [], 0
    yield from self._make_batch(batch)

  def _make_batch(self, batch: Sequence[tuple[MakerClip, int]]) -> Iterator[FrameMask | None]:
    boxes = [clip.boxes[index] if clip.boxes else None for clip, index in batch]
    boxed = [number for number, own in enumerate(boxes) if own]
    masks = box_shapes.segment_boxes(
      self._segmenter,
      [batch[number][0].frames[batch[number][1]] for number in boxed],
      [boxes[number] or () for number in boxed],
    )
    masks_by_number = dict(zip(boxed, masks, strict=True))
    for number, own in enumerate(boxes):
      facts = batch[number][0].facts
      if own is None:
        yield None
      elif number in masks_by_number:
        yield dataclasses.replace(masks_by_number[number], absent=self._absent(own))
      else:
        plane = np.zeros((facts.height, facts.width), np.uint8)
        yield FrameMask(plane, people=0, absent=self._absent(own))

  def _absent(self, boxes: Sequence[RegionBox]) -> int:
    """Returns the bits of the regions without a box in a frame."""
    boxed = {box.region for box in boxes}
    return sum(REGION_BITS[region] for region in self.regions if region not in boxed)
