"""The part of a data set that a run uses: a split, restricted to some of its classes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from zsar_jax.data.dataset import ClipDataset
from zsar_jax.errors import UserError
from zsar_jax.ops.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Subset:
  """Clips of some classes of a data set.

  Attributes:
    dataset: where the records are.
    classes: the vocabulary of this subset, in the data set's order.
    positions: i64[N], the clips' places among the data set's records.
    labels: i32[N], places in `classes`.
    boxes_as_shapes: whether boxes stand in for the shapes that they enclose, because the
      data set is annotated with boxes alone.
  """

  dataset: ClipDataset
  classes: tuple[str, ...]
  positions: np.ndarray
  labels: np.ndarray
  boxes_as_shapes: bool

  def __len__(self) -> int:
    return len(self.positions)

  def clip_id(self, position: int) -> str:
    """The id of the clip at `position` of this subset."""
    return self.dataset.index.ids[self.positions[position]]

  def record(self, position: int) -> dict:
    """The encoded record of the clip at `position` of this subset."""
    return self.dataset[int(self.positions[position])]

  @property
  def region_names(self) -> frozenset[str]:
    """The regions that a recipe can paint here, 'background' among them if anything is known."""
    names = set(self.dataset.region_names)
    if self.boxes_as_shapes:
      names |= {name.removesuffix('_box') for name in names}
    if names:
      names.add('background')
    return frozenset(names)

  def check_recipe(self, recipe: Recipe, field: str) -> None:
    """Raises a `UserError` where `recipe` paints a region that this data set does not know."""
    unknown = sorted(recipe.regions - self.region_names)
    if unknown:
      known = ', '.join(sorted(self.region_names)) or 'nothing'
      raise UserError(
        f'{field}: the recipe {str(recipe)!r} paints {", ".join(unknown)}, but'
        f' {self.dataset.name} is annotated with {known}; change the recipe or add the masks'
      )


def select(
  dataset: ClipDataset, classes: str | Sequence[str], unannotated: str, field: str
) -> Subset:
  """Restricts a data set to some of its classes.

  Args:
    dataset: all the clips.
    classes: 'all', the name of one of the data set's class splits, or class names.
    unannotated: with 'drop', clips with a frame that nobody annotated are left out.
    field: the config field that `classes` comes from, for errors.

  Raises:
    UserError: for an unknown class or class split, or where no clip remains.
  """
  if classes == 'all':
    names = set(dataset.classes)
  elif isinstance(classes, str):
    if classes not in dataset.class_splits:
      raise UserError(
        f'{field}: {dataset.name} has no class split {classes!r}; it has'
        f' {", ".join(["all", *sorted(dataset.class_splits)])}'
      )
    names = set(dataset.class_splits[classes])
  else:
    names = set(classes)
  unknown = sorted(names - set(dataset.classes))
  if unknown:
    raise UserError(
      f'{field}: {unknown[0]!r} is not in the vocabulary of {dataset.name}; take class names'
      ' from its labels file'
    )
  vocabulary = tuple(name for name in dataset.classes if name in names)
  place = np.full(len(dataset.classes), -1, np.int32)
  for label, name in enumerate(dataset.classes):
    if name in names:
      place[label] = vocabulary.index(name)

  index = dataset.index
  labels = place[index.labels]
  keep = labels >= 0
  if unannotated == 'drop':
    keep &= index.num_annotated == index.num_frames
  positions = np.flatnonzero(keep)
  if not len(positions):
    raise UserError(
      f'{field}: no clip of {dataset.name}, split {dataset.split!r}, remains for classes'
      f' {classes!r}; choose other classes or another split'
    )
  boxes_alone = all(name.endswith('_box') for name in dataset.region_names)
  return Subset(dataset, vocabulary, positions, labels[positions], boxes_alone)
