"""study.json, read and checked once, so that the report can rely on every field.

An *estimate* is a dict of value, low, high (fractions; None where they cannot be computed, as in
0/0), per_seed, count (clips), chance (the value of a model that guesses) and, of a difference, p
and mcnemar. Where the file has null for a whole estimate, one of Nones takes its place.
"""

import dataclasses
import json
import pathlib
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.study.statistics import VERDICTS

Estimate = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Each:
  """An object of any names, all values of one kind."""

  kind: Any


@dataclasses.dataclass(frozen=True)
class _OneOf:
  """One of some texts."""

  choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Maybe:
  """A value or null."""

  kind: Any


_NUMBER = _Maybe(float)
_ESTIMATE = {
  'value': _NUMBER,
  'low': _NUMBER,
  'high': _NUMBER,
  'per_seed?': [_NUMBER],
  'count?': _Maybe(int),
  'p?': _NUMBER,
  'mcnemar?': [_NUMBER],
  'chance?': _NUMBER,
}
_NO_ESTIMATE = {
  **dict.fromkeys(('value', 'low', 'high', 'count', 'p', 'chance')),
  **{'per_seed': [], 'mcnemar': []},
}
_COVERAGE = _Each([{'low': float, 'high': float, 'count': int, 'top1': _ESTIMATE}])
_AREA = {'person': _NUMBER, 'object': _NUMBER, 'background': _NUMBER}

# An object with these fields; a name that ends in '?' may be missing. [kind] is a list,
# (kind, kind) a list of this length.
_DATASET = {
  'about': str,
  'count': int,
  'classes': int,
  'matrix': _Each(_Each({'top1': _ESTIMATE, 'top5?': _ESTIMATE, 'mean_class?': _ESTIMATE})),
  'difference?': _Each(_Each(_ESTIMATE)),
  'bias?': _Each(_Each(_ESTIMATE)),
  'classes_gain?': _Each(
    [{'class': str, 'count': int, 'baseline': _NUMBER, 'accuracy': _NUMBER, 'gain': _ESTIMATE}]
  ),
  'strata?': _Each(_Each(_Each(_ESTIMATE))),
  'coverage?': _COVERAGE,
  'coverage_swapped?': _COVERAGE,
  'saliency?': _Each(
    {'person': _ESTIMATE, 'object': _ESTIMATE, 'background': _ESTIMATE, 'area': _AREA}
  ),
  'gallery?': [
    {
      'clip': str,
      'class': str,
      'why': str,
      'pictures': _Each(str),
      'predictions': _Each(_Each([(str, _NUMBER)])),
      # By recipe: why the clip does not count, and how many of its frames stay unpainted.
      'not_counted?': _Each(str),
      'frames?': _Maybe(int),
      'unpainted?': _Each(int),
    }
  ],
}
_RUN = {
  'about': str,
  'recipe': str,
  'config': dict,
  'changes': dict,
  'folders': _Each(str),
  'curves?': _Each({'step': [float], 'loss?': [_NUMBER], 'accuracy?': [_NUMBER]}),
}
# A side of a finding: a top-1, and the experiment, run, data set and recipe that it is of.
_SIDE = {'value': _NUMBER, 'place': (str, str, str, str)}
_STUDY = {
  'title': str,
  'about?': _Maybe(str),
  'created': str,
  'versions': _Each(str),
  'hardware': str,
  'seeds': [int],
  'command': str,
  'experiments': _Each(
    {
      'about': str,
      'baseline': str,
      'recipes': [str],
      'runs': _Each(_RUN),
      'datasets': _Each(_DATASET),
    }
  ),
  'findings?': [
    {
      'name': str,
      'statement': str,
      'verdict': _OneOf(VERDICTS),
      'threshold': float,
      'estimate': _ESTIMATE,
      'per_seed': [_NUMBER],
      'better?': _Maybe(_SIDE),
      'worse?': _Maybe(_SIDE),
      'explanation': str,
    }
  ],
}

# Nothing that a study counts or measures is larger; what is not finite is not below it either.
_LARGEST = 1e15

_WORDS = {
  str: 'a text',
  int: 'a whole number below 1e15',
  float: 'a number below 1e15',
  bool: 'true or false',
  dict: 'an object',
  list: 'a list',
}


def read(path: pathlib.Path) -> dict[str, Any]:
  """The study of a study.json.

  Raises:
    UserError: one sentence that names the field, if the file is not a study.
  """
  try:
    # NaN and Infinity are no JSON, but some writers have them: they are numbers that cannot be
    # formed.
    study = json.loads(path.read_bytes(), parse_constant=lambda _: None)
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror}); make the study first') from None
  except (ValueError, RecursionError):
    raise UserError(f'{path}: is no JSON; make the study again') from None
  try:
    study = _checked(study, _STUDY, '')
    _check_names(study)
  except _Wrong as wrong:
    raise UserError(f'{path}: {wrong}; make the study again') from None
  return study


def datasets(study: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
  """(experiment's name, experiment, data set's name, data set), in order."""
  for name, experiment in study['experiments'].items():
    for dataset_name, dataset in experiment['datasets'].items():
      yield name, experiment, dataset_name, dataset


def recipe_shown(experiment: dict[str, Any]) -> str | None:
  """The validation recipe that clips are judged under: as they are, or the first there is."""
  recipes = experiment['recipes']
  return 'none' if 'none' in recipes else next(iter(recipes), None)


def matrix_cell(dataset: dict[str, Any], run: str, recipe: str, metric: str) -> Estimate:
  """An accuracy of the train x validation matrix; Nones where it was not evaluated."""
  return dataset['matrix'].get(run, {}).get(recipe, {}).get(metric, _NO_ESTIMATE)


def difference_cell(dataset: dict[str, Any], run: str, recipe: str) -> Estimate:
  """A top-1 minus the baseline run's; Nones where it was not evaluated."""
  return dataset['difference'].get(run, {}).get(recipe, _NO_ESTIMATE)


def best_run(experiment: dict[str, Any], dataset: dict[str, Any]) -> str | None:
  """The run with the highest top-1 under `recipe_shown` other than the baseline, if any."""
  recipe = recipe_shown(experiment)
  values = {
    run: matrix_cell(dataset, run, recipe, 'top1')['value']
    for run in experiment['runs']
    if run != experiment['baseline']
  }
  values = {run: value for run, value in values.items() if value is not None}
  return max(values, key=values.get) if values else None


class _Wrong(Exception):
  """What is wrong with which field."""


def _checked(value: Any, kind: Any, where: str) -> Any:
  """The value, with defaults filled in; raises `_Wrong` where it is of another kind."""
  if kind is _ESTIMATE and value is None:
    return dict(_NO_ESTIMATE)
  match kind:
    case _OneOf(choices=choices):
      _expect(value, str, where)
      if value not in choices:
        raise _Wrong(f'the field {where} is {reprlib.repr(value)} and must be one of {choices}')
      return value
    case _Maybe(kind=inner):
      return None if value is None else _checked(value, inner, where)
    case _Each(kind=inner):
      _expect(value, dict, where)
      return {name: _checked(item, inner, _join(where, name)) for name, item in value.items()}
    case dict():
      _expect(value, dict, where)
      return {name.rstrip('?'): _field(value, name, inner, where) for name, inner in kind.items()}
    case [inner] if isinstance(kind, list):
      _expect(value, list, where)
      return [_checked(item, inner, f'{where}[{place}]') for place, item in enumerate(value)]
    case tuple():
      _expect(value, list, where)
      if len(value) != len(kind):
        raise _Wrong(f'the field {where} has {len(value)} entries and must have {len(kind)}')
      return [
        _checked(*pair, f'{where}[{i}]') for i, pair in enumerate(zip(value, kind, strict=True))
      ]
  _expect(value, kind, where)
  return value


def _field(value: dict[str, Any], name: str, kind: Any, where: str) -> Any:
  key = name.rstrip('?')
  if key in value:
    return _checked(value[key], kind, _join(where, key))
  if not name.endswith('?'):
    raise _Wrong(f'the field {_join(where, key)} is missing')
  if kind is _ESTIMATE or isinstance(kind, _Maybe):
    return dict(_NO_ESTIMATE) if kind is _ESTIMATE else None
  return [] if isinstance(kind, list) else {}


def _expect(value: Any, kind: type, where: str) -> None:
  fits = isinstance(value, (int, float) if kind is float else kind)
  if isinstance(value, bool) and kind is not bool:
    fits = False
  if fits and kind in (int, float) and not abs(value) < _LARGEST:
    fits = False
  if not fits:
    subject = f'the field {where}' if where else 'the file'
    raise _Wrong(f'{subject} is {reprlib.repr(value)} and must be {_WORDS[kind]}')


def _join(where: str, name: str) -> str:
  name = name if len(name) <= 60 else f'{name[:57]}...'
  return f'{where}.{name}' if where else name


def _check_names(study: dict[str, Any]) -> None:
  """Every run and recipe that is spoken of must be one of the experiment's."""
  for name, experiment in study['experiments'].items():
    runs, where = experiment['runs'], f'experiments.{name}'
    _known([experiment['baseline']], runs, f'{where}.baseline', 'run')
    for run, entry in runs.items():
      for seed, curve in entry['curves'].items():
        for field in ('loss', 'accuracy'):
          if curve[field] and len(curve[field]) != len(curve['step']):
            raise _Wrong(
              f'the field {where}.runs.{run}.curves.{seed}.{field} has {len(curve[field])}'
              f' numbers for {len(curve["step"])} steps'
            )
    for dataset_name, dataset in experiment['datasets'].items():
      place = f'{where}.datasets.{dataset_name}'
      for field in (
        'matrix',
        'difference',
        'bias',
        'classes_gain',
        'strata',
        'coverage',
        'coverage_swapped',
        'saliency',
      ):
        _known(dataset[field], runs, f'{place}.{field}', 'run')
      for field in ('matrix', 'difference'):
        for run, row in dataset[field].items():
          _known(row, experiment['recipes'], f'{place}.{field}.{run}', 'recipe')
      for number, clip in enumerate(dataset['gallery']):
        here = f'{place}.gallery[{number}]'
        for field in ('pictures', 'not_counted', 'unpainted'):
          _known(clip[field], experiment['recipes'], f'{here}.{field}', 'recipe')
        _known(clip['predictions'], runs, f'{here}.predictions', 'run')
        for run, row in clip['predictions'].items():
          _known(row, experiment['recipes'], f'{here}.predictions.{run}', 'recipe')


def _known(names: Iterable[str], known: Iterable[str], where: str, what: str) -> None:
  for name in names:
    if name not in known:
      raise _Wrong(f'the field {where} names {reprlib.repr(name)}, which is no {what} here')
