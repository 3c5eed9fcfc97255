"""The schema of a batch: the arrays that pass from the input pipeline to the devices.

A batch is a dict of arrays. `FIELDS` describes those that every batch has, `TRAINING_FIELDS` those
that training adds, and `INPAINTED_FIELDS` those of recipes that show frames without their people.
In an evaluation that pairs clips, a batch also has `PARTNER_FIELDS`, with the prefix `PARTNER`.
Letters in shapes: B clips, T frames, S x S pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray]
# A single clip of a batch: arrays, and NumPy's scalars in the fields without further dimensions.
BatchClip = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Field:
  """One array of a batch, or of a single clip without the first dimension.

  Attributes:
    dtype: the dtype of the array.
    shape: the shape of the array, with letters for sizes that a config sets.
    meaning: the content of the array.
    padding: the value in clips that only fill up the last batch of an evaluation.
  """

  dtype: Any
  shape: tuple[str | int, ...]
  meaning: str
  padding: int = 0

  def sizes(self, **letters: int) -> tuple[int, ...]:
    """Returns the shape with each letter replaced by its size, such as T=8."""
    return tuple(letters[size] if isinstance(size, str) else size for size in self.shape)


FIELDS = {
  'frames': Field(np.uint8, ('B', 'T', 'S', 'S', 3), 'RGB'),
  'regions': Field(np.uint8, ('B', 'T', 'S', 'S'), "region planes, with the frames' geometry"),
  'annotated': Field(np.bool_, ('B', 'T'), 'whether the region plane of a frame is known'),
  'label': Field(np.int32, ('B',), "the class: a position in the subset's vocabulary"),
  'seed': Field(np.uint32, ('B',), "the clip's random number, for everything random on the device"),
  'clip': Field(np.int32, ('B',), "the clip's position in the subset", padding=-1),
  'weight': Field(np.float32, ('B',), '1, or 0 for padding'),
}

TRAINING_FIELDS = {
  'replaced': Field(
    np.int32,
    ('B',),
    'the position of a clip that does not decode and that this clip replaces; -1 without one',
    padding=-1,
  ),
  'stop': Field(np.bool_, ('B',), 'whether a signal asks the host of this clip to stop'),
}

INPAINTED_FIELDS = {
  'inpainted': Field(
    np.uint8,
    ('B', 'T', 'S', 'S', 3),
    'RGB, the frames without their people; a frame itself if it shows nobody or is not annotated',
  ),
}

PARTNER = 'partner_'
PARTNER_FIELDS = ('frames', 'regions', 'annotated')


def fields(
  training: bool = False,
  partners: bool = False,
  inpainted: bool = False,
  partners_inpainted: bool = False,
) -> dict[str, Field]:
  """Returns the fields of a batch.

  Args:
    training: whether the batch is one of training.
    partners: whether each clip comes with a partner.
    inpainted: whether it comes with its inpainted frames.
    partners_inpainted: whether the partners do.
  """
  chosen = FIELDS | (TRAINING_FIELDS if training else {})
  chosen |= INPAINTED_FIELDS if inpainted else {}
  if partners:
    chosen |= as_partner(FIELDS | (INPAINTED_FIELDS if partners_inpainted else {}))
  return chosen


def as_partner(clip: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what a clip contributes to a batch as the partner of another, by field."""
  names = (*PARTNER_FIELDS, *INPAINTED_FIELDS)
  return {f'{PARTNER}{name}': clip[name] for name in names if name in clip}


def padding_clip(num_frames: int, size: int, inpainted: bool = False) -> BatchClip:
  """Returns the clip that fills up the last batch of an evaluation.

  Args:
    num_frames: T.
    size: S.
    inpainted: whether clips come with their inpainted frames.
  """
  return {
    name: np.full(field.sizes(B=1, T=num_frames, S=size)[1:], field.padding, field.dtype)[()]
    for name, field in fields(inpainted=inpainted).items()
  }
