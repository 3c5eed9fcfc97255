"""Maps the labels in masks to regions.

A mapping `bits` goes from labels in digits to the bits of their regions; '*' stands for all labels
that it does not name.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.recipes.regions import BOX_SHIFT, OBJECT, PERSON, PERSON_BOX, REGION_BITS


def label_bit(bits: Mapping[str, int], label: int) -> int:
  """Returns the bit of a label's region, or 0 if it belongs to none."""
  return bits.get(str(label), bits.get('*', 0))


def draw_labels(labels: np.ndarray, bits: Mapping[str, int]) -> np.ndarray:
  """Draws an array of labels.

  Args:
    labels: integers [H, W]. 0 is the background, unless `bits` names it.
    bits: the region's bit of each label.

  Returns:
    u8[H, W] region plane.
  """
  plane = np.where(labels, np.uint8(bits.get('*', 0)), np.uint8(0))
  for label, bit in bits.items():
    if label != '*':
      plane[labels == int(label)] = bit
  return plane


def remark_unused(
  labels: Iterable[int], bits: Mapping[str, int], remarks: Remarks, limit: int | None = None
) -> None:
  """Adds 'labels not used', which names up to `limit` of the labels that belong to no region."""
  unused = [label for label in sorted(labels) if not label_bit(bits, label)]
  if unused:
    remarks['labels not used'] = ', '.join(map(str, unused[:limit]))


def box_bits(bits: Mapping[str, int]) -> dict[str, int]:
  """Returns `bits` with the bits of boxes in place of those of the shapes that they enclose."""
  return {
    label: bit << BOX_SHIFT if bit in (PERSON, OBJECT) else bit for label, bit in bits.items()
  }


def enclosed_region(bit: int) -> str:
  """Returns 'person' or 'object', the region of what is in a box with this bit."""
  return 'person' if bit == PERSON_BOX else 'object'


def region_names(bits: Iterable[int]) -> tuple[str, ...]:
  """Returns the names of the regions with these bits, in the order of `REGION_BITS`."""
  bits = set(bits)
  return tuple(name for name, bit in REGION_BITS.items() if bit in bits)
