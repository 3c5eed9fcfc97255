"""From the predictions of all runs to study.json: every figure of a study with its interval.

study.json is what the report is made of, and all of it can be formed again from the predictions:
docs/bias.md describes both.
"""

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.evaluation import metrics, predictions
from zsar_jax.evaluation.metrics import Ratio
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.runtime.files import write_file
from zsar_jax.runtime.progress import log
from zsar_jax.study import clip_images, statistics
from zsar_jax.study.plan import Job

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
    'findings': [_finding(asked, found, study.draws) for asked in study.findings],
  }
  write_file(workdir / 'study.json', json.dumps(content, indent=1, allow_nan=False) + '\n')


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
    log(f'measuring {name} on {dataset}')
    by_run = {run: by_run[run] for run in order}
    datasets[dataset] = _dataset(by_run, one.baseline, study.draws)
    first = {run: seeds[0] for run, seeds in by_run.items()}
    choices = clip_images.choose(first, one.baseline, study.gallery)
    datasets[dataset]['gallery'] = clip_images.draw(
      jobs[0].config, dataset, first, choices, workdir, f'{name}-{dataset}'
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

  def estimates(form: Callable[[Predictions], dict[Any, Ratio]], run: str) -> dict[Any, Any]:
    """What `form` makes of a run's predictions, with intervals over clips and seeds."""
    ratios = _stack_by_name([form(one) for one in by_run[run]])
    return {name: statistics.estimate(ratio, draws).to_json() for name, ratio in ratios.items()}

  def gains(form: Callable[[Predictions], dict[str, Ratio]], run: str) -> dict[str, Any]:
    """The same less the baseline's, in pairs."""
    after, before = (
      _stack_by_name([form(one) for one in by_run[name]]) for name in (run, baseline)
    )
    return {
      name: statistics.difference(ratio, before[name], draws).to_json()
      for name, ratio in after.items()
    }

  def top1(one: Predictions) -> dict[str, Ratio]:
    return {recipe: metrics.top_1(one, recipe) for recipe in one.recipes}

  def coverage(recipe: str, run: str) -> list[dict[str, Any]]:
    """Top-1 by the share of the frame that people cover."""
    by_bin = estimates(lambda one: metrics.by_coverage(one, plain.actor, recipe), run)
    return [
      {'low': low, 'high': high, 'count': found['count'], 'top1': found}
      for (low, high), found in sorted(by_bin.items())
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
    run: shares | {'area': {part: area['value'] for part, area in areas.items()}}
    for run in by_run
    if (shares := estimates(lambda one: metrics.saliency(one)[0], run))
    and (areas := estimates(lambda one: metrics.saliency(one)[1], run))
  }
  return told


def _stack_by_name(by_seed: Sequence[dict[Any, Ratio]]) -> dict[Any, Ratio]:
  """Figures of each seed as figures of all seeds.

  A figure that a seed lacks, such as that of a stratum without clips, is there of no clip. Seeds
  differ so where the data set was annotated further between two evaluations.
  """
  known = {name: ratio for figures in reversed(by_seed) for name, ratio in figures.items()}
  return {
    name: metrics.stack([figures.get(name, ratio.over(np.False_)) for figures in by_seed])
    for name, ratio in known.items()
  }


def _mcnemar(first: list[Predictions], second: list[Predictions], recipe: str) -> list[float]:
  """Of each seed the p-value of "both runs are right equally often"."""
  values = []
  for one, other in zip(first, second, strict=True):
    pair = metrics.on_common_clips(*(metrics.top_1(p, recipe) for p in (one, other)))
    values.append(statistics.mcnemar(*(ratio.numerator > 0 for ratio in pair)))
  return values


def _classes(by_run: ByRun, run: str, baseline: str, gains: Callable) -> list[dict[str, Any]]:
  """Per-class gains over the baseline, on clips as they are."""
  gained = gains(metrics.by_class, run)
  by_seed = [[metrics.by_class(p) for p in by_run[name]] for name in (baseline, run)]
  entries = []
  for name, gain in gained.items():
    sides = [metrics.stack([figures[name] for figures in seeds]) for seeds in by_seed]
    before, after = metrics.on_common_clips(*sides)
    entries.append({
      'class': name,
      'count': gain['count'],
      'baseline': _finite(before.value),
      'accuracy': _finite(after.value),
      'gain': gain,
    })  # fmt: skip
  return entries


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _finding(asked: ConfigDict, found: dict[str, dict[str, ByRun]], draws: int) -> dict[str, Any]:
  """What became of a finding: the difference, over the clips that count on both sides."""
  sides, of_first_seed = [], []
  for experiment, run, dataset, recipe in (asked.better, asked.worse):
    # A recipe may be written in another way than results name it.
    recipe = str(config_lib.recipes.parse(recipe))
    by_seed = found[experiment][dataset][run]
    of_first_seed.append(by_seed[0])
    sides.append(metrics.stack([metrics.top_1(seed, recipe) for seed in by_seed]))
  predictions.same_clips(*of_first_seed)
  better, worse = metrics.on_common_clips(*sides)
  gain = statistics.difference(better, worse, draws)
  verdict = statistics.verdict(gain, asked.threshold)
  return {
    'name': asked.name,
    'statement': asked.statement,
    'verdict': verdict,
    'threshold': asked.threshold,
    'estimate': gain.to_json(),
    'per_seed': gain.to_json()['per_seed'],
    'better': {'value': _finite(better.value), 'place': list(asked.better)},
    'worse': {'value': _finite(worse.value), 'place': list(asked.worse)},
    'explanation': _explanation(gain, asked.threshold, verdict),
  }


def _explanation(gain: statistics.Estimate, threshold: float, verdict: str) -> str:
  """Why a finding has its verdict."""
  if not math.isfinite(gain.value):
    return 'No clip counts on both sides, so there is no difference to judge.'
  below = sum(seed < threshold for seed in np.round(gain.per_seed, 12))
  of_seeds = (
    f' In {below} of {len(gain.per_seed)} seeds the gain is below the threshold.' if below else ''
  )
  if verdict == statistics.HOLDS:
    return f'The whole interval is at or above the threshold.{of_seeds}'
  if verdict == statistics.HOLDS_ON_AVERAGE:
    return (
      'The estimate reaches the threshold, but the interval begins below it: with other clips or'
      f' seeds the gain may be smaller.{of_seeds}'
    )
  if gain.low > 0:
    return 'There is a gain, but it is smaller than the threshold.'
  if gain.high < 0:
    return 'The whole interval is below 0: this is a loss.'
  return 'The interval includes 0: these clips and seeds show no clear gain.'


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
