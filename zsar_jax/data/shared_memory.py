"""Batches of worker processes, without blocks of shared memory that outlive the run.

Grain's workers hand over each array in a named block of shared memory, which takes two file handles
of this process. So workers pack all arrays of a batch into a single one.

In this process, a thread of Grain unlinks a block when its array is deleted. That is too late for
arrays that exist when the interpreter exits: the last batch, which a device's array may be a view
of, and arrays that were deleted a moment before. Python's resource tracker then frees their blocks
and warns of a leak. So each block is unlinked as soon as its array arrives; the mapped memory stays
valid.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

# The entries of a packed batch: its bytes, and the JSON text that says where its arrays are.
_BLOCK, _LAYOUT = 'block', 'layout'

# Where arrays begin in a block: at multiples of this many bytes, from where devices of the CPU use
# them without a copy.
_ALIGNMENT = 64


def pack_clips(clips: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
  """Returns the batch of some clips, packed for `SharedBatches`.

  Args:
    clips: dicts of arrays and scalars, each with the same names, shapes and dtypes.
  """
  layout, end = [], 0
  for name, value in clips[0].items():
    shape = len(clips), *np.shape(value)
    dtype = np.asarray(value).dtype
    start = end + -end % _ALIGNMENT
    end = start + dtype.itemsize * int(np.prod(shape))
    layout.append((name, dtype.str, shape, start))
  block = np.empty(end, np.uint8)
  for name, array in _unpack(block, layout).items():
    np.stack([clip[name] for clip in clips], out=array)
  return {_BLOCK: block, _LAYOUT: np.frombuffer(json.dumps(layout).encode(), np.uint8)}


def _unpack(block: np.ndarray, layout: Sequence[Sequence[Any]]) -> dict[str, np.ndarray]:
  """Returns the arrays of a packed batch, as views of its block."""
  return {name: np.ndarray(shape, dtype, block, start) for name, dtype, shape, start in layout}


class SharedBatches:
  """An iterator over Grain's batches from worker processes; the caller closes it."""

  def __init__(self, batches: grain.DatasetIterator):
    """Wraps Grain's iterator, which nothing else may refer to."""
    self._batches: grain.DatasetIterator | None = batches
    self._array_class: Any = None  # Grain's class of arrays in shared memory.

  def __iter__(self) -> 'SharedBatches':
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    assert self._batches is not None, 'the iterator is closed'
    # Otherwise up to 50 deleted arrays may keep their files open.
    self._finish_deletions()
    batch = next(self._batches)
    if _LAYOUT not in batch:
      return batch
    return _unpack(self._remap(batch[_BLOCK]), json.loads(batch[_LAYOUT].tobytes()))

  def _remap(self, array: np.ndarray) -> np.ndarray:
    """Maps the array's block again; the received array is then deleted, which unlinks the block."""
    if not hasattr(array, 'metadata'):
      return array
    self._array_class = type(array)
    return self._array_class.from_metadata(array.metadata)

  def close(self) -> None:
    """Ends the workers and frees the batches that they prepared."""
    if self._batches is None:
      return
    self._batches.close()
    self._batches = None
    gc.collect()  # The iterator is part of reference cycles, and holds batches.
    self._finish_deletions()

  def _finish_deletions(self) -> None:
    """Waits until Grain's thread has closed the blocks of all arrays that are deleted."""
    deleting = getattr(self._array_class, '_del_thread_pool', None)
    if deleting is not None:
      # The pool has one thread, so this task ends after those that close and unlink blocks.
      deleting.apply(int)
