"""Writes studies of random numbers, for tests of the report, and helpers to read the report.

To look at such a report: python -m tests.study.report.random_study FOLDER
"""

import dataclasses
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from zsar_jax.evaluation import predictions
from zsar_jax.recipes import regions
from zsar_jax.study.report import write_report

RECIPES = (
  'none', 'background=mean', 'person=mean', 'person=mean,object=mean', 'background=swap',
  'background=stripes', 'background=stripes,freeze', 'background=normal', 'background=normal/other',
  'reverse', 'background=normal,reverse',
)  # fmt: skip
RUNS = (
  'none', 'background=normal', 'background=mean', 'background=normal,object=normal',
  'background=swap@0.5', 'actor_cutmix', 'background_erasing', 'still_mix',
)  # fmt: skip
DATASETS = ('scenes', 'mimes', 'tabletop')
RATES = (
  'BOR', 'HOR', 'SHAcc', 'SBErr', 'background_wins', 'SCUBA', 'SCUFO', 'contrasted', 'recolour',
)  # fmt: skip

# Names of classes that try to break out of HTML, SVG or Markdown.
HOSTILE = (
  '<script>alert(1)</script>', '"quoted" & \'so\'', 'pouring ' + 'very ' * 40 + 'long',
  'مصارعة الأذرع \u202e', 'juggling 🤹 balls', 'a|b`c*d_e[f](g)', 'nul\x00 and \ud800',
  ']]><svg onload=x>', 'https://example.com/x', "' onclick='y\" onload=\"z",
)  # fmt: skip

NO_VALUE = {'value': None, 'low': None, 'high': None, 'per_seed': [None], 'count': 0}


@dataclasses.dataclass(frozen=True)
class Report:
  """A study and its report."""

  folder: pathlib.Path
  study: dict[str, Any]
  html: str
  markdown: str

  @property
  def tree(self) -> ET.Element:
    """The page, parsed; fails if its elements are not balanced."""
    return ET.fromstring(self.html.replace('&nbsp;', '\u00a0').removeprefix('<!DOCTYPE html>'))


def make_report(
  folder: pathlib.Path, change: Callable[[dict[str, Any]], None] | None = None, **size: int
) -> Report:
  """Writes a random study and its report.

  Args:
    folder: an existing folder.
    change: changes the study before it is written.
    **size: of the study, as `make_study` takes it.
  """
  study = write_study(folder, change, **size)
  write_report(folder)
  html, markdown = ((folder / f'report.{kind}').read_text() for kind in ('html', 'md'))
  return Report(folder, study, html, markdown)


def write_study(
  folder: pathlib.Path, change: Callable[[dict[str, Any]], None] | None = None, **size: int
) -> dict[str, Any]:
  """Writes the study.json of a random study, and its pictures."""
  study = make_study(folder, **size)
  if change:
    change(study)
  (folder / 'study.json').write_text(json.dumps(study))
  return study


# The size of a study with one data set, one seed and one clip.
SMALL = {'datasets': 1, 'runs': 2, 'seeds': 1, 'clips': 1}


def first_dataset(study: dict[str, Any]) -> dict[str, Any]:
  """The data set that every random study has."""
  return study['experiments']['pantomime']['datasets']['scenes']


def make_study(
  folder: pathlib.Path, experiments=1, datasets=2, runs=3, classes=12, seeds=3, clips=2, seed=0
) -> dict[str, Any]:
  """A study of RANDOM NUMBERS, with pictures of noise: nothing was trained or measured."""
  rng = np.random.default_rng(seed)
  side = {'value': 0.6, 'place': ['pantomime', 'background=normal', 'scenes', 'none']}
  findings = [
    {
      'name': f'finding_{number}',
      'statement': statement,
      'verdict': verdict,
      'threshold': 0.05,
      'estimate': estimate(rng, value, seeds),
      'per_seed': rng.normal(0.2, 0.08, seeds).tolist(),
      'better': side,
      'worse': {'value': 0.3, 'place': ['pantomime', 'none', 'scenes', 'none']},
      'explanation': 'Top-1 must gain more than the threshold.',
    }
    for number, (statement, verdict, value) in enumerate((
      ('Painting the background in training helps', 'holds', 0.3),
      ('Scenes lose', 'does not hold', -0.05),
      ('It <b>is</b> so', 'holds on average', 0.3),
    ))
  ]  # fmt: skip
  return {
    'title': 'Random numbers, to try the report: nothing was measured',
    'created': '2025-01-02T03:04:05+00:00',
    'versions': {'jax': '0.0.0', 'zsar_jax': '0.0.0'},
    'hardware': 'none <at all>',
    'about': 'What a *study* might say & <i>do</i>.',
    'seeds': list(range(1, seeds + 1)),
    'command': 'python -m nothing --like="this" & so on',
    'masks': {
      f'{name}, test': [{'text': f'made:{name}', 'warnings': [f'weak {name}']}] for name in HOSTILE
    },
    'experiments': {
      name: _experiment(rng, folder, RUNS[:runs], DATASETS[:datasets], classes, seeds, clips)
      for name in ('pantomime', 'clip b16')[:experiments]
    },
    'findings': findings,
  }


def estimate(rng, value, seeds, count=160, spread=0.05, chance=0.125) -> dict[str, Any]:
  """An estimate; `chance` of None is left out."""
  low, high = value - spread * rng.uniform(0.5, 1.5), value + spread * rng.uniform(0.5, 1.5)
  per_seed = (value + rng.normal(0, spread, seeds)).tolist()
  numbers = {'value': value, 'low': low, 'high': high, 'per_seed': per_seed, 'count': count}
  return numbers if chance is None else numbers | {'chance': chance}


def _experiment(rng, folder, runs, datasets, classes, seeds, clips) -> dict[str, Any]:
  steps = np.arange(10, 3001, 10)

  def curve():
    fall, noise = np.exp(-np.arange(len(steps)) / 80), rng.normal(0, 0.05, len(steps))
    return {
      'step': steps.tolist(),
      'loss': (3 * fall + 0.3 + noise).tolist(),
      'accuracy': np.clip(1 - fall + noise, 0, 1).tolist(),
    }

  return {
    'about': 'Trained on scenes that nearly give the action away.',
    'baseline': runs[0],
    'recipes': list(RECIPES),
    'runs': {
      run: {
        'about': 'as it is' if run == 'none' else f'trained with {run}',
        'recipe': run if '=' in run else 'none',
        'config': {'seed': 1, 'model': {'name': 'clip', 'width': 96}, 'recipe': run},
        'changes': {} if run == 'none' else {'recipe': run, 'optim.learning_rate': 0.001},
        'folders': {str(s): f'runs/{run}/{s}' for s in range(1, seeds + 1)},
        'curves': {str(s): curve() for s in range(1, seeds + 1)},
      }
      for run in runs
    },
    'datasets': {
      name: _dataset(rng, folder, name, runs, classes, seeds, clips) for name in datasets
    },
  }


def _dataset(rng, folder, name, runs, classes, seeds, clips) -> dict[str, Any]:
  def rate(low=0.2, high=0.9):
    return estimate(rng, rng.uniform(low, high), seeds)

  def gap(value):
    return estimate(rng, value, seeds, chance=None)

  class_names = [*HOSTILE, *(f'class {n} waving while squatting' for n in range(classes))][:classes]
  matrix = {
    run: {
      recipe: {'top1': rate(), 'top5': rate(0.8, 1), 'mean_class': rate()} for recipe in RECIPES
    }
    for run in runs
  }

  def gain(run, recipe):
    value, base = (matrix[name][recipe]['top1']['value'] for name in (run, runs[0]))
    return gap(value - base) | {'p': 0.03125, 'mcnemar': [0.0625] * seeds}

  bins = ((0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5), (0.5, 1))
  return {
    'about': f'the data set {name}',
    'count': 160,
    'classes': classes,
    'matrix': matrix,
    'difference': {run: {recipe: gain(run, recipe) for recipe in RECIPES} for run in runs[1:]},
    'bias': {
      run: {
        **{metric: rate(0.1, 0.95) for metric in RATES},
        **{metric: gap(rng.uniform(-0.3, 0.3)) for metric in ('SHAcc-SBErr', 'HOR-BOR')},
        **{
          f'{metric}[{recipe}]': rate()
          for recipe in RECIPES if recipe.endswith(('reverse', 'freeze'))
          for metric in ('drop', 'flips', 'TSS', 'static_share')
          if metric != 'static_share' or recipe.endswith('freeze')
        },
        **{f'resist[{recipe}]': rate() for recipe in ('background=mean', 'background=swap')},
        'rank_gap': gap(-1.5),
        'score_gap': gap(2.5),
      }
      for run in runs
    },
    'classes_gain': {
      run: [
        {
          'class': class_name, 'count': 8, 'baseline': 0.5, 'accuracy': 0.625,
          'gain': estimate(rng, rng.normal(0.05, 0.2), seeds, 8, 0.15, chance=None),
        }
        for class_name in class_names
      ]
      for run in runs[1:]
    },
    'strata': {
      run: {flag: {'yes': rate(), 'no': rate()} for flag in ('object', 'scene', 'mime')}
      for run in (runs if name == 'mimes' else ())
    },
    'coverage': {
      run: [{'low': low, 'high': high, 'count': 30, 'top1': rate()} for low, high in bins]
      for run in runs
    },
    'saliency': {
      run: {
        region: estimate(rng, share, seeds, chance=None)
        for region, share in zip(
          ('person', 'object', 'background'), rng.dirichlet((4, 2, 4)), strict=True
        )
      }
      | {'area': {'person': 0.2, 'object': 0.05, 'background': 0.75}}
      for run in runs
    },
    'gallery': _gallery(rng, folder, name, runs, class_names, clips),
  }  # fmt: skip


def _gallery(rng, folder, name, runs, class_names, clips) -> list[dict[str, Any]]:
  (folder / 'gallery').mkdir(exist_ok=True)
  pictures = {}
  for number, recipe in enumerate(RECIPES[:5]):
    pictures[recipe] = f'gallery/{name}{number}.jpg'
    noise = cv2.resize(rng.integers(0, 255, (7, 56, 3), np.uint8), (448, 56))
    cv2.imwrite(str(folder / pictures[recipe]), noise)
  entries = []
  for clip in range(clips):
    class_name = class_names[clip % len(class_names)]
    not_counted = {RECIPES[-1]: 'no masks', RECIPES[4]: 'no partner'} if clip == 1 else {}
    entries.append({
      'clip': f'clip-{clip}/{class_name}',
      'class': class_name,
      'why': 'the baseline is wrong, the best run right',
      'pictures': {recipe: path for recipe, path in pictures.items() if recipe not in not_counted},
      'predictions': {
        run: {
          recipe: [[class_names[(clip + answer) % len(class_names)], 0.7], [class_names[1], 0.2]]
          for recipe, answer in zip(RECIPES, rng.integers(2, size=len(RECIPES)).tolist(),
                                    strict=True)
        }
        for run in runs
      },
      'not_counted': not_counted,
      'frames': 8,
      'unpainted': {RECIPES[1]: 3} if clip == 0 else {},
    })  # fmt: skip
  return entries


def write_predictions(
  folder: pathlib.Path,
  study: dict[str, Any],
  clips: int,
  classes: tuple[str, ...] = ('waving', *HOSTILE[:4]),
  recipes: tuple[str, ...] = RECIPES,
) -> dict[str, predictions.Predictions]:
  """Writes random predictions of all runs' first seeds; returns those of the first data set."""
  rng = np.random.default_rng(0)
  first: dict[str, predictions.Predictions] = {}
  for experiment in study['experiments'].values():
    for dataset in experiment['datasets']:
      labels = rng.integers(len(classes), size=clips).astype(np.int32)
      partners = rng.integers(-1, len(classes), size=clips).astype(np.int32)
      coverage = rng.uniform(size=(clips, len(regions.REGION_BITS))).astype(np.float32)
      coverage[rng.uniform(size=clips) < 0.1] = np.nan
      for run, entry in experiment['runs'].items():
        logits = rng.normal(size=(len(recipes), clips, len(classes))).astype(np.float32)
        logits[:, np.arange(clips), labels] += 2
        logits[0, ::50] = np.inf
        of_run = predictions.Predictions(
          dataset=dataset, recipes=recipes, classes=classes,
          ids=tuple(f'{dataset}/clip-{number:05}' for number in range(clips)), labels=labels,
          logits=dict(zip(recipes, logits, strict=True)), coverage=coverage,
          attributes=tuple({'scene': 'no'} if n % 3 else {} for n in range(clips)),
          partners=tuple('' if label < 0 else 'other' for label in partners),
          partner_labels=partners, saliency=np.full((clips, 3), np.nan, np.float32),
          saliency_area=np.full((clips, 3), np.nan, np.float32),
          regions=tuple(regions.REGION_BITS),
        )  # fmt: skip
        path = folder / next(iter(entry['folders'].values())) / 'predictions'
        of_run.save(path / f'{dataset}.npz')
        if dataset == DATASETS[0]:
          first[run] = of_run
  return first


def with_class(element: ET.Element, css: str) -> list[ET.Element]:
  """All elements below one that have a CSS class."""
  return [child for child in element.iter() if css in child.get('class', '').split()]


def text_of(element: ET.Element) -> str:
  """The text of an element, with single spaces; no-break spaces are kept."""
  return re.sub('[ \n]+', ' ', ''.join(element.itertext())).strip()


if __name__ == '__main__':
  target = pathlib.Path(sys.argv[1])
  target.mkdir(parents=True, exist_ok=True)
  make_report(target)
