"""A box around a person or an object."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RegionBox:
  """A box in a frame.

  Attributes:
    region: 'person' or 'object', what the box encloses. Hands count as persons.
    x1: the left edge in pixels.
    y1: the upper edge in pixels.
    x2: the right edge in pixels, exclusive.
    y2: the lower edge in pixels, exclusive.
    score: the confidence of the detector, from 0 to 1; 1 for an annotation.
  """

  region: str
  x1: float
  y1: float
  x2: float
  y2: float
  score: float = 1.0
