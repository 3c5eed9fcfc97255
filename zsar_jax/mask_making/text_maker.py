"""The maker `text`: shapes of what words name, such as 'person' or the nouns of a clip's label.

A detector finds boxes for the phrases of each clip, and SAM 2.1 segments what they enclose. SAM 3
does both.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.errors import UserError
from zsar_jax.mask_making import box_shapes, sam3_text
from zsar_jax.mask_making.licenses import join_licenses
from zsar_jax.mask_making.loading import LoadedModel, load_model
from zsar_jax.mask_making.maker import FrameMask, MakerClip
from zsar_jax.mask_making.phrases import drawn_regions
from zsar_jax.mask_making.sam_boxes import open_box_segmenter
from zsar_jax.mask_making.text_detectors import (
  DETECTORS,
  Detections,
  Detector,
  create_detector,
)

_NAMES = {
  'grounding-dino': 'Grounding DINO',
  'mm-grounding-dino': 'MM-Grounding-DINO',
  'owlv2': 'OWLv2',
  'owlvit': 'OWL-ViT',
}

# Detectors without non-maximum suppression, as OWLv2, return many boxes for a thing, and phrases
# such as 'person' and 'man' name the same thing. Of two boxes of a region with a larger
# intersection over union, the one with the lower score is removed.
_MAX_OVERLAP = 0.7

# A box for an object with this share of the frame's area is removed if its phrase has a smaller box
# in the frame: detectors return it for a thing that they cannot locate. The only box is kept, since
# things are held close to the camera.
_FRAME_SHARE = 0.9

# The most boxes in a frame, those with the highest scores. It bounds the memory.
_MAX_BOXES = 50

# Makes the masks of a batch of frames u8[H, W, 3] for {phrase: region}.
_Segment = Callable[[Sequence[np.ndarray], Mapping[str, str]], list[FrameMask]]


@dataclasses.dataclass(frozen=True)
class TextSpec:
  """Creates a `TextMaker`; see `maker.MakerSpec`.

  Attributes:
    detector: a Grounding DINO, OWLv2, OWL-ViT or SAM 3, see `loading.load_model`.
    words: 'placeholders' or phrases, see `phrases.drawn_regions`. They determine the regions; what
      to look for in a clip is `MakerClip.phrases`.
    segmenter: a SAM 2.1, see `loading.load_model`; None with SAM 3.
    threshold: the lowest score of a box, or of SAM 3's instances, from 0 to 1; None for that of the
      model: 0.25 for Grounding DINO, 0.1 for OWL, 0.3 for SAM 3.
    accept_license: whether the user accepts the license of SAM 3.
    batch_frames: the number of frames in a batch.
    device: see `loading.choose_device`.
  """

  detector: str
  words: str
  segmenter: str | None = None
  threshold: float | None = None
  accept_license: bool = False
  batch_frames: int = 8
  device: str = 'auto'

  uses_device = True

  def open(self) -> 'TextMaker':
    """See `maker.MakerSpec`."""
    regions = drawn_regions(self.words)
    field = f'--text={self.detector}'
    families = DETECTORS | sam3_text.SAM3_MODELS
    loaded = load_model(self.detector, families, flag='--text', device=self.device)
    if loaded.config['model_type'] in sam3_text.SAM3_MODELS:
      if self.segmenter is not None:
        raise UserError(f'--object: {field} segments without another model; leave out --object')
      if not self.accept_license:
        raise UserError(
          f'{field}: is published under the SAM License, which excludes some uses and asks'
          ' publications to acknowledge it; read it, and give --accept-license if you accept it'
        )
      return self._sam3_maker(loaded, regions)
    if self.segmenter is None:
      raise UserError(
        f'{field}: returns boxes; give the model that segments what they enclose, such as'
        ' --object=facebook/sam2.1-hiera-small'
      )
    return self._boxed_maker(loaded, regions, self.segmenter)

  def _sam3_maker(self, loaded: LoadedModel, regions: tuple[str, ...]) -> 'TextMaker':
    threshold = sam3_text.THRESHOLD if self.threshold is None else self.threshold
    provenance = {
      'about': 'shapes of words, by SAM 3',
      **loaded.provenance,
      'licenses': loaded.licenses,
    }
    return self._maker(sam3_text.Sam3Segmenter(loaded, threshold), regions, threshold, provenance)

  def _boxed_maker(
    self, loaded: LoadedModel, regions: tuple[str, ...], segmenter_name: str
  ) -> 'TextMaker':
    detector, threshold = create_detector(loaded, self.threshold)
    segmenter = open_box_segmenter(segmenter_name, flag='--object', device=self.device)
    identity = dict(segmenter.provenance)
    licenses = identity.pop('licenses')
    identity.pop('notes')  # The same as the detector's.
    name = _NAMES[loaded.config['model_type']]
    provenance = {
      'about': f'shapes in the boxes of words, by {name} and SAM 2.1',
      **loaded.provenance,
      'segmenter': identity,
      'licenses': join_licenses(loaded.licenses, licenses),
      'max_overlap': _MAX_OVERLAP,
      'frame_share': _FRAME_SHARE,
      'max_boxes': _MAX_BOXES,
      **box_shapes.SETTINGS,
    }
    segment = BoxedWords(detector, segmenter)
    return self._maker(segment, regions, threshold, provenance)

  def _maker(
    self,
    segment: _Segment,
    regions: tuple[str, ...],
    threshold: float,
    provenance: Mapping[str, Any],
  ) -> 'TextMaker':
    shared = {'maker': 'text', 'words': self.words, 'threshold': threshold}
    return TextMaker(segment, regions, {**shared, **provenance}, self.batch_frames)


class TextMaker:
  """Masks what the phrases of clips name; a frame in which nothing is found has an empty mask."""

  def __init__(
    self,
    segment: _Segment,
    regions: tuple[str, ...],
    provenance: dict[str, Any],
    batch_frames: int,
  ):
    self.regions, self.provenance = regions, provenance
    self._segment, self._batch_frames = segment, batch_frames

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask]:
    """See `maker.Maker`."""
    for (phrases, _), group in itertools.groupby(clips, _kind):
      frames = itertools.chain.from_iterable(clip.frames for clip in group)
      while batch := list(itertools.islice(frames, self._batch_frames)):
        if phrases:
          yield from self._segment(batch, dict(phrases))
        else:
          yield from (FrameMask(np.zeros(frame.shape[:2], np.uint8), people=0) for frame in batch)


def _kind(clip: MakerClip) -> tuple[list[tuple[str, str]], tuple[int, int]]:
  """Returns what clips have in common whose frames are in a batch: phrases in order, and size.

  Grounding DINO pads smaller frames to the largest of a batch, which costs time and accuracy.
  """
  return list((clip.phrases or {}).items()), (clip.facts.height, clip.facts.width)


class BoxedWords:
  """Detects phrases and segments what their boxes enclose."""

  def __init__(self, detector: Detector, segmenter: box_shapes.Segmenter):
    self._detector, self._segmenter = detector, segmenter

  def __call__(self, frames: Sequence[np.ndarray], phrases: Mapping[str, str]) -> list[FrameMask]:
    """Makes the masks of a batch of frames.

    Args:
      frames: u8[H, W, 3] each, RGB; they may differ in size.
      phrases: {phrase: 'person' or 'object'}.
    """
    regions = list(phrases.values())
    boxes = [
      select_boxes(detections, regions, *frame.shape[:2])
      for frame, detections in zip(frames, self._detector(frames, list(phrases)), strict=True)
    ]
    return box_shapes.segment_boxes(self._segmenter, frames, boxes)


def select_boxes(
  detections: Detections, regions: Sequence[str], height: int, width: int
) -> list[RegionBox]:
  """Returns the boxes to segment in a frame, highest score first.

  Args:
    detections: those of the frame.
    regions: 'person' or 'object' for each phrase.
    height: of the frame in pixels.
    width: of the frame in pixels.
  """
  import torch
  import torchvision

  boxes = np.clip(detections.boxes, 0, [width, height, width, height])
  areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  is_object = np.array([region == 'object' for region in regions])[detections.phrases]
  fills = is_object & (areas >= _FRAME_SHARE * height * width)
  located = np.isin(detections.phrases, detections.phrases[~fills])
  used = np.flatnonzero(~(fills & located))
  kept = torchvision.ops.batched_nms(
    torch.from_numpy(boxes[used]),
    torch.from_numpy(detections.scores[used]),
    torch.from_numpy(is_object[used].astype(np.int64)),
    _MAX_OVERLAP,
  )
  selected = []
  for index in used[kept.numpy()[:_MAX_BOXES]]:
    x1, y1, x2, y2 = map(float, boxes[index])
    region, score = regions[detections.phrases[index]], float(detections.scores[index])
    selected.append(RegionBox(region, x1, y1, x2, y2, score))
  return selected
