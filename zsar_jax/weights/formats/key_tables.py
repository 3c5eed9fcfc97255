"""Tables that map a format's keys and array layouts to ours, and back.

A row of a table is (our path, their key, layout). In both names, `{i}` stands for the number of a
block. Our paths are those of `VideoModel.abstract_params`, such as
'visual/transformer/resblocks/0/attn/query/kernel'.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """How an array of ours is laid out in the file: axes are merged, then transposed.

  Attributes:
    fold: from our shape to the shape with merged axes.
    order: the transposition of the merged axes; () keeps their order.
  """

  fold: Callable[[Shape], Shape] = lambda shape: shape
  order: tuple[int, ...] = ()

  def their_shape(self, shape: Shape) -> Shape:
    """Returns the shape in the file of an array whose shape is `shape` here."""
    folded = self.fold(shape)
    return tuple(folded[axis] for axis in self.order) if self.order else folded

  def save(self, array: np.ndarray) -> np.ndarray:
    """Converts our array to theirs."""
    folded = array.reshape(self.fold(array.shape))
    return folded.transpose(self.order) if self.order else folded

  def load(self, array: np.ndarray, shape: Shape) -> np.ndarray:
    """Converts their array to ours, of `shape`."""
    if self.order:
      array = array.transpose(np.argsort(self.order))
    return array.reshape(shape)


SAME = Layout()
# (in, out) is (out, in) in PyTorch.
LINEAR = Layout(order=(1, 0))
# (P, P, 3, D) is (D, 3, P, P) in PyTorch.
CONVOLUTION = Layout(order=(3, 2, 0, 1))
# For query, key and value, kernels (D, H, d) are (H * d, D) in PyTorch, and biases (H, d) are
# (H * d).
HEADS_IN = Layout(lambda shape: (shape[0], math.prod(shape[1:])), (1, 0))
HEADS_BIAS = Layout(lambda shape: (math.prod(shape),))
# Kernels (H, d, D) of the output are (D, H * d).
HEADS_OUT = Layout(lambda shape: (math.prod(shape[:2]), shape[2]), (1, 0))
# (T, D) is (1, T, D).
BATCH_OF_ONE = Layout(lambda shape: (1, *shape))
# (D,) is (1, 1, D), and () is (1,).
ONE_TOKEN = Layout(lambda shape: (1, 1, *shape))
ONE_NUMBER = Layout(lambda shape: (1, *shape))

Row = tuple[str, str, Layout]


def norm(ours: str, theirs: str) -> list[Row]:
  """Returns the rows of a PyTorch layer norm."""
  return [
    (f'{ours}/scale', f'{theirs}.weight', SAME),
    (f'{ours}/bias', f'{theirs}.bias', SAME),
  ]


def dense(ours: str, theirs: str) -> list[Row]:
  """Returns the rows of a PyTorch linear layer."""
  return [
    (f'{ours}/kernel', f'{theirs}.weight', LINEAR),
    (f'{ours}/bias', f'{theirs}.bias', SAME),
  ]


def projections(ours: str, theirs: str, out: str, input_bias: bool = True) -> list[Row]:
  """Returns the rows of an attention with separate linear layers for query, key and value.

  Args:
    ours: our path of the attention layer.
    theirs: their prefix of the attention layer.
    out: their name of the output projection.
    input_bias: whether query, key and value have biases.
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
  """A bidirectional lookup of rows."""

  def __init__(self, rows: Iterable[Row]):
    self._by_ours: dict[str, tuple[str, Layout]] = {}
    self._by_theirs: dict[str, tuple[str, Layout]] = {}
    for ours, theirs, layout in rows:
      for index, pattern, other in (
        (self._by_ours, ours, theirs),
        (self._by_theirs, theirs, ours),
      ):
        if pattern in index:
          raise ValueError(f'{pattern} appears in two rows')
        index[pattern] = (other, layout)

  def to_theirs(self, path: str) -> tuple[str, Layout] | None:
    """Returns their key and the layout of our path; None if the format has no such array."""
    return _look_up(self._by_ours, path, '/')

  def to_ours(self, key: str) -> tuple[str, Layout] | None:
    """Returns our path and the layout of their key; None if we have no such array."""
    # Scenic writes 'resblocks.0', where the number is part of a name between slashes.
    return _look_up(self._by_theirs, key, r'/.')


def _look_up(
  index: dict[str, tuple[str, Layout]], name: str, separators: str
) -> tuple[str, Layout] | None:
  """Looks up a name, first unchanged, then with each of its numbers replaced by `{i}`."""
  if name in index:
    return index[name]
  for match in re.finditer(rf'(?<=[{separators}])\d+(?=[{separators}]|$)', name):
    pattern = f'{name[: match.start()]}{{i}}{name[match.end() :]}'
    if pattern in index:
      other, layout = index[pattern]
      return other.replace('{i}', match.group()), layout
  return None
