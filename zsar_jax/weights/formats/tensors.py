"""Arrays in weight files, known by shape and type before they are read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

# NumPy knows the type by this name once `ml_dtypes` is imported.
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = frozenset(np.dtype(name) for name in ('float16', 'float32', 'float64', BFLOAT16))


@dataclasses.dataclass(frozen=True)
class Tensor:
  """An array that is read when it is asked for.

  Attributes:
    shape: its shape.
    dtype: its type in the file.
    read: reads it, in that shape and type.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  @classmethod
  def of(cls, array: np.ndarray) -> 'Tensor':
    """A tensor that is in memory already."""
    return cls(array.shape, array.dtype, lambda: array)

  def part(self, number: int, count: int) -> 'Tensor':
    """One of `count` equal parts along the first axis."""
    size = self.shape[0] // count

    def read() -> np.ndarray:
      return self.read()[number * size : (number + 1) * size]

    return Tensor((size, *self.shape[1:]), self.dtype, read)


# A model has fewer.
MOST_ARRAYS = 20_000

# Keys as in the file, such as 'visual.conv1.weight'.
State = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Content:
  """What a file holds.

  Attributes:
    state: the arrays.
    beside: what a training program saved with them, by its names; nobody has looked at it yet.
    notes: what a user should know.
  """

  state: State
  beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


def shown(text: str) -> str:
  """A text of a stranger's file as part of a message: short, and nothing that a terminal obeys."""
  short = text if len(text) <= 100 else f'{text[:100]}...'
  return short if short.isprintable() else short.encode('unicode_escape').decode()
