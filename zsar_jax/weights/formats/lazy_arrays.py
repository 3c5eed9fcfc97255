"""Arrays of weight files, whose values are read on demand."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from zsar_jax.errors import UserError

# Importing `ml_dtypes` registers the name 'bfloat16' with NumPy.
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = frozenset(np.dtype(name) for name in ('float16', 'float32', 'float64', BFLOAT16))

# Upper bounds for the arrays of a model and the length of their keys.
MAX_ARRAYS = 20_000
_MAX_KEY_LENGTH = 300

# The largest published model has 40 blocks in a stack.
_MAX_BLOCKS = 100


@dataclasses.dataclass(frozen=True)
class LazyArray:
  """An array whose values are read on demand.

  Attributes:
    shape: its shape.
    dtype: its dtype in the file.
    read: returns the values, with this shape and dtype.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  @classmethod
  def of(cls, array: np.ndarray) -> 'LazyArray':
    """Wraps an array that is already in memory."""
    return cls(array.shape, array.dtype, lambda: array)

  def part(self, number: int, count: int) -> 'LazyArray':
    """Returns part `number` of `count` equal parts along the first axis."""
    size = self.shape[0] // count

    def read() -> np.ndarray:
      return self.read()[number * size : (number + 1) * size]

    return LazyArray((size, *self.shape[1:]), self.dtype, read)

  def blocks(self) -> list['LazyArray']:
    """Returns the entries along the first axis; [] if they are too many for blocks."""
    count = self.shape[0] if self.shape else 0
    if count > _MAX_BLOCKS:
      return []
    return [self.part(number, count).reshape(*self.shape[1:]) for number in range(count)]

  def reshape(self, *shape: int) -> 'LazyArray':
    """Returns the array with another shape of as many elements."""
    return LazyArray(shape, self.dtype, lambda: self.read().reshape(shape))


# Arrays by their keys in the file, such as 'visual.conv1.weight'.
StateDict = dict[str, LazyArray]


@dataclasses.dataclass(frozen=True)
class Content:
  """The content of a weight file.

  Attributes:
    state: the arrays.
    extras: other objects that a training program saved in the same file, by its names; not checked
      yet.
    notes: sentences for the user.
  """

  state: StateDict
  extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


def printable(text: str) -> str:
  """Quotes text of an untrusted file in a message: shortened, and without control characters."""
  short = text if len(text) <= 100 else f'{text[:100]}...'
  return short if short.isprintable() else short.encode('unicode_escape').decode()


def check_count(path: pathlib.Path, count: int) -> None:
  """Refuses a file with more arrays than any model has."""
  if count > MAX_ARRAYS:
    raise UserError(f'{path}: holds {count:,} arrays; name weights of CLIP')


def check_key(path: pathlib.Path, key: str) -> None:
  """Refuses a key that is too long or contains control characters."""
  if len(key) > _MAX_KEY_LENGTH or not key.isprintable():
    raise UserError(f'{path}: an array is called {printable(key)}; name weights of CLIP')
