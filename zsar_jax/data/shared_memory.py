"""Batches of worker processes, without blocks of shared memory that outlive the run.

Grain's workers hand over each array in a named block of shared memory. In this process the block
is unlinked when the array is deleted, by a thread. That is too late for what is left when the
interpreter exits: the last batch, of which a device's array may be a view, and what was deleted a
moment ago. Python's resource tracker then frees the blocks and warns that they were leaked.
"""

import gc
from typing import Any

import grain
import numpy as np


class SharedBatches:
  """An iterator over grain's batches from worker processes, to be closed."""

  def __init__(self, batches: grain.DatasetIterator):
    """Wraps grain's iterator, of which nobody else may keep a reference."""
    self._batches: grain.DatasetIterator | None = batches
    self._shared: Any = None  # Grain's class of arrays, once one was seen.

  def __iter__(self) -> 'SharedBatches':
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    return {name: self._unlinked(array) for name, array in next(self._batches).items()}

  def _unlinked(self, array: np.ndarray) -> np.ndarray:
    """The same memory, mapped once more; of the array that was handed over the name goes."""
    if not hasattr(array, 'metadata'):
      return array
    self._shared = type(array)
    return self._shared.from_metadata(array.metadata)

  def close(self) -> None:
    """Ends the workers and frees what they prepared."""
    if self._batches is None:
      return
    self._batches.close()
    self._batches = None
    gc.collect()  # The iterator is part of cycles, and holds batches.
    deleting = getattr(self._shared, '_del_thread_pool', None)
    if deleting is not None:
      deleting.apply(int)  # Its one thread takes turns: what came before is done.
