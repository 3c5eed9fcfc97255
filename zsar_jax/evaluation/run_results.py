"""The accuracies of a run: results.json and its table."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.evaluation.metrics import accuracy
from zsar_jax.evaluation.multiple_choice import multiple_choice
from zsar_jax.evaluation.pair_metrics import format_pairs, pair_results
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.runtime import distributed
from zsar_jax.storage.files import write_file

# {data set: {recipe: {'top1', 'top5', 'mean_class', 'count'}}}, and for each group of data sets
# {group: {recipe: {'top1', 'top1_std', ..., 'count', 'over'}}}, see `summarize_group`. If the
# backgrounds that clips get under a recipe are inpainted frames, there is also 'scenes'; with
# multiple choice also 'multiple_choice', an accuracy, and 'choices', the number of classes; and if
# the classes are pairs of a verb and an object, also 'pairs', {world: figures}, see `pair_metrics`.
Results = dict[str, dict[str, dict[str, Any]]]

FIGURES = ('top1', 'top5', 'mean_class')
MULTIPLE_CHOICE = 'multiple_choice'

INPAINTED = 'inpainted'


def compute_results(
  predictions: Sequence[Predictions], groups: Mapping[str, Sequence[str]]
) -> Results:
  """Computes the accuracies of an evaluation.

  Args:
    predictions: the predictions on each data set.
    groups: the names of the data sets in each group.
  """
  results = {}
  for of_dataset in predictions:
    by_recipe: dict[str, dict[str, Any]] = {}
    for recipe, logits in of_dataset.logits.items():
      counted = of_dataset.counted(recipe)
      by_recipe[recipe] = accuracy(logits[counted], of_dataset.labels[counted])
      if of_dataset.choices:
        by_recipe[recipe][MULTIPLE_CHOICE] = multiple_choice(of_dataset, recipe).value
        by_recipe[recipe]['choices'] = of_dataset.choices
      if of_dataset.shows_inpainted_scenes(recipe):
        by_recipe[recipe]['scenes'] = INPAINTED
      if of_dataset.pairs:
        by_recipe[recipe]['pairs'] = pair_results(of_dataset, recipe)
    results[of_dataset.dataset] = by_recipe
  return results | {
    name: summarize_group([results[member] for member in members])
    for name, members in groups.items()
  }


def summarize_group(members: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
  """Computes mean and standard deviation over data sets, such as three test splits.

  Args:
    members: the results of two or more data sets, under the same recipes.

  Returns:
    {recipe: figures}: the mean of each accuracy, their sample standard deviations (n - 1) as
    'top1_std' and so on, the total number of clips as 'count', the number of data sets as
    'over', and 'scenes' if any of them has it.
  """
  summary = {}
  for recipe in members[0]:
    figures: dict[str, Any] = {}
    for name in _accuracy_names(members[0][recipe]):
      values = [member[recipe][name] for member in members]
      figures[name] = float(np.mean(values))
      figures[f'{name}_std'] = float(np.std(values, ddof=1))
    if 'choices' in members[0][recipe]:
      figures['choices'] = members[0][recipe]['choices']
    figures['count'] = sum(member[recipe]['count'] for member in members)
    inpainted = sum('scenes' in member[recipe] for member in members)
    if inpainted:
      of_all = f'{INPAINTED} in {inpainted} of {len(members)} data sets'
      figures['scenes'] = INPAINTED if inpainted == len(members) else of_all
    summary[recipe] = figures | {'over': len(members)}
  return summary


def save_results(
  predictions: Sequence[Predictions], groups: Mapping[str, Sequence[str]], workdir: pathlib.Path
) -> Results:
  """Writes predictions/DATASET.npz and results.json; returns the content of the latter."""
  results = compute_results(predictions, groups)
  if distributed.is_main():
    for of_dataset in predictions:
      of_dataset.save(workdir / 'predictions' / f'{of_dataset.dataset}.npz')
    write_file(workdir / 'results.json', json.dumps(results, indent=2) + '\n')
  return results


def describe_not_finite(predictions: Predictions) -> list[str]:
  """Returns a sentence for each recipe under which scores of clips that count are not finite."""
  sentences = []
  for recipe, logits in predictions.logits.items():
    counted = predictions.counted(recipe)
    invalid = int(np.count_nonzero(~np.isfinite(logits[counted]).all(axis=1)))
    if invalid:
      sentences.append(
        f'the scores of {invalid} of {counted.sum()} clips of {predictions.dataset} under'
        f' {recipe!r} are not finite; these clips count as wrong'
      )
  return sentences


def format_table(results: Results) -> str:
  """Formats results as text: a block for each data set and group, a row for each recipe.

  Each row has its own number of clips, since not every clip counts under every recipe.
  """
  lines = []
  for name, by_recipe in results.items():
    first = next(iter(by_recipe.values()))
    is_group = 'over' in first
    title = f'{name} (mean and standard deviation over {first["over"]})' if is_group else name
    labels = {
      recipe: f'{recipe} (scenes {figures["scenes"]})' if 'scenes' in figures else recipe
      for recipe, figures in by_recipe.items()
    }
    width = max(len(title) - 2, *map(len, labels.values()))
    column = 11 if is_group else 6
    heads = {'top1': 'top-1', 'top5': 'top-5', 'mean_class': 'mean class'}
    heads[MULTIPLE_CHOICE] = f'1 of {first.get("choices")}'
    widths = {figure: max(column, len(heads[figure])) for figure in _accuracy_names(first)}
    head = ''.join(f'  {heads[figure]:>{size}}' for figure, size in widths.items())
    lines.append(f'{title:<{width + 2}}   clips{head}')
    for recipe, figures in by_recipe.items():
      cells = ''.join(f'  {_percent(figures, figure):>{size}}' for figure, size in widths.items())
      lines.append(f'  {labels[recipe]:<{width}}  {figures["count"]:>6}{cells}')
    lines.append('')
  pairs = format_pairs(results)
  return '\n'.join(lines) + (f'\n{pairs}' if pairs else '')


def _accuracy_names(figures: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns which accuracies the figures of a recipe have."""
  return (*FIGURES, MULTIPLE_CHOICE) if MULTIPLE_CHOICE in figures else FIGURES


def _percent(figures: dict[str, float], figure: str) -> str:
  deviation = figures.get(f'{figure}_std')
  spread = '' if deviation is None else f' ± {100 * deviation:.1f}'
  return f'{100 * figures[figure]:.1f}{spread}'
