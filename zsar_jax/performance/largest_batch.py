"""Finds the largest batch that fits a device's memory."""

from collections.abc import Callable
from typing import Any

# How often a batch that does not fit is halved until one does.
_MAX_HALVINGS = 4


def search(
  batch: int,
  required: float,
  available: float,
  multiple: int,
  measure: Callable[[int], float],
  verify: bool = False,
) -> dict[str, Any] | None:
  """Extrapolates from two measured batches to the largest one that fits.

  Args:
    batch: the size of a batch that was measured.
    required: the bytes that it needs.
    available: the bytes of the device.
    multiple: a batch must be a multiple of this number.
    measure: returns the bytes that a batch of some size needs, by compiling.
    verify: whether to measure the result, and to take a smaller batch until it fits.

  Returns:
    {'batch': its size, 'from': the sizes that were measured, 'verified': bool}; None if memory does
    not grow with the batch, as in models so small that the compiler's choices outweigh it.
  """
  measured = {batch: required}
  for _ in range(1 if required <= available else _MAX_HALVINGS):
    half = min(measured) // 2 // multiple * multiple or 2 * max(measured)
    measured[half] = measure(half)
    if measured[half] <= available:
      break
  (small, small_bytes), (large, large_bytes) = sorted(measured.items())[:2]
  slope = (large_bytes - small_bytes) / (large - small)
  if slope <= 0:
    return None
  size = max(0, int(small + (available - small_bytes) / slope) // multiple * multiple)
  verified = False
  while verify and size > 0 and not verified:
    verified = measure(size) <= available
    if not verified:
      size -= max(multiple, size // 20 // multiple * multiple)
  return {'batch': size, 'from': sorted(measured), 'verified': verified}


def estimate(
  batch: int, proportional: float, fixed: float, available: float, multiple: int
) -> dict[str, Any]:
  """Returns the largest batch by estimated memory, in the form of `search`.

  Args:
    batch: the size of a batch.
    proportional: the bytes that are proportional to the batch, for this size.
    fixed: all other bytes.
    available: the bytes of the device.
    multiple: a batch must be a multiple of this number.
  """
  size = int(batch * (available - fixed) / proportional) // multiple * multiple
  return {'batch': max(0, size), 'from': [], 'verified': False}
