"""Inert stand-ins for the objects of a pickle; nothing in them runs, and nothing is checked yet."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(eq=False, slots=True)
class Record:
  """An object of another program: its content without its behavior.

  Attributes:
    name: the name of its class.
    state: its attributes, as they were pickled.
    items: its content as a dictionary.
  """

  name: str
  state: Any = None
  items: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False)


@dataclasses.dataclass(eq=False, slots=True)
class Storage:
  """A PyTorch storage: numbers that are stored separately in the file.

  Attributes:
    dtype: their dtype.
    key: the name of the storage in the file.
    count: the number of elements.
  """

  dtype: np.dtype
  key: str
  count: int


@dataclasses.dataclass(eq=False, slots=True)
class StridedTensor:
  """A PyTorch tensor: a strided view of a storage; offset and strides count elements."""

  storage: Any
  offset: Any
  shape: Any
  strides: Any


@dataclasses.dataclass(eq=False, slots=True)
class ScriptObject:
  """A module of a TorchScript archive: its attributes without its code."""

  attributes: Any = None


@dataclasses.dataclass(eq=False, slots=True)
class PickledArray:
  """A NumPy array.

  Attributes:
    state: (version, shape, dtype, whether it is in Fortran order, bytes or a list of objects).
  """

  state: Any = None


@dataclasses.dataclass(eq=False, slots=True)
class PickledDtype:
  """A NumPy dtype.

  Attributes:
    code: such as 'f4'.
    order: the byte order.
  """

  code: Any
  order: Any = dataclasses.field(default='=', init=False)
