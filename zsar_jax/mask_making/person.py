"""The maker `person`: a network segments the people in every frame by itself."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zsar_jax.data import records
from zsar_jax.mask_making.maker import FrameMask, MakerClip
from zsar_jax.mask_making.person_models import People, PersonSegmenter, open_segmenter
from zsar_jax.recipes.regions import PERSON

# Apache-2.0, code and weights; 43.1 mask AP on COCO; 4.4 ms a frame on a T4, by its authors.
DEFAULT_MODEL = 'Roboflow/rf-detr-seg-small'

# Low, since a person who is missed stays in the background, and a false person only shrinks it.
DEFAULT_THRESHOLD = 0.3

# Threads that decode frames; more do not keep a GPU busier.
_DECODERS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class PersonSpec:
  """Creates the maker `person`; see `maker.MakerSpec`.

  Attributes:
    model: see `person_models.open_segmenter`.
    threshold: the lowest score of a person that is drawn, from 0 to 1.
    batch_frames: the number of frames in a batch.
    device: see `loading.choose_device`.
  """

  model: str = DEFAULT_MODEL
  threshold: float = DEFAULT_THRESHOLD
  batch_frames: int = 32
  device: str = 'auto'

  uses_device = True

  def open(self) -> 'PersonMaker':
    """Loads the network.

    Raises:
      UserError: it cannot be loaded, or knows no people.
    """
    segmenter = open_segmenter(
      self.model, threshold=self.threshold, flag='--person', device=self.device
    )
    return PersonMaker(segmenter, self.threshold, self.batch_frames)


class PersonMaker:
  """Draws all people of a frame into the region 'person'; see `maker.Maker`."""

  def __init__(self, segmenter: PersonSegmenter, threshold: float, batch: int):
    """Creates the maker.

    Args:
      segmenter: the network.
      threshold: the lowest score of a person, for the provenance.
      batch: the number of frames in a batch.
    """
    self._segmenter = segmenter
    self._threshold = threshold
    self._batch = batch

  @property
  def regions(self) -> tuple[str, ...]:
    """The region 'person'."""
    return ('person',)

  @property
  def provenance(self) -> dict[str, Any]:
    """See `Maker.provenance` and `LoadedModel.provenance`."""
    model = self._segmenter.provenance
    return {
      'maker': 'person',
      'about': f'people segmented in each frame by {model["model"]}',
      'licenses': self._segmenter.licenses,
      'threshold': self._threshold,
      **model,
    }

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask]:
    """Yields the masks of all frames of `clips`; see `Maker.make`."""
    jpegs = [jpeg for clip in clips for jpeg in clip.frames.jpegs]
    with concurrent.futures.ThreadPoolExecutor(_DECODERS) as pool:

      def decode(start: int) -> Iterator[np.ndarray]:
        return pool.map(records.decode_frame, jpegs[start : start + self._batch])

      following = decode(0)
      for start in range(0, len(jpegs), self._batch):
        frames = list(following)
        # While the network runs.
        following = decode(start + self._batch)
        for people in self._segmenter(frames):
          yield _frame_mask(people)


def _frame_mask(people: People) -> FrameMask:
  return FrameMask(
    plane=people.mask * np.uint8(PERSON),
    people=len(people.scores),
    score=float(people.scores.min()) if len(people.scores) else np.nan,
  )
