"""The part of a data set that a run uses: a split, restricted to some of its classes."""

import dataclasses
import json
import zlib
from collections.abc import Sequence

import numpy as np

from zsar_jax.data import splits
from zsar_jax.data.class_names import match_classes
from zsar_jax.data.dataset import ClipDataset, ClipIndex, find_dataset
from zsar_jax.data.frame_table import ClipFrames
from zsar_jax.errors import UserError
from zsar_jax.recipes.language import Recipe
from zsar_jax.recipes.regions import REGION_BITS


@dataclasses.dataclass(frozen=True)
class Subset:
  """Clips of some classes of a data set.

  Attributes:
    dataset: where the records are.
    classes: the vocabulary of this subset, in the data set's order.
    texts: how each of them is called in prompts, see `ClipDataset.class_texts`.
    positions: i64[N], the clips' places among the data set's records.
    labels: i32[N], places in `classes`.
    boxes_as_shapes: of 'person' and 'object' those whose boxes stand in for them, because the
      data set has no shapes of them.
  """

  dataset: ClipDataset
  classes: tuple[str, ...]
  texts: tuple[str, ...]
  positions: np.ndarray
  labels: np.ndarray
  boxes_as_shapes: frozenset[str]

  def __len__(self) -> int:
    return len(self.positions)

  def clip_id(self, position: int) -> str:
    """The id of the clip at `position` of this subset."""
    return self.dataset.index.ids[self.positions[position]]

  @property
  def index(self) -> ClipIndex:
    """What is known of these clips without reading them."""
    return self.dataset.index.take(self.positions)

  @property
  def person_region(self) -> str:
    """The region that people are annotated with: their silhouette, or else their box."""
    return 'person_box' if 'person' in self.boxes_as_shapes else 'person'

  def frames(self, position: int) -> ClipFrames:
    """The encoded frames of the clip at `position` of this subset."""
    return self.dataset.frames(int(self.positions[position]))

  @property
  def region_names(self) -> frozenset[str]:
    """The regions that a recipe can paint here, 'background' among them if anything is known."""
    names = {*self.dataset.region_names, *self.boxes_as_shapes}
    if names:
      names.add('background')
    return frozenset(names)

  def check_recipe(self, recipe: Recipe, field: str) -> None:
    """Raises a `UserError` where `recipe` paints a region that is not annotated here."""
    unknown = sorted(recipe.regions - self.region_names)
    if unknown:
      known = ', '.join(sorted(self.region_names)) or 'nothing'
      raise UserError(
        f'{field}: the recipe {str(recipe)!r} paints {", ".join(unknown)}, but'
        f' {self.dataset.name} is annotated with {known}; change the recipe or add the masks'
      )
    if recipe.regions and not self._knows(recipe).any():
      raise UserError(
        f'{field}: no frame of the {len(self)} clips of {self.dataset.name} is annotated with all'
        f' that the recipe {str(recipe)!r} needs, so that it changes nothing; build it with masks'
        ' (see zsar build-dataset --help)'
      )

  def _knows(self, recipe: Recipe) -> np.ndarray:
    """bool[N]: of which clips all regions are known that a recipe needs."""
    needed = set()
    for region in recipe.regions:
      if region == 'background':
        needed |= set(self.dataset.region_names)
      else:
        needed.add(f'{region}_box' if region in self.boxes_as_shapes else region)
    columns = [list(REGION_BITS).index(name) for name in sorted(needed)]
    return np.isfinite(self.index.coverage[:, columns]).all(axis=1)


def select(
  dataset: ClipDataset, classes: str | Sequence[str], unannotated: str, field: str
) -> Subset:
  """Restricts a data set to some of its classes.

  Args:
    dataset: all the clips.
    classes: 'all', the name of one of the data set's class splits, a file of class names as
      `splits.read_classes` takes it, or class names. Names that the vocabulary writes in
      another way are found, see `class_names.match_classes`.
    unannotated: with 'drop', clips with a frame or a region that nobody annotated are left out.
    field: the config field that `classes` comes from, for errors.

  Raises:
    UserError: for an unknown class, class split or file, or where no clip remains.
  """
  chosen = _chosen(dataset, classes, field)
  kept = [label for label in range(len(dataset.classes)) if label in chosen]
  vocabulary = tuple(dataset.classes[label] for label in kept)
  texts = tuple(dataset.class_texts[label] for label in kept)
  place = np.full(len(dataset.classes), -1, np.int32)
  place[kept] = np.arange(len(kept))

  index = dataset.index
  labels = place[index.labels]
  keep = labels >= 0
  if unannotated == 'drop':
    columns = [list(REGION_BITS).index(name) for name in dataset.region_names]
    keep &= index.num_annotated == index.num_frames
    keep &= ~np.isnan(index.coverage[:, columns]).any(axis=1)
  positions = np.flatnonzero(keep)
  if not len(positions):
    raise UserError(
      f'{field}: no clip of {dataset.name}, split {dataset.split!r}, remains for classes'
      f' {classes!r}; choose other classes or another split'
    )
  known = dataset.region_names
  boxed = frozenset(
    name for name in ('person', 'object') if name not in known and f'{name}_box' in known
  )
  return Subset(dataset, vocabulary, texts, positions, labels[positions], boxed)


def _chosen(dataset: ClipDataset, classes: str | Sequence[str], field: str) -> set[int]:
  """The labels of the classes that `select` was asked for."""
  if classes == 'all':
    return set(range(len(dataset.classes)))
  names, source = classes, field
  if isinstance(classes, str):
    if classes in dataset.class_splits:
      names = dataset.class_splits[classes]
    elif splits.is_class_file(classes):
      names, source = splits.read_classes(classes, field), f'{field}: {classes}'
    else:
      raise UserError(
        f'{field}: {dataset.name} has no class split {classes!r}; it has'
        f' {", ".join(["all", *sorted(dataset.class_splits)])}; a file of class names ends in .txt,'
        " .csv or .json:PART, and names are written ('archery', 'bowling')"
      )
  meant = match_classes(names, dataset.classes)
  unknown = [name for name in names if len(meant[name]) != 1]
  if unknown:
    others = f' ({len(unknown)} such names)' if len(unknown) > 1 else ''
    several = ' and '.join(map(repr, meant[unknown[0]]))
    problem = f'may mean {several} of' if several else 'is not in the vocabulary of'
    raise UserError(
      f'{source}: {unknown[0]!r} {problem} {dataset.name}{others}; take class names from its labels'
      ' file'
    )
  return {dataset.classes.index(meant[name][0]) for name in names}


def data_identity(data_dir: str, subset: Subset) -> str:
  """What tells a data set's files and the clips chosen of it from others, for people too.

  Args:
    data_dir: `config.data.dir`.
    subset: clips of a data set in it.
  """
  dataset, index = subset.dataset, subset.dataset.index
  shards = find_dataset(data_dir, dataset.name).glob('*.array_record*')
  files = [(shard.name, shard.stat().st_size) for shard in sorted(shards)]
  names = [dataset.classes, dataset.class_texts, sorted(dataset.region_names), subset.classes]
  known = [index.ids, index.attributes, files, names]
  total = zlib.crc32(json.dumps(known).encode())
  arrays = (index.labels, index.num_frames, index.num_annotated, index.coverage)
  for column in (*arrays, subset.positions, subset.labels):
    total = zlib.crc32(np.ascontiguousarray(column).tobytes(), total)
  size = sum(size for _, size in files)
  return f'{len(subset)} of {len(index)} clips, {size} bytes, checksum {total:08x}'
