"""The folder with another program's predictions, which `zsar score-predictions` writes.

It has predictions/DATASET.npz and results.json like a run that was evaluated, and scored.json,
which marks it. `config.model.init_from` takes such a folder in the place of weights: evaluations
and studies then report its predictions.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from zsar_jax.errors import UserError, first_line
from zsar_jax.evaluation import predictions, scored_logits
from zsar_jax.evaluation.clip_list import ClipList
from zsar_jax.evaluation.eval_set import EvalSet
from zsar_jax.evaluation.predictions import Predictions, check_same_clips
from zsar_jax.evaluation.protocol import check_use
from zsar_jax.evaluation.run_results import Results, save_results
from zsar_jax.recipes import language
from zsar_jax.storage.files import read_file, write_file
from zsar_jax.storage.paths import as_path
from zsar_jax.weights.initial import source_folder

MARK = 'scored.json'
FORMAT, VERSION = 'zsar_jax scored predictions', 1


def write_scored(
  lists: Sequence[ClipList], files: Sequence[pathlib.Path], folder: pathlib.Path
) -> tuple[list[Predictions], Results]:
  """Scores the logits of several data sets and writes the folder.

  Args:
    lists: the lists of exported clips.
    files: for each list the file of logits.
    folder: exists.

  Returns:
    The predictions and the results.

  Raises:
    UserError: as `scored_logits.score` raises it, or the data sets were exported with different
      settings; then nothing is written.
  """
  for clips in lists:
    if clips.protocol != lists[0].protocol:
      raise UserError(
        f'--exported: {clips.blank.dataset} and {lists[0].blank.dataset} were exported with'
        ' different settings; score each in a folder of its own'
      )
  scored = [scored_logits.score(clips, path) for clips, path in zip(lists, files, strict=True)]
  names = {of_dataset.dataset for of_dataset in scored}
  groups: Mapping[str, Sequence[str]] = {
    name: members
    for clips in lists
    for name, members in clips.groups.items()
    if names.issuperset(members)
  }
  results = save_results(scored, groups, folder)
  sources = {
    clips.blank.dataset: {
      'logits': path.name,
      'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
      'made': clips.made,
    }
    for clips, path in zip(lists, files, strict=True)
  }
  mark = {
    'format': FORMAT,
    'version': VERSION,
    'protocol': lists[0].protocol,
    'datasets': sources,
  }
  write_file(folder / MARK, json.dumps(mark, indent=1) + '\n')
  return scored, results


def is_scored(source: str) -> bool:
  """Returns whether `config.model.init_from` names a folder with another program's predictions."""
  folder = source_folder(source)
  return folder is not None and (folder / MARK).is_file()


def read_scored(config: ConfigDict) -> tuple[list[Predictions], dict[str, Any]]:
  """Returns the predictions in the folder `config.model.init_from`, as those of an evaluation.

  Returns:
    The predictions, and what the program was shown, from `protocol.describe_use`.

  Raises:
    UserError: they are not of the clips, masks or recipes of `config.eval`.
  """
  field = 'config.model.init_from'
  folder = as_path(config.model.init_from, field)
  try:
    mark = json.loads(read_file(folder / MARK))
    if mark['format'] != FORMAT or mark['version'] != VERSION:
      raise ValueError(f'it is not of version {VERSION}')
    check_use(mark['protocol'])
  except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
    raise UserError(
      f'{field}: {folder / MARK} is damaged ({first_line(error)}); score the logits again with zsar'
      ' score-predictions'
    ) from None
  recipes = [language.parse(text) for text in config.eval.recipes]
  scored = [
    _read_dataset(EvalSet.open(config, name, recipes, ()), folder, field)
    for name in config.eval.datasets
  ]
  return scored, mark['protocol']


def _read_dataset(eval_set: EvalSet, folder: pathlib.Path, field: str) -> Predictions:
  """Returns the predictions on a data set, after a comparison with its clips."""
  path = folder / 'predictions' / f'{eval_set.name}.npz'
  if not path.is_file():
    raise UserError(
      f'{field}: {folder} has no predictions for the data set {eval_set.name}; leave it out of'
      ' config.eval.datasets, or export its clips and score them'
    )
  scored = predictions.load(path)
  names = [str(recipe) for recipe in eval_set.recipes]
  for name in names:
    if name not in scored.logits:
      raise UserError(
        f'{field}: {path} has no predictions under {name!r}; leave it out of config.eval.recipes,'
        ' or export the clips with it and score them'
      )
  blank = eval_set.blank()
  try:
    check_same_clips(blank, scored)
  except UserError as error:
    raise UserError(f'{field}: {path}: {error}') from None
  same_masks = blank.regions == scored.regions and np.array_equal(
    blank.coverage, scored.coverage, equal_nan=True
  )
  # Without a recipe that swaps backgrounds, clips have no partners here.
  if not same_masks or (eval_set.partners is not None and blank.partners != scored.partners):
    raise UserError(
      f'{field}: {path}: the clips have other masks or other partners than those of'
      f' config.eval.datasets.{eval_set.name}; export them again and score them'
    )
  return dataclasses.replace(
    blank, recipes=tuple(names), logits={name: scored.logits[name] for name in names}
  )
