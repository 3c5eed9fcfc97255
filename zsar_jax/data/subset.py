"""The part of a data set that a run uses: a split, restricted to some of its classes."""

import dataclasses
import json
import os
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.data import splits
from zsar_jax.data.class_names import match_classes
from zsar_jax.data.clip_index import ClipIndex
from zsar_jax.data.clip_labels import read_labels, relabel
from zsar_jax.data.dataset import ClipDataset, open_dataset
from zsar_jax.data.frame_table import ClipFrames
from zsar_jax.data.reading import Reading, finish
from zsar_jax.data.shard_cache import CacheSettings
from zsar_jax.data.verb_objects import OPEN_WORLD, VerbObjects
from zsar_jax.errors import UserError
from zsar_jax.recipes.language import Recipe
from zsar_jax.recipes.regions import REGION_BITS


@dataclasses.dataclass(frozen=True)
class Subset:
  """The clips of some classes of a data set.

  Attributes:
    dataset: the split that has the records.
    classes: the vocabulary of this subset, in the data set's order.
    texts: how each class is called in prompts, see `ClipDataset.class_texts`.
    positions: i64[N], the clips' positions in the data set.
    labels: i32[N], indices into `classes`.
    boxes_as_shapes: those of 'person' and 'object' that their boxes stand in for, because the
      data set has no shapes of them.
    pairs: the verbs and objects of `classes`; None unless the labels are those of a list of pairs.
    open_world: whether an evaluation also chooses among all pairs of `pairs`.
  """

  dataset: ClipDataset
  classes: tuple[str, ...]
  texts: tuple[str, ...]
  positions: np.ndarray
  labels: np.ndarray
  boxes_as_shapes: frozenset[str]
  pairs: VerbObjects | None = None
  open_world: bool = False

  def __len__(self) -> int:
    return len(self.positions)

  def clip_id(self, position: int) -> str:
    """Returns the id of the clip at `position` of this subset."""
    return self.dataset.index.ids[self.positions[position]]

  @property
  def index(self) -> ClipIndex:
    """The index of these clips."""
    return self.dataset.index.take(self.positions)

  @property
  def person_region(self) -> str:
    """The region that people are annotated with: their silhouette, or else their box."""
    return 'person_box' if 'person' in self.boxes_as_shapes else 'person'

  def frames(self, position: int) -> ClipFrames:
    """Returns the encoded frames of the clip at `position` of this subset."""
    return finish(self.read_frames(position))

  def read_frames(self, position: int) -> Reading[ClipFrames]:
    """The reading of `frames`, with the same result and errors."""
    return self.dataset.read_frames(int(self.positions[position]))

  def shows_inpainted(self, recipe: Recipe) -> bool:
    """Returns whether a recipe shows inpainted frames here: a clip's own, or its partner's.

    Under a recipe that swaps backgrounds they are used if the data set has them.
    """
    return bool(recipe.inpaint_part or (recipe.swap_part and self.dataset.has_inpainted))

  @property
  def region_names(self) -> frozenset[str]:
    """The regions that a recipe can paint here; includes 'background' if any is annotated."""
    names = {*self.dataset.region_names, *self.boxes_as_shapes}
    if names:
      names.add('background')
    return frozenset(names)

  def check_recipe(self, recipe: Recipe, field: str) -> None:
    """Raises a `UserError` if `recipe` needs a region or inpainted frames that are not there."""
    unknown = sorted(recipe.regions - self.region_names)
    if unknown:
      annotated = ', '.join(sorted(self.region_names)) or 'nothing'
      raise UserError(
        f'{field}: the recipe {str(recipe)!r} paints {", ".join(unknown)}, but'
        f' {self.dataset.name} is annotated with {annotated}; change the recipe or add the masks'
      )
    if recipe.inpaint_part and not self.dataset.has_inpainted:
      raise UserError(
        f'{field}: the recipe {str(recipe)!r} shows frames without their people, and'
        f' {self.dataset.name} has none; make them with zsar make-masks --inpaint, and build the'
        ' data set again with these masks'
      )
    if recipe.regions and not self._is_paintable(recipe).any():
      raise UserError(
        f'{field}: no frame of the {len(self)} clips of {self.dataset.name} is annotated with all'
        f' that the recipe {str(recipe)!r} needs, so that it changes nothing; build it with masks'
        ' (see zsar build-dataset --help)'
      )

  def _is_paintable(self, recipe: Recipe) -> np.ndarray:
    """Returns bool[N]: whether all regions that a recipe needs are known for a clip."""
    needed = set()
    for region in recipe.regions:
      if region == 'background':
        needed |= set(self.dataset.region_names)
      else:
        needed.add(f'{region}_box' if region in self.boxes_as_shapes else region)
    columns = [list(REGION_BITS).index(name) for name in sorted(needed)]
    return np.isfinite(self.index.coverage[:, columns]).all(axis=1)


def open_subset(
  data_dir: str | os.PathLike[str],
  reference: Any,
  unannotated: str,
  field: str,
  cache: CacheSettings | None = None,
) -> Subset:
  """Opens the clips that a config refers to.

  Args:
    data_dir: the folder of data sets.
    reference: from `config.dataset_ref`.
    unannotated: see `select`.
    field: the config field of the reference, for errors.
    cache: what keeps on a local disk what is read from a bucket, if anything.

  Raises:
    UserError: if the data set, the list of labels or a class does not exist, or no clip remains.
  """
  dataset = open_dataset(data_dir, reference.dataset, reference.split, cache)
  labels_file = reference.get('labels', '')
  if not labels_file:
    return select(dataset, reference.classes, unannotated, f'{field}.classes')
  labels = read_labels(labels_file, reference.classes, f'{field}.labels')
  subset = select(relabel(dataset, labels), reference.classes, unannotated, f'{field}.classes')
  if labels.pairs is None:
    return subset
  label_of = {name: label for label, name in enumerate(labels.classes)}
  pairs = labels.pairs.take([label_of[name] for name in subset.classes])
  return dataclasses.replace(subset, pairs=pairs, open_world=reference.classes == OPEN_WORLD)


def select(
  dataset: ClipDataset, classes: str | Sequence[str], unannotated: str, field: str
) -> Subset:
  """Restricts a data set to some of its classes.

  Args:
    dataset: all clips of the split.
    classes: 'all', the name of one of the data set's class splits, a file of class names as
      `splits.read_classes` takes it, or class names. Names may be spelled differently than in
      the vocabulary, see `class_names.match_classes`.
    unannotated: 'drop' leaves out clips in which a frame or a region is not annotated.
    field: the config field that `classes` comes from, for errors.

  Raises:
    UserError: for an unknown class, class split or file, or if no clip remains.
  """
  selected = _select_labels(dataset, classes, field)
  kept = [label for label in range(len(dataset.classes)) if label in selected]
  # From labels of the data set to labels of the subset, -1 for other classes.
  relabel = np.full(len(dataset.classes), -1, np.int32)
  relabel[kept] = np.arange(len(kept))

  index = dataset.index
  labels = relabel[index.labels]
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
  annotated = dataset.region_names
  boxes_as_shapes = frozenset(
    name for name in ('person', 'object') if name not in annotated and f'{name}_box' in annotated
  )
  return Subset(
    dataset,
    tuple(dataset.classes[label] for label in kept),
    tuple(dataset.class_texts[label] for label in kept),
    positions,
    labels[positions],
    boxes_as_shapes,
  )


def _select_labels(dataset: ClipDataset, classes: str | Sequence[str], field: str) -> set[int]:
  """Returns the data set's labels of the classes that `select` takes."""
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
  matches = match_classes(names, dataset.classes)
  unresolved = [name for name in names if len(matches[name]) != 1]
  if unresolved:
    name = unresolved[0]
    count = f' ({len(unresolved)} such names)' if len(unresolved) > 1 else ''
    candidates = ' and '.join(map(repr, matches[name]))
    problem = f'may mean {candidates} of' if candidates else 'is not in the vocabulary of'
    raise UserError(
      f'{source}: {name!r} {problem} {dataset.name}{count}; take class names from its labels file'
    )
  return {dataset.classes.index(matches[name][0]) for name in names}


def data_identity(subset: Subset) -> str:
  """Returns a text that differs for other files of the data set, or other clips of it.

  It tells whether the hosts of a run read the same data. The checksums of `checksums.json` do not
  serve for that: they leave out the choice of clips, and older data sets do not have them.
  """
  dataset, index = subset.dataset, subset.dataset.index
  files = list(dataset.files.record_sizes().items())
  names = [dataset.classes, dataset.class_texts, sorted(dataset.region_names), subset.classes]
  content = [index.ids, index.attributes, files, names]
  if subset.pairs:
    content += [subset.pairs.verbs, subset.pairs.objects, subset.pairs.counts.tolist()]
  checksum = zlib.crc32(json.dumps(content).encode())
  columns = (index.labels, index.num_frames, index.num_annotated, index.coverage)
  for column in (*columns, subset.positions, subset.labels):
    checksum = zlib.crc32(np.ascontiguousarray(column).tobytes(), checksum)
  size = sum(size for _, size in files)
  return f'{len(subset)} of {len(index)} clips, {size} bytes, checksum {checksum:08x}'
