"""How a format's key paths and array layouts correspond to ours: one statement, both directions.

A row is (our path, their key, layout). `{i}` in both stands for the number of a block. Ours are
'visual/transformer/resblocks/0/attn/query/kernel', of `VideoModel.abstract_params`.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from zsar_jax.weights.formats.tensors import State
from zsar_jax.weights.formats.usage import CLIP, Usage

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where the axes of ours are in theirs.

  Attributes:
    fold: from our shape to one in which axes have been put together.
    order: the axes of that, in their order; none leaves them as they are.
  """

  fold: Callable[[Shape], Shape] = lambda shape: shape
  order: tuple[int, ...] = ()

  def their_shape(self, shape: Shape) -> Shape:
    """The shape in the file of an array whose shape is `shape` here."""
    folded = self.fold(shape)
    return tuple(folded[axis] for axis in self.order) if self.order else folded

  def save(self, array: np.ndarray) -> np.ndarray:
    """Our array as theirs."""
    folded = array.reshape(self.fold(array.shape))
    return folded.transpose(self.order) if self.order else folded

  def load(self, array: np.ndarray, shape: Shape) -> np.ndarray:
    """Their array as ours, of `shape`."""
    if self.order:
      array = array.transpose(np.argsort(self.order))
    return array.reshape(shape)


SAME = Layout()
# PyTorch keeps kernels as (out, in).
LINEAR = Layout(order=(1, 0))
# (P, P, 3, D) is (D, 3, P, P) there.
CONVOLUTION = Layout(order=(3, 2, 0, 1))
# Query, key and value: (D, H, d) is (H * d, D), biases (H, d) are (H * d).
HEADS_IN = Layout(lambda shape: (shape[0], math.prod(shape[1:])), (1, 0))
HEADS_BIAS = Layout(lambda shape: (math.prod(shape),))
# (H, d, D) is (D, H * d).
HEADS_OUT = Layout(lambda shape: (math.prod(shape[:2]), shape[2]), (1, 0))
# (T, D) is (1, T, D).
BATCH_OF_ONE = Layout(lambda shape: (1, *shape))

Row = tuple[str, str, Layout]


def norm(ours: str, theirs: str) -> list[Row]:
  """The rows of a layer norm of PyTorch's."""
  return [
    (f'{ours}/scale', f'{theirs}.weight', SAME),
    (f'{ours}/bias', f'{theirs}.bias', SAME),
  ]


def dense(ours: str, theirs: str) -> list[Row]:
  """The rows of a linear layer of PyTorch's."""
  return [
    (f'{ours}/kernel', f'{theirs}.weight', LINEAR),
    (f'{ours}/bias', f'{theirs}.bias', SAME),
  ]


def projections(ours: str, theirs: str, out: str, input_bias: bool = True) -> list[Row]:
  """The rows of an attention with a linear layer for each of query, key and value.

  Args:
    ours: our path of the attention.
    theirs: their key of it.
    out: their name of the output's layer.
    input_bias: whether queries, keys and values have biases.
  """
  rows = []
  for name in ('query', 'key', 'value'):
    rows.append((f'{ours}/{name}/kernel', f'{theirs}.{name[0]}_proj.weight', HEADS_IN))
    if input_bias:
      rows.append((f'{ours}/{name}/bias', f'{theirs}.{name[0]}_proj.bias', HEADS_BIAS))
  return [
    *rows,
    (f'{ours}/out/kernel', f'{theirs}.{out}.weight', HEADS_OUT),
    (f'{ours}/out/bias', f'{theirs}.{out}.bias', SAME),
  ]


class Table:
  """Rows, looked up from either side."""

  def __init__(self, rows: Iterable[Row]):
    self._by_ours, self._by_theirs = {}, {}
    for ours, theirs, layout in rows:
      for index, pattern, other in (
        (self._by_ours, ours, theirs),
        (self._by_theirs, theirs, ours),
      ):
        if pattern in index:
          raise ValueError(f'{pattern} stands in two rows')
        index[pattern] = (other, layout)

  def to_theirs(self, path: str) -> tuple[str, Layout] | None:
    """Their key of our path, None where they have no such array."""
    return _look_up(self._by_ours, path, '/')

  def to_ours(self, key: str) -> tuple[str, Layout] | None:
    """Our path of their key, None where there is none."""
    # In Scenic's trees a number is a part of a name.
    return _look_up(self._by_theirs, key, r'/.')


def _look_up(
  index: dict[str, tuple[str, Layout]], name: str, separators: str
) -> tuple[str, Layout] | None:
  """Looks a name up, first as it is and then with `{i}` for one of the numbers in it."""
  if name in index:
    return index[name]
  for match in re.finditer(rf'(?<=[{separators}])\d+(?=[{separators}]|$)', name):
    pattern = f'{name[: match.start()]}{{i}}{name[match.end() :]}'
    if pattern in index:
      other, layout = index[pattern]
      return other.replace('{i}', match.group()), layout
  return None


@dataclasses.dataclass(frozen=True)
class Format:
  """A layout of weight files.

  Attributes:
    name: what it is called on the command line.
    table: the correspondence.
    markers: keys that such a file holds, or names of what it holds beside the arrays; of two
      formats that have theirs, the earlier in `weights.FORMATS` counts.
    droppable: regexes of whole keys that are ignored where the model has no place for them.
    prepare: what is done to a file's arrays before the table is used.
    temporal: the video model that such a file is of, where the arrays do not tell.
    video: from a file's path, what it holds beside the arrays, and these, to the fields of
      `VideoSpec` that they tell. A `UserError` is of a model that is not computed here.
    normalization: that of the frames which it was trained on, see `ClipSpec`.
    usage: how else it was trained.
    usage_of_arrays: from the shapes of a file's arrays, by our paths, to the fields of `usage` that
      depend on them.
    config: the name of the JSON file that describes the model.
    described: from that file's path and object to the fields of `ClipSpec` that it tells. A
      `UserError` is of a model that is computed otherwise than ours.
  """

  name: str
  table: Table
  markers: tuple[str, ...]
  droppable: tuple[str, ...] = ()
  prepare: Callable[[State], State] = lambda state: state
  temporal: str = 'mean'
  video: Callable[[pathlib.Path, Mapping[str, Any], State], dict[str, Any]] = (
    lambda path, beside, state: {}
  )
  normalization: str = 'clip'
  usage: Usage = CLIP
  usage_of_arrays: Callable[[Mapping[str, Shape]], dict[str, Any]] = lambda shapes: {}
  config: str = ''
  described: Callable[[pathlib.Path, dict[str, Any]], dict[str, Any]] = lambda path, config: {}
