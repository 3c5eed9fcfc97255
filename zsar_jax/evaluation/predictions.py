"""A model's predictions for every clip of a data set under every recipe, and their file.

All figures of a study can be computed again from these files. Each is a NumPy .npz without pickled
objects, in which only the logits are not compressed:

    dataset         str           the data set's name in the run's config
    recipes         str[R]        validation recipes
    classes         str[C]
    ids             str[N]        clip ids
    labels          i32[N]
    logits          f32[R, N, C]  NaN in the row of a clip that does not count under a recipe
    regions         str[K]        names of the columns of coverage
    coverage        f32[N, K]     the share of the pixels that a region covers, mean over the
                                  annotated frames; NaN if unknown
    attributes      str[N]        a JSON object with string values
    partners        str[N]        id of the clip whose background the clip gets, '' if it has none
    partner_labels  i32[N]        label of that clip, -1 without one or if its class is not in
                                  classes
    saliency        f32[N, 3]     shares of the gradient, see evaluation.saliency; NaN if not
                                  computed
    saliency_area   f32[N, 3]     shares of the pixels

and, in files of data sets that have inpainted frames,

    inpainted_scenes    bool      True: the backgrounds that clips get are inpainted frames

and, in files of evaluations with multiple choice,

    choices         i32           the number of classes to choose from, `config.eval.choices`

If the classes are pairs of a verb and an object, there are those of `pair_predictions`, too.
"""

import collections
import dataclasses
import itertools
import json
import os
from typing import Any

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.evaluation import pair_predictions
from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.evaluation.untrusted_npz import ArrayHeader, NpzReader, write_npz
from zsar_jax.recipes import language
from zsar_jax.storage.files import make_parent, open_atomically
from zsar_jax.storage.paths import as_path

# The axes of each array: R recipes, N clips, C classes, K regions, 3 parts of saliency.
_TEXTS = {
  'dataset': '',
  'recipes': 'R',
  'classes': 'C',
  'ids': 'N',
  'regions': 'K',
  'attributes': 'N',
  'partners': 'N',
}
_NUMBERS = {
  'labels': (np.int32, 'N'),
  'logits': (np.float32, 'RNC'),
  'coverage': (np.float32, 'NK'),
  'partner_labels': (np.int32, 'N'),
  'saliency': (np.float32, 'N3'),
  'saliency_area': (np.float32, 'N3'),
}

_OPTIONAL = {'inpainted_scenes': (np.bool_, ''), 'choices': (np.int32, '')}

# The field that names the entries along an axis.
_FIELD_OF_AXIS = {'R': 'recipes', 'C': 'classes', 'N': 'ids', 'K': 'regions'}

# The columns of saliency; every pixel belongs to one of them.
PARTS = ('person', 'object', 'background')

# In f32, means of shares may leave [0, 1] by this much.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
  """A model's predictions on one data set.

  The constructor raises a `ValueError` that begins with the field's name if the fields contradict
  each other.

  Attributes:
    dataset: the data set's name in the run's config.
    recipes: the validation recipes, in their canonical form.
    classes: the vocabulary, C.
    ids: the clips, N.
    labels: i32[N], indices into `classes`.
    logits: f32[N, C] for each recipe; see the head of this file.
    regions: the names of the columns of `coverage`, as in `recipes.regions.REGION_BITS`.
    coverage: f32[N, K].
    attributes: further annotations of each clip, such as Mimetics' {'scene': 'no'}.
    partners: the id of the clip whose background each clip gets under a recipe that swaps them,
      or ''.
    partner_labels: i32[N], the label of that clip, or -1.
    saliency: f32[N, 3].
    saliency_area: f32[N, 3].
    inpainted_scenes: whether the backgrounds that clips get are inpainted frames; otherwise the
      people in them are filled from their surroundings.
    pairs: the verbs and objects of `classes`; None if classes are no pairs of them.
    choices: the number of classes of multiple choice; 0 without it.
  """

  dataset: str
  recipes: tuple[str, ...]
  classes: tuple[str, ...]
  ids: tuple[str, ...]
  labels: np.ndarray
  logits: dict[str, np.ndarray]
  regions: tuple[str, ...]
  coverage: np.ndarray
  attributes: tuple[dict[str, str], ...]
  partners: tuple[str, ...]
  partner_labels: np.ndarray
  saliency: np.ndarray
  saliency_area: np.ndarray
  inpainted_scenes: bool = False
  pairs: PairPredictions | None = None
  choices: int = 0

  def __post_init__(self):
    if tuple(self.logits) != self.recipes:
      raise ValueError(f'logits: for {list(self.logits)}, but the recipes are {self.recipes}')
    sizes = {axis: len(getattr(self, _FIELD_OF_AXIS[axis])) for axis in _FIELD_OF_AXIS} | {'3': 3}
    for axis in 'RCN':
      if not sizes[axis]:
        raise ValueError(f'{_FIELD_OF_AXIS[axis]}: it is empty')
    for name in ('attributes', 'partners'):
      if len(getattr(self, name)) != sizes['N']:
        raise ValueError(f'{name}: {len(getattr(self, name))} for {sizes["N"]} clips')
    for name, (dtype, axes) in _NUMBERS.items():
      arrays = self.logits.values() if name == 'logits' else [getattr(self, name)]
      shape = tuple(sizes[axis] for axis in axes.removeprefix('R'))
      for array in arrays:
        if array.dtype != dtype or array.shape != shape:
          raise ValueError(
            f'{name}: {array.dtype}{list(array.shape)}, but it must be'
            f' {np.dtype(dtype)}{list(shape)}'
          )
    self._check_texts()
    self._check_numbers()
    if self.pairs:
      self.pairs.check(self.recipes, sizes['N'], sizes['C'])

  def _check_texts(self) -> None:
    for name in _FIELD_OF_AXIS.values():
      repeated = [text for text, n in collections.Counter(getattr(self, name)).items() if n > 1]
      if repeated:
        raise ValueError(f'{name}: {repeated[0]!r} occurs twice')
    for name in (*_FIELD_OF_AXIS.values(), 'partners'):
      # NumPy strips trailing zeros from strings.
      with_zero = [text for text in getattr(self, name) if '\0' in text]
      if with_zero:
        raise ValueError(f'{name}: {with_zero[0]!r} contains a zero character')
    for text in self.recipes:
      language.parse(text, 'recipes')
    for clip, attributes in zip(self.ids, self.attributes, strict=True):
      valid = isinstance(attributes, dict) and all(
        isinstance(text, str) for pair in attributes.items() for text in pair
      )
      if not valid:
        raise ValueError(f'attributes: those of {clip!r} are no strings by name')

  def _check_numbers(self) -> None:
    if self.choices and not 2 <= self.choices <= len(self.classes):
      raise ValueError(f'choices: {self.choices} of {len(self.classes)} classes')
    for name, minimum in (('labels', 0), ('partner_labels', -1)):
      labels = getattr(self, name)
      if labels.min() < minimum or labels.max() >= len(self.classes):
        raise ValueError(f'{name}: not all in {minimum} to {len(self.classes) - 1}')
    unpaired = np.array([not partner for partner in self.partners])
    if (self.partner_labels[unpaired] >= 0).any():
      clip = self.ids[np.flatnonzero(unpaired & (self.partner_labels >= 0))[0]]
      raise ValueError(f'partner_labels: {clip!r} has a label, but no partner')
    for name in ('coverage', 'saliency', 'saliency_area'):
      shares = getattr(self, name)
      if ((shares < -_ROUNDING) | (shares > 1 + _ROUNDING)).any():
        raise ValueError(f'{name}: not all in 0 to 1')

  def counted(self, recipe: str) -> np.ndarray:
    """bool[N]: which clips count under a recipe.

    Under a recipe that paints regions, clips without masks of these regions do not count; under one
    that swaps backgrounds, clips without a partner do not. All others count, as wrong if their
    logits are not finite.
    """
    counted = self.has_masks(recipe)
    if language.parse(recipe).swap_part:
      counted &= np.array([bool(partner) for partner in self.partners])
    return counted

  def shows_inpainted_scenes(self, recipe: str) -> bool:
    """Returns whether the backgrounds that clips get under a recipe are inpainted frames."""
    return self.inpainted_scenes and language.parse(recipe).swap_part is not None

  @property
  def annotated(self) -> np.ndarray:
    """bool[N]: which clips are annotated with every region that any clip is annotated with."""
    has_region = np.isfinite(self.coverage)
    return has_region.any(axis=1) & has_region[:, has_region.any(axis=0)].all(axis=1)

  @property
  def actor(self) -> str:
    """The region that people are annotated with: their silhouette, or else their box."""
    occurs = dict(zip(self.regions, np.any(self.coverage > 0, axis=0), strict=True))
    return 'person_box' if occurs.get('person_box') and not occurs.get('person') else 'person'

  def has_masks(self, recipe: str) -> np.ndarray:
    """bool[N]: which clips are annotated with all regions that a recipe needs."""
    has_region = dict(zip(self.regions, np.isfinite(self.coverage).T, strict=True))
    has_all = np.ones(len(self.ids), bool)
    for region in language.parse(recipe).regions:
      # Boxes replace the shapes of a data set without any. The background needs every region.
      columns = [has_region[name] for name in (region, f'{region}_box') if name in has_region]
      has_all &= next((column for column in columns if column.any()), self.annotated)
    return has_all

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the file atomically; a partial file never has its name."""
    texts = {name: np.array(getattr(self, name), str) for name in _TEXTS if name != 'attributes'}
    attributes = [json.dumps(of_clip, sort_keys=True) for of_clip in self.attributes]
    numbers = {name: getattr(self, name) for name in _NUMBERS if name != 'logits'}
    numbers |= {'inpainted_scenes': np.True_} if self.inpainted_scenes else {}
    numbers |= {'choices': np.int32(self.choices)} if self.choices else {}
    arrays: dict[str, Any] = {
      **texts,
      'attributes': np.array(attributes, str),
      **numbers,
      **(self.pairs.to_arrays() if self.pairs else {}),
    }
    path = as_path(path, 'the predictions')
    make_parent(path)
    with open_atomically(path) as file:
      # Logits, which deflate by only a tenth, are not compressed, so that `load` can map them.
      write_npz(file, arrays, {'logits': list(self.logits.values())})


def load(path: str | os.PathLike[str]) -> Predictions:
  """Reads a file that `Predictions.save` wrote.

  Logits are mapped from the file, which must not be changed meanwhile; replace it instead.

  Raises:
    UserError: the file is damaged or its fields contradict each other; the message names the file
      and the field.
  """
  remedy = 'evaluate the run again'
  try:
    with NpzReader(path) as reader:
      names = (*_TEXTS, *_NUMBERS, *_OPTIONAL, *pair_predictions.FORMATS)
      headers = reader.headers(names)
      problem = _find_problem(headers)
      # Arrays are inflated only if their headers agree.
      arrays = {} if problem else {name: reader.array(name) for name in headers}
  except UserError:  # Of a bucket.
    raise
  except OSError as error:
    reason = error.strerror or error
    raise UserError(f'{path}: cannot be read ({reason}); {remedy}') from None
  except Exception as error:  # For damaged files, NumPy and zipfile raise almost any exception.
    raise UserError(f'{path}: damaged, or no predictions ({first_line(error)}); {remedy}') from None
  try:
    if problem:
      raise ValueError(problem)
    return _from_arrays(arrays)
  except (ValueError, UserError) as error:
    raise UserError(f'{path}: {error}; {remedy}') from None


def _find_problem(headers: dict[str, ArrayHeader]) -> str | None:
  """Describes a missing array or a wrong type or shape; None if the headers agree."""
  sizes = {'2': 2, '3': 3}
  pairs = pair_predictions.FORMATS if 'verbs' in headers else {}
  if 'open_world' not in headers:
    pairs = {name: entry for name, entry in pairs.items() if name != 'open_world'}
  text_axes = _TEXTS | {name: axes for name, (kind, axes) in pairs.items() if kind == 'text'}
  for name, axes in text_axes.items():
    if name in headers and len(headers[name].shape) == len(axes) == 1:
      sizes.setdefault(axes, headers[name].shape[0])
  formats = {name: ('text', axes) for name, axes in _TEXTS.items()}
  optional = {name: entry for name, entry in _OPTIONAL.items() if name in headers}
  numbers = _NUMBERS | optional
  formats |= {name: (np.dtype(dtype).name, axes) for name, (dtype, axes) in numbers.items()}
  formats |= pairs
  for name, (kind, axes) in formats.items():
    header = headers.get(name)
    if header is None:
      return f'{name}: missing'
    actual = 'text' if header.dtype.kind == 'U' else str(header.dtype)
    if (actual, len(header.shape)) != (kind, len(axes)):
      return (
        f'{name}: {actual} with {len(header.shape)} axes, but it must be {kind} with {len(axes)}'
      )
    for axis, size in zip(axes, header.shape, strict=True):
      if size != sizes[axis]:
        return f'{name}: {size} {_FIELD_OF_AXIS.get(axis, "shares")} instead of {sizes[axis]}'
  return None


def _from_arrays(arrays: dict[str, np.ndarray]) -> Predictions:
  """Builds predictions from a file's arrays; raises a `ValueError` if they are invalid."""
  fields: dict[str, Any] = {
    name: array for name, array in arrays.items() if name not in pair_predictions.FORMATS
  }
  for name, axes in _TEXTS.items():
    texts = arrays[name].tolist()
    fields[name] = tuple(texts) if axes else texts
  if len(arrays['logits']) != len(set(fields['recipes'])):
    raise ValueError(f'logits: for {len(arrays["logits"])} recipes, but the recipes are repeated')
  if 'inpainted_scenes' in arrays:
    fields['inpainted_scenes'] = bool(arrays['inpainted_scenes'])
  if 'choices' in arrays:
    fields['choices'] = int(arrays['choices'])
  fields['logits'] = dict(zip(fields['recipes'], arrays['logits'], strict=False))
  fields['pairs'] = PairPredictions.from_arrays(arrays, fields['recipes'])
  try:
    fields['attributes'] = tuple(map(json.loads, fields['attributes']))
  except (ValueError, RecursionError):
    raise ValueError('attributes: not JSON') from None
  return Predictions(**fields)


def check_same_clips(first: Predictions, second: Predictions) -> None:
  """Checks that two models were evaluated on the same clips, so that they can be compared in pairs.

  Raises:
    UserError: the classes, the clips or their labels differ, or their order does; or the
      backgrounds that clips get are inpainted frames in one of them, or the number of choices
      differs; or the verbs and objects, or their training pairs, differ.
  """
  vocabularies = [side.pairs and side.pairs.vocabulary.to_json() for side in (first, second)]
  if vocabularies[0] != vocabularies[1]:
    raise UserError(
      f'{first.dataset}: two runs were evaluated with different verbs, objects or training pairs;'
      ' evaluate both again with the same lists'
    )
  for recipe in first.recipes:
    if recipe not in second.recipes:
      continue
    if first.shows_inpainted_scenes(recipe) != second.shows_inpainted_scenes(recipe):
      raise UserError(
        f'{first.dataset}: under {recipe!r}, one of two runs saw the inpainted frames of other'
        ' clips, and the other filled ones; evaluate both again on the same data'
      )
  if first.choices != second.choices:
    raise UserError(
      f'{first.dataset}: two runs were evaluated with {first.choices} and {second.choices} choices;'
      ' evaluate both again with the same config.eval.choices'
    )
  for name, *sides in (
    ('classes', first.classes, second.classes),
    ('clips', first.ids, second.ids),
    ('labels', first.labels.tolist(), second.labels.tolist()),
  ):
    missing = object()
    pairs = enumerate(itertools.zip_longest(*sides, fillvalue=missing), start=1)
    for number, pair in pairs:
      if pair[0] != pair[1]:
        value_1, value_2 = ('missing' if value is missing else repr(value) for value in pair)
        raise UserError(
          f'{first.dataset}: two runs were not evaluated on the same {name}: number {number} is'
          f' {value_1} in one and {value_2} in the other; evaluate both again on the same data'
        )
