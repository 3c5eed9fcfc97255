"""From the predictions of all runs to study.json: every figure of a study with its interval.

study.json is what the report is made of, and all of it can be formed again from the predictions:
docs/bias.md describes both.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.bias import metrics, predictions, statistics
from zsar_jax.bias.metrics import Ratio
from zsar_jax.bias.predictions import Predictions
from zsar_jax.bias.study import gallery
from zsar_jax.bias.study.plan import Job
from zsar_jax.writers import say, write_whole

# {run: its predictions on a data set, one for each seed}
ByRun = dict[str, list[Predictions]]

_PACKAGES = ('zsar_jax', 'jax', 'jaxlib', 'flax', 'optax', 'grain', 'orbax-checkpoint', 'numpy')

# Points of a training curve.
_POINTS = 200


def write_study(
  study: ConfigDict, jobs: Sequence[Job], workdir: pathlib.Path, command: str
) -> None:
  """Writes study.json, and the pictures that it names.

  Args:
    study: its config.
    jobs: all of its runs, finished.
    workdir: of the study.
    command: that made it.

  Raises:
    UserError: where predictions are damaged, or are not of the same clips.
  """
  found: dict[str, dict[str, ByRun]] = {}
  for job in jobs:
    for dataset in job.config.eval.datasets:
      one = predictions.load(job.folder / 'predictions' / f'{dataset}.npz')
      by_run = found.setdefault(job.experiment, {}).setdefault(dataset, {})
      by_run.setdefault(job.run, []).append(one)
      predictions.same_clips(next(iter(by_run.values()))[0], one)
  content = {
    'title': study.title,
    'about': study.about,
    'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'versions': {package: _version(package) for package in _PACKAGES},
    'hardware': _hardware(),
    'seeds': list(study.seeds),
    'command': command,
    'experiments': {
      name: _experiment(study, name, [job for job in jobs if job.experiment == name], by, workdir)
      for name, by in found.items()
    },
    'findings': [_finding(one, found, study.draws) for one in study.findings],
  }
  write_whole(workdir / 'study.json', json.dumps(content, indent=1, allow_nan=False) + '\n')


def _experiment(
  study: ConfigDict,
  name: str,
  jobs: Sequence[Job],
  by_dataset: dict[str, ByRun],
  workdir: pathlib.Path,
) -> dict[str, Any]:
  one = study.experiments[name]
  # In the config's order; jobs have the baseline first.
  order = sorted(one.runs, key=lambda run: run != one.baseline)
  datasets = {}
  for dataset, by_run in by_dataset.items():
    say(f'measuring {name} on {dataset}')
    by_run = {run: by_run[run] for run in order}
    datasets[dataset] = _dataset(by_run, one.baseline, study.draws)
    first = {run: seeds[0] for run, seeds in by_run.items()}
    choices = gallery.choose(first, one.baseline, study.gallery)
    datasets[dataset]['gallery'] = gallery.draw(
      one.base, dataset, first, choices, workdir, f'{name}-{dataset}'
    )
  return {
    'about': one.about,
    'baseline': one.baseline,
    'recipes': [str(config_lib.recipes.parse(text)) for text in one.base.eval.recipes],
    'runs': {
      run: _run(one.runs[run], [job for job in jobs if job.run == run], workdir) for run in order
    },
    'datasets': datasets,
  }


def _run(changed: ConfigDict, jobs: Sequence[Job], workdir: pathlib.Path) -> dict[str, Any]:
  return {
    'about': changed.about,
    'recipe': str(config_lib.recipes.parse(jobs[0].config.recipe)),
    'changes': dict(changed.changes),
    'config': json.loads(config_lib.to_json(jobs[0].config)),
    'folders': {str(job.config.seed): str(job.folder.relative_to(workdir)) for job in jobs},
    'curves': {str(job.config.seed): _curve(job.folder / 'metrics.jsonl') for job in jobs},
  }


def _curve(path: pathlib.Path) -> dict[str, list[float]]:
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  lines = lines[:: -(-len(lines) // _POINTS)] if lines else []
  return {name: [line[name] for line in lines] for name in ('step', 'loss', 'accuracy')}


def _dataset(by_run: ByRun, baseline: str, draws: int) -> dict[str, Any]:
  """The figures of a data set."""
  plain = by_run[baseline][0]

  def estimates(form: Callable[[Predictions], dict[str, Ratio]], run: str) -> dict[str, Any]:
    """What `form` makes of a run's predictions, with intervals over clips and seeds."""
    by_seed = [form(one) for one in by_run[run]]
    return {
      name: statistics.estimate(metrics.stack([one[name] for one in by_seed]), draws).to_json()
      for name in by_seed[0]
    }

  def gains(form: Callable[[Predictions], dict[str, Ratio]], run: str) -> dict[str, Any]:
    """The same less the baseline's, in pairs."""
    by_seed, before = ([form(one) for one in by_run[name]] for name in (run, baseline))
    return {
      name: statistics.difference(
        metrics.stack([one[name] for one in by_seed]),
        metrics.stack([one[name] for one in before]),
        draws,
      ).to_json()
      for name in by_seed[0]
    }

  def top1(one: Predictions) -> dict[str, Ratio]:
    return {recipe: metrics.top_1(one, recipe) for recipe in one.recipes}

  def coverage(recipe: str, run: str) -> list[dict[str, Any]]:
    """Top-1 by the share of the frame that people cover."""
    by_bin = estimates(lambda one: metrics.by_coverage(one, plain.actor, recipe), run)
    return [
      {'low': low, 'high': high, 'count': found['count'], 'top1': found}
      for (low, high), found in by_bin.items()
    ]

  figures = {
    'top1': top1,
    'top5': lambda one: {recipe: metrics.top_k(one, recipe, 5) for recipe in one.recipes},
    'mean_class': lambda one: {recipe: metrics.mean_class(one, recipe) for recipe in one.recipes},
  }
  others = [run for run in by_run if run != baseline]
  told: dict[str, Any] = {
    'about': f'{len(plain.ids)} clips of {len(plain.classes)} classes',
    'count': len(plain.ids),
    'classes': len(plain.classes),
    'matrix': {},
    'difference': {
      run: {
        recipe: gain | {'mcnemar': _mcnemar(by_run[run], by_run[baseline], recipe)}
        for recipe, gain in gains(top1, run).items()
      }
      for run in others
    },
    'bias': {run: estimates(metrics.bias_metrics, run) for run in by_run},
  }
  for run in by_run:
    columns = {figure: estimates(form, run) for figure, form in figures.items()}
    told['matrix'][run] = {
      recipe: {figure: column[recipe] for figure, column in columns.items()}
      for recipe in plain.recipes
    }
  if 'none' in plain.recipes:
    told['classes_gain'] = {run: _classes(by_run, run, baseline, gains) for run in others}
    told['strata'] = {
      run: {
        name: estimates(lambda one, name=name: metrics.by_attribute(one, name), run)
        for name in sorted({key for words in plain.attributes for key in words})
      }
      for run in by_run
    }
    told['coverage'] = {run: coverage('none', run) for run in by_run}
  if swapped := metrics.swap_recipe(plain):
    told['coverage_swapped'] = {run: coverage(swapped, run) for run in by_run}
  told['saliency'] = {
    run: shares | {'area': {part: one['value'] for part, one in areas.items()}}
    for run in by_run
    if (shares := estimates(lambda one: metrics.mean_shares(one.saliency), run))
    and (areas := estimates(lambda one: metrics.mean_shares(one.saliency_area), run))
  }
  return told


def _mcnemar(first: list[Predictions], second: list[Predictions], recipe: str) -> list[float]:
  """Of each seed the p-value of "both runs are right equally often"."""
  found = []
  for one, other in zip(first, second, strict=True):
    right = [metrics.top_1(p, recipe).numerator > 0 for p in (one, other)]
    found.append(statistics.mcnemar(*right))
  return found


def _classes(by_run: ByRun, run: str, baseline: str, gains: Callable) -> list[dict[str, Any]]:
  """Per-class gains over the baseline, on clips as they are."""
  gained = gains(metrics.by_class, run)
  accuracies = [[metrics.by_class(one) for one in by_run[name]] for name in (baseline, run)]
  return [
    {
      'class': name,
      'count': gain['count'],
      'baseline': metrics.stack([one[name] for one in accuracies[0]]).value,
      'accuracy': metrics.stack([one[name] for one in accuracies[1]]).value,
      'gain': gain,
    }
    for name, gain in gained.items()
  ]


def _finding(one: ConfigDict, found: dict[str, dict[str, ByRun]], draws: int) -> dict[str, Any]:
  sides = []
  for experiment, run, dataset, recipe in (one.better, one.worse):
    # A recipe may be written in another way than results name it.
    recipe = str(config_lib.recipes.parse(recipe))
    by_seed = found[experiment][dataset][run]
    sides.append(metrics.stack([metrics.top_1(seed, recipe) for seed in by_seed]))
  gain = statistics.difference(*sides, draws)
  value = round(gain.value, 12)  # 0.6 - 0.5 is a little less than 0.1 in floating point.
  holds = value >= one.threshold and value > 0  # A threshold of 0 asks for any gain.
  if holds and gain.low >= one.threshold:
    explanation = 'All of the interval lies at or above the threshold.'
  elif holds:
    explanation = (
      'The interval reaches below the threshold: with other clips or seeds it may be less.'
    )
  elif gain.low > 0:
    explanation = 'There is a gain, which is smaller than the threshold.'
  elif gain.high < 0:
    explanation = 'All of the interval lies below 0: it is a loss.'
  else:
    explanation = 'The interval includes 0: these clips and seeds show no gain.'
  below = [seed for seed in gain.per_seed if seed < one.threshold]
  if holds and below:
    explanation += f' {len(below)} of {len(gain.per_seed)} seeds are below it.'
  return {
    'name': one.name,
    'statement': one.statement,
    'holds': bool(holds),
    'threshold': one.threshold,
    'estimate': gain.to_json(),
    'per_seed': list(gain.per_seed),
    'better': {'value': sides[0].value, 'place': list(one.better)},
    'worse': {'value': sides[1].value, 'place': list(one.worse)},
    'explanation': explanation,
  }


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:  # Run from its folder.
    return 'not installed'


def _hardware() -> str:
  """The devices here, and the processor."""
  devices = jax.devices()
  kinds = f'{len(devices)} x {devices[0].device_kind}'
  model = platform.processor() or platform.machine()
  try:
    with open('/proc/cpuinfo') as file:
      model = next(line.split(':', 1)[1].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):
    pass
  return f'{kinds}; {os.cpu_count()} cores of {model}'
