"""Batches of worker processes, without blocks of shared memory that outlive the run.

Grain's workers hand over each array in a named block of shared memory. In this process, a thread
unlinks the block when the array is deleted. That is too late for arrays that exist when the
interpreter exits: the last batch, which a device's array may be a view of, and arrays that were
deleted a moment before. Python's resource tracker then frees their blocks and warns of a leak. So
each block is unlinked as soon as its array arrives; the mapped memory stays valid.
"""

import gc
from typing import Any

import grain
import numpy as np


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
    return {name: self._remap(array) for name, array in next(self._batches).items()}

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
    deleting = getattr(self._array_class, '_del_thread_pool', None)
    if deleting is not None:
      # The pool has one thread, so this task ends after those that unlink blocks.
      deleting.apply(int)
