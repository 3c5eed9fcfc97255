"""Decodes COCO's run-length encoding (RLE) of masks in NumPy.

A mask is {"size": [h, w], "counts": ...}. The counts are the lengths of runs, column by column, of
zeros and ones in turn, beginning with zeros. They are a list, or a string in which each count, from
the fourth on less the count two positions before, is written in groups of 5 bits, the lowest first,
as characters from code 48. 0x20 marks that another group follows; 0x10 in the last group marks a
negative number (cocoapi, maskApi.c).

pycocotools writes to memory what the lengths say without checking the size. The files may be
damaged or malicious, so they are not decoded with it.
"""

from typing import Any

import numpy as np

from zsar_jax.datasets.masks.fitting import MAX_SIDE
from zsar_jax.datasets.masks.skipped_shapes import DamagedShape, EmptyShape

_FIRST_CODE = 48
_GROUP_BITS = 5
_MORE = 0x20
_SIGN = 0x10

# A count of 7 groups has 35 bits; an image of the longest sides has 2^28 pixels.
_MAX_GROUPS = 7


def decode(encoded: dict[str, Any], where: str) -> np.ndarray:
  """Decodes a mask.

  Args:
    encoded: the mask as parsed from JSON.
    where: the mask, for errors.

  Returns:
    u8[h, w] of 0 and 1.

  Raises:
    EmptyShape: The mask has no pixel or no count.
    DamagedShape: The size is absurd, or the counts do not add up to it.
  """
  height, width = size(encoded, where)
  counts = encoded.get('counts')
  if isinstance(counts, str):
    runs = _runs(counts, where)
  elif isinstance(counts, list) and all(type(count) is int for count in counts):
    if any(not 0 <= count <= height * width for count in counts):
      raise DamagedShape(
        f'{where}: an RLE count is negative or larger than the mask; make it again'
      )
    runs = np.array(counts, np.int64)
  else:
    raise DamagedShape(f"{where}: RLE field 'counts' must be a string or a list of whole numbers")
  if (runs < 0).any() or runs.sum() != height * width:
    empty = not runs.any()
    raise (EmptyShape if empty else DamagedShape)(
      f'{where}: RLE counts do not add up to {height} x {width} pixels; make the mask again'
    )
  values = np.arange(len(runs), dtype=np.uint8) & 1
  return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def size(encoded: dict[str, Any], where: str) -> tuple[int, int]:
  """Returns the height and width of an encoded mask; see `decode` for the errors."""
  stated = encoded.get('size')
  if (
    not isinstance(stated, list)
    or len(stated) != 2
    or not all(type(side) is int and 0 < side <= MAX_SIDE for side in stated)
  ):
    empty = isinstance(stated, list) and 0 in stated
    raise (EmptyShape if empty else DamagedShape)(
      f"{where}: RLE field 'size' must be a height and a width of 1 to {MAX_SIDE}, not {stated!r}"
    )
  return stated[0], stated[1]


def _runs(text: str, where: str) -> np.ndarray:
  """Decodes a string of counts to i64[R], the lengths of the runs, which may be negative."""
  # Characters outside ASCII become '?', the code 63, so `isascii` checks the text itself.
  codes = np.frombuffer(text.encode('ascii', 'replace'), np.uint8).astype(np.int64) - _FIRST_CODE
  if not text.isascii() or ((codes < 0) | (codes >= 2 * _MORE)).any():
    raise DamagedShape(f'{where}: RLE counts have a character that RLE does not use; make it again')
  if not len(codes):
    return codes
  ends = np.flatnonzero((codes & _MORE) == 0)
  lengths = np.diff(ends, prepend=-1)
  if not len(ends) or ends[-1] != len(codes) - 1 or lengths.max() > _MAX_GROUPS:
    raise DamagedShape(f'{where}: RLE counts are cut short or are no counts; make the mask again')
  starts = ends - lengths + 1
  positions = np.arange(len(codes)) - np.repeat(starts, lengths)
  runs = np.add.reduceat((codes & (_MORE - 1)) << (_GROUP_BITS * positions), starts)
  negative = (codes[ends] & _SIGN) > 0
  runs[negative] -= np.int64(1) << (_GROUP_BITS * lengths[negative])
  for parity in (1, 2):
    runs[parity::2] = np.cumsum(runs[parity::2])
  return runs
