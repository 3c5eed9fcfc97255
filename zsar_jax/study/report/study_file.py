"""Reads study.json and looks up its results.

`analysis` writes the file. An *estimate* is a dict of value, low and high (fractions; None if they
cannot be computed, as in 0/0), per_seed and count (the number of clips); chance (the value of a
model that guesses), p and mcnemar may be missing.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.study import statistics

Estimate = dict[str, Any]

NO_ESTIMATE: Estimate = {**dict.fromkeys(('value', 'low', 'high', 'count')), 'per_seed': []}

# Required fields of the file's objects; a file that lacks any is from another version.
_STUDY = (
  'title', 'about', 'created', 'versions', 'hardware', 'seeds', 'command', 'experiments',
  'findings',
)  # fmt: skip
_FINDING = (
  'name', 'statement', 'verdict', 'threshold', 'estimate', 'per_seed', 'better', 'worse',
  'explanation',
)  # fmt: skip
_EXPERIMENT = ('about', 'baseline', 'recipes', 'runs', 'datasets')
_RUN = ('about', 'recipe', 'changes', 'config', 'folders', 'curves')
_DATASET = ('about', 'count', 'classes', 'matrix', 'difference', 'bias', 'saliency', 'gallery')
_CLIP = (
  'clip', 'class', 'why', 'pictures', 'predictions', 'not_counted', 'frames', 'unpainted',
)  # fmt: skip

_OPTIONAL_OF_RUN = ('source', 'trained_on', 'license', 'protocol')

# Fields that a data set has only if its clips and the evaluated recipes are those for them.
_OPTIONAL = (
  'classes_gain', 'strata', 'coverage', 'coverage_swapped', 'pairs', 'chiral_groups',
)  # fmt: skip


def read(path: pathlib.Path) -> dict[str, Any]:
  """Reads a study.json.

  Raises:
    UserError: if the file is missing, not JSON or from another version.
  """
  try:
    study = json.loads(path.read_bytes())
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror}); make the study first') from None
  except (ValueError, RecursionError):
    raise UserError(f'{path}: is not JSON; make the study again') from None
  try:
    _check_version(study)
  except _MissingFieldError as missing:
    raise UserError(
      f'{path}: {missing}, so it is from another version of zsar_jax; make the study again'
    ) from None
  # Earlier versions wrote none of these.
  study.setdefault('masks', {})
  study.setdefault('clips', 'stills')
  for experiment in study['experiments'].values():
    for run in experiment['runs'].values():
      for field in _OPTIONAL_OF_RUN:
        run.setdefault(field, None)
  for _, _, _, dataset in datasets(study):
    dataset.update({field: {} for field in _OPTIONAL if field not in dataset})
    dataset.setdefault('ranking', [])  # Only if there are several runs to rank.
    for clip in dataset['gallery']:
      clip.setdefault('clips', {})
  return study


class _MissingFieldError(Exception):
  """Says which field is missing."""


def _check_version(study: Any) -> None:
  _require(_STUDY, study, 'the file')
  for finding in study['findings']:
    _require(_FINDING, finding, 'a finding')
    if finding['verdict'] not in statistics.VERDICTS:
      raise _MissingFieldError(f'a finding has the verdict {finding["verdict"]!r:.60}')
  for experiment in study['experiments'].values():
    _require(_EXPERIMENT, experiment, 'an experiment')
    for run in experiment['runs'].values():
      _require(_RUN, run, 'a run')
    for dataset in experiment['datasets'].values():
      _require(_DATASET, dataset, 'a data set')
      for clip in dataset['gallery']:
        _require(_CLIP, clip, 'a clip of the gallery')


def _require(fields: Iterable[str], entry: Any, subject: str) -> None:
  for field in fields:
    if not isinstance(entry, dict) or field not in entry:
      raise _MissingFieldError(f'{subject} has no field {field}')


def datasets(study: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
  """Yields (experiment's name, experiment, data set's name, data set), in order."""
  for name, experiment in study['experiments'].items():
    for dataset_name, dataset in experiment['datasets'].items():
      yield name, experiment, dataset_name, dataset


def inside(folder: pathlib.Path, path: str, subject: str) -> pathlib.Path:
  """Returns a file of the study's folder.

  Args:
    folder: the study's folder, resolved.
    path: the path, as in study.json.
    subject: what the file is, such as 'the picture'.

  Raises:
    UserError: if the path is absolute or leaves the folder, also by a link.
  """
  outside = UserError(
    f'{folder / "study.json"}: {subject} {path!r} lies outside the folder of the study; give a path'
    ' relative to it'
  )
  if pathlib.PurePosixPath(path).is_absolute() or pathlib.PureWindowsPath(path).drive:
    raise outside
  try:
    file = (folder / path).resolve()
  except (ValueError, OSError, RuntimeError):
    raise outside from None
  if not file.is_relative_to(folder):
    raise outside
  return file


def main_recipe(experiment: dict[str, Any]) -> str | None:
  """The validation recipe by which runs are compared: 'none', or else the first."""
  recipes = experiment['recipes']
  return 'none' if 'none' in recipes else next(iter(recipes), None)


def accuracy(dataset: dict[str, Any], run: str, recipe: str, metric: str = 'top1') -> Estimate:
  """An accuracy of the train x validation matrix; Nones if it was not evaluated."""
  return dataset['matrix'].get(run, {}).get(recipe, {}).get(metric, NO_ESTIMATE)


def difference(dataset: dict[str, Any], run: str, recipe: str) -> Estimate:
  """A run's top-1 minus that of the baseline run; Nones if it was not evaluated."""
  return dataset['difference'].get(run, {}).get(recipe, NO_ESTIMATE)


def columns(
  experiment: dict[str, Any], dataset: dict[str, Any], estimate_of: Callable[..., Estimate]
) -> list[list[Estimate]]:
  """For each recipe, `estimate_of(dataset, run, recipe)` of all runs."""
  return [
    [estimate_of(dataset, run, recipe) for run in experiment['runs']]
    for recipe in experiment['recipes']
  ]


def best_run(experiment: dict[str, Any], dataset: dict[str, Any]) -> str | None:
  """The run other than the baseline with the highest top-1 under `main_recipe`, if any."""
  recipe = main_recipe(experiment)
  if recipe is None:
    return None
  top1 = {
    run: value
    for run in experiment['runs']
    if run != experiment['baseline']
    and (value := accuracy(dataset, run, recipe)['value']) is not None
  }
  return max(top1, key=top1.__getitem__) if top1 else None
