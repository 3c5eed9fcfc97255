"""The schema of a batch: the arrays that pass from the input pipeline to the devices.

A batch is a dict of arrays. `FIELDS` describes those that every batch has, and `TRAINING_FIELDS`
those that training adds. In an evaluation that pairs clips, a batch also has `PARTNER_FIELDS`, with
the prefix `PARTNER`. Letters in shapes: B clips, T frames, S x S pixels.
"""

import dataclasses
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

PARTNER = 'partner_'
PARTNER_FIELDS = ('frames', 'regions', 'annotated')


def fields(training: bool = False, partners: bool = False) -> dict[str, Field]:
  """Returns the fields of a batch.

  Args:
    training: whether the batch is one of training.
    partners: whether each clip comes with a partner.
  """
  chosen = FIELDS | (TRAINING_FIELDS if training else {})
  if partners:
    chosen |= {f'{PARTNER}{name}': FIELDS[name] for name in PARTNER_FIELDS}
  return chosen


def padding_clip(num_frames: int, size: int) -> BatchClip:
  """Returns the clip that fills up the last batch of an evaluation.

  Args:
    num_frames: T.
    size: S.
  """
  return {
    name: np.full(field.sizes(B=1, T=num_frames, S=size)[1:], field.padding, field.dtype)[()]
    for name, field in FIELDS.items()
  }
