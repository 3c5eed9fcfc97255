"""How to reproduce a study's numbers: texts, and example code."""

import json
from typing import Any

from zsar_jax.study.report import tables

INTERVALS = (
  'Each rate is the ratio of two sums over clips. Clips without masks do not count under a recipe'
  ' that paints regions, and clips without a partner do not count where backgrounds are swapped. A'
  ' difference, its interval and its p-value are computed over the clips that count on both sides.',
  'The 95 % intervals are percentile bootstrap intervals: clips are drawn with replacement, the'
  ' same clips for all seeds; where there are several seeds, seeds are drawn as well. For a'
  ' difference, both sides use the same clips and seeds in each draw. With few seeds, the part of'
  ' the interval that is due to seeds is too narrow. The intervals are not corrected for their'
  ' number.',
  'The p-value of a difference is the share of draws without a gain (one-sided). The McNemar'
  ' p-values, one for each seed, test whether both runs are right equally often (exact,'
  ' two-sided). Chance is the value of a model that guesses evenly among all classes.',
)

FROM_PREDICTIONS = (
  'The folder of each training has predictions/DATASET.npz: the logits of every clip under every'
  ' validation recipe, in the order of its recipes, ids and classes. NumPy reads this file. In the'
  ' folder of the study, this code computes a top-1 and its interval:'
)


def example_code(study: dict[str, Any]) -> str:
  """Python code that computes the first top-1 of the study; empty if there is none."""
  for experiment in study['experiments'].values():
    for run in experiment['runs'].values():
      for dataset in experiment['datasets'] if run['folders'] and experiment['recipes'] else ():
        paths = ''.join(
          f'  {f"{folder}/predictions/{dataset}.npz"!r},\n' for folder in run['folders'].values()
        )
        return (
          'from zsar_jax.evaluation import metrics, predictions, ratio\n'
          'from zsar_jax.study import statistics\n\n'
          f'paths = [\n{paths}]\n'
          f'recipe = {experiment["recipes"][0]!r}\n'
          'top1 = [metrics.top_1(predictions.load(path), recipe) for path in paths]\n'
          'print(statistics.estimate(ratio.stack_seeds(top1)))\n'
        )
  return ''


def changes(run: dict[str, Any]) -> list[str]:
  """The config fields that a run changes in the baseline, as 'FIELD = VALUE'."""
  return [f'{field} = {to_json(value)}' for field, value in run['changes'].items()]


def runs_table(runs: dict[str, Any]) -> tables.Table:
  """Returns what each run trains with."""
  rows = [
    (name, [run['about'], run['recipe'], ', '.join(changes(run))]) for name, run in runs.items()
  ]
  return tables.Table('Runs', ['description', 'training recipe', 'changes'], {'': rows}, 'run')


def to_json(value: Any, indent: int | None = None) -> str:
  """A value of a config as JSON."""
  return json.dumps(value, ensure_ascii=False, indent=indent)
