"""What a model said of every clip under every recipe, in one file.

All figures of a study can be formed again from these files. Each is an .npz of NumPy's, without
pickled objects:

    dataset         str           the data set's name in the run's config
    recipes         str[R]        validation recipes
    classes         str[C]
    ids             str[N]        clip ids
    labels          i32[N]
    logits          f32[R, N, C]  NaN in the row of a clip that a recipe could not be applied to
    regions         str[K]        names of the columns of coverage
    coverage        f32[N, K]     share of the pixels of a region, mean over the annotated frames;
                                  NaN where nobody knows
    attributes      str[N]        a JSON object of words
    partners        str[N]        id of the clip whose background it gets, '' where there is none
    partner_labels  i32[N]        its label, -1 where there is none or it is of another class
    saliency        f32[N, 3]     see bias.saliency; NaN where it was not computed
    saliency_area   f32[N, 3]
"""

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.evaluation.untrusted_npz import ArrayHeader, NpzReader
from zsar_jax.recipes import language
from zsar_jax.runtime import file_systems

# Each array's axes: R recipes, N clips, C classes, K regions, and the 3 parts of saliency.
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

# The names along the axes.
_OF_AXIS = {'R': 'recipes', 'C': 'classes', 'N': 'ids', 'K': 'regions'}

# The columns of saliency, which share every pixel out.
PARTS = ('person', 'object', 'background')

# Means of shares may leave [0, 1] by as much in f32.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
  """A model's predictions on one data set.

  The constructor raises a `ValueError` that begins with the field's name where they contradict
  themselves.

  Attributes:
    dataset: its name in the run's config.
    recipes: the texts of the validation recipes.
    classes: the vocabulary.
    ids: of the clips.
    labels: i32[N], places in `classes`.
    logits: f32[N, C] for each recipe, of any scale; see the head of this file.
    regions: the names of the columns of `coverage`, as in `data.regions.REGION_BITS`.
    coverage: f32[N, K].
    attributes: what else is known of each clip, such as Mimetics' {'scene': 'no'}.
    partners: id of the clip whose background each one gets where a recipe swaps them, or ''.
    partner_labels: i32[N], or -1.
    saliency: f32[N, 3].
    saliency_area: f32[N, 3].
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

  def __post_init__(self):
    if tuple(self.logits) != self.recipes:
      raise ValueError(f'logits: of {list(self.logits)}, where the recipes are {self.recipes}')
    sizes = {axis: len(getattr(self, _OF_AXIS[axis])) for axis in _OF_AXIS} | {'3': 3}
    for axis in 'RCN':
      if not sizes[axis]:
        raise ValueError(f'{_OF_AXIS[axis]}: there are none')
    for name in ('attributes', 'partners'):
      if len(getattr(self, name)) != sizes['N']:
        raise ValueError(f'{name}: {len(getattr(self, name))}, where there are {sizes["N"]} clips')
    for name, (dtype, axes) in _NUMBERS.items():
      arrays = self.logits.values() if name == 'logits' else [getattr(self, name)]
      shape = tuple(sizes[axis] for axis in axes.removeprefix('R'))
      for array in arrays:
        if array.dtype != dtype or array.shape != shape:
          raise ValueError(
            f'{name}: {array.dtype}{list(array.shape)}, where it must be'
            f' {np.dtype(dtype)}{list(shape)}'
          )
    self._check_words()
    self._check_numbers()

  def _check_words(self) -> None:
    for name in _OF_AXIS.values():
      twice = [word for word, n in collections.Counter(getattr(self, name)).items() if n > 1]
      if twice:
        raise ValueError(f'{name}: {twice[0]!r} is there twice')
    for name in (*_OF_AXIS.values(), 'partners'):
      # NumPy's texts lose zeros at their end.
      wrong = [word for word in getattr(self, name) if '\0' in word]
      if wrong:
        raise ValueError(f'{name}: {wrong[0]!r} has a character that no name has')
    for text in self.recipes:
      language.parse(text, 'recipes')
    for clip, words in zip(self.ids, self.attributes, strict=True):
      whole = isinstance(words, dict) and all(
        isinstance(word, str) for pair in words.items() for word in pair
      )
      if not whole:
        raise ValueError(f'attributes: those of {clip!r} are no words by names')

  def _check_numbers(self) -> None:
    for name, least in (('labels', 0), ('partner_labels', -1)):
      labels = getattr(self, name)
      if labels.min() < least or labels.max() >= len(self.classes):
        raise ValueError(f'{name}: not all of {least} to {len(self.classes) - 1}')
    lonely = np.array([not partner for partner in self.partners])
    if (self.partner_labels[lonely] >= 0).any():
      clip = self.ids[np.flatnonzero(lonely & (self.partner_labels >= 0))[0]]
      raise ValueError(f'partner_labels: {clip!r} has one, but no partner')
    for name in ('coverage', 'saliency', 'saliency_area'):
      shares = getattr(self, name)
      if ((shares < -_ROUNDING) | (shares > 1 + _ROUNDING)).any():
        raise ValueError(f'{name}: not all of 0 to 1')

  def counted(self, recipe: str) -> np.ndarray:
    """bool[N]: which clips have a say under one of the recipes.

    Where it paints regions, clips whose regions nobody annotated have none, and where it swaps
    backgrounds those without a partner. All others have one; if their logits are not finite they
    count as wrong.
    """
    counted = self.has_masks(recipe)
    if language.parse(recipe).swap_part:
      counted &= np.array([bool(partner) for partner in self.partners])
    return counted

  @property
  def annotated(self) -> np.ndarray:
    """bool[N]: which clips somebody annotated, with every region that is known of any clip."""
    known = np.isfinite(self.coverage)
    return known.any(axis=1) & known[:, known.any(axis=0)].all(axis=1)

  @property
  def actor(self) -> str:
    """The region that people are annotated with: their silhouette, or else their box."""
    shown = dict(zip(self.regions, (self.coverage > 0).any(axis=0), strict=True))
    return 'person_box' if shown.get('person_box') and not shown.get('person') else 'person'

  def has_masks(self, recipe: str) -> np.ndarray:
    """bool[N]: of which clips all regions are known that a recipe needs, if it needs any."""
    finite = dict(zip(self.regions, np.isfinite(self.coverage).T, strict=True))
    known = np.ones(len(self.ids), bool)
    for region in language.parse(recipe).regions:
      # Where a data set has no shapes, its boxes are painted; the background is what is left.
      columns = [finite[name] for name in (region, f'{region}_box') if name in finite]
      known &= next((column for column in columns if column.any()), self.annotated)
    return known

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes a file that is there whole or not at all."""
    texts = {name: np.array(getattr(self, name), str) for name in _TEXTS if name != 'attributes'}
    words = [json.dumps(words, sort_keys=True) for words in self.attributes]
    numbers = {name: getattr(self, name) for name in _NUMBERS if name != 'logits'}
    logits = np.stack(list(self.logits.values()))
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.tmp')
    with partial.open('wb') as file:
      np.savez_compressed(file, **texts, attributes=np.array(words, str), **numbers, logits=logits)
    file_systems.replace(partial, path)


def load(path: str | os.PathLike[str]) -> Predictions:
  """Reads what `Predictions.save` wrote.

  Raises:
    UserError: naming the file and the field, where it is damaged or contradicts itself.
  """
  remedy = 'evaluate the run again'
  try:
    with NpzReader(path) as reader:
      headers = reader.headers((*_TEXTS, *_NUMBERS))
      wrong = _wrong(headers)
      # What the headers contradict is not inflated.
      arrays = {} if wrong else {name: reader.array(name) for name in headers}
  except OSError as error:
    reason = error.strerror or error
    raise UserError(f'{path}: cannot be read ({reason}); {remedy}') from None
  except Exception as error:  # Of damaged files, NumPy and zipfile raise almost anything.
    raise UserError(f'{path}: damaged, or no predictions ({first_line(error)}); {remedy}') from None
  try:
    if wrong:
      raise ValueError(wrong)
    return _from_arrays(arrays)
  except (ValueError, UserError) as error:
    raise UserError(f'{path}: {error}; {remedy}') from None


def _wrong(headers: dict[str, ArrayHeader]) -> str | None:
  """What is wrong with the arrays of a file, as far as their headers tell; None for nothing."""
  sizes = {'3': 3}
  for name, axes in _TEXTS.items():
    if name in headers and len(headers[name].shape) == len(axes) == 1:
      sizes.setdefault(axes, headers[name].shape[0])
  formats = {name: ('text', axes) for name, axes in _TEXTS.items()}
  formats |= {name: (np.dtype(dtype).name, axes) for name, (dtype, axes) in _NUMBERS.items()}
  for name, (kind, axes) in formats.items():
    header = headers.get(name)
    if header is None:
      return f'{name}: missing'
    is_kind = 'text' if header.dtype.kind == 'U' else str(header.dtype)
    if (is_kind, len(header.shape)) != (kind, len(axes)):
      return (
        f'{name}: {is_kind} with {len(header.shape)} axes, where it must be {kind} with {len(axes)}'
      )
    for axis, size in zip(axes, header.shape, strict=True):
      if size != sizes[axis]:
        return f'{name}: {size} {_OF_AXIS.get(axis, "shares")}, where there are {sizes[axis]}'
  return None


def _from_arrays(arrays: dict[str, np.ndarray]) -> Predictions:
  """Predictions from a file's arrays; a `ValueError` where they are none."""
  fields: dict[str, Any] = dict(arrays)
  for name, axes in _TEXTS.items():
    words = arrays[name].tolist()
    fields[name] = tuple(words) if axes else words
  if len(arrays['logits']) != len(set(fields['recipes'])):
    raise ValueError(f'logits: of {len(arrays["logits"])} recipes, where recipes names others')
  fields['logits'] = dict(zip(fields['recipes'], arrays['logits'], strict=False))
  try:
    fields['attributes'] = tuple(map(json.loads, fields['attributes']))
  except (ValueError, RecursionError):
    raise ValueError('attributes: not JSON') from None
  return Predictions(**fields)


def check_same_clips(first: Predictions, second: Predictions) -> None:
  """Checks that two models were asked the same, so that their answers can be compared in pairs.

  Raises:
    UserError: where the classes, the clips or their labels are not the same, in the same order.
  """
  for name, ones, others in (
    ('classes', first.classes, second.classes),
    ('clips', first.ids, second.ids),
    ('labels', first.labels.tolist(), second.labels.tolist()),
  ):
    place = _first_difference(ones, others)
    if place is not None:
      found = ' and '.join(
        repr(words[place]) if place < len(words) else 'missing' for words in (ones, others)
      )
      raise UserError(
        f'{first.dataset}: two runs were not evaluated on the same {name}, of which number'
        f' {place + 1} is {found}; evaluate both again on the same data'
      )


def _first_difference(ones: Sequence, others: Sequence) -> int | None:
  if list(ones) == list(others):
    return None
  pairs = enumerate(zip(ones, others, strict=False))
  return next((n for n, (one, other) in pairs if one != other), min(len(ones), len(others)))
