"""Verbs and objects in a study: figures over seeds, and their tables in the report."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.pair_metrics_test import random_pairs, slow_figures
from tests.study.report.random_study import SMALL, first_dataset, make_report
from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.study.dataset_figures import measure_dataset


def other_answers(p, seed):
  """The same clips, with other logits."""
  (recipe,) = p.recipes
  rng = np.random.default_rng(seed)
  logits = rng.permuted(p.logits[recipe], axis=1)
  best = rng.permutation(p.pairs.open_world[recipe])
  pairs = PairPredictions(p.pairs.vocabulary, {recipe: best})
  return dataclasses.replace(p, logits={recipe: logits}, pairs=pairs)


@pytest.fixture(name='by_run', scope='module')
def _by_run():
  p = random_pairs(7, recipe='none')
  return {
    'plain': [p, other_answers(p, 1)],
    'painted': [other_answers(p, 2), other_answers(p, 3)],
  }


def test_figures_are_means_over_seeds_with_intervals(by_run):
  figures = json.loads(json.dumps(measure_dataset(by_run, 'plain', draws=50)))
  assert 'classes_gain' not in figures
  assert list(figures['pairs']) == ['closed', 'open']
  for world, of_runs in figures['pairs'].items():
    assert list(of_runs) == ['plain', 'painted']
    for run, of_recipes in of_runs.items():
      for recipe, estimates in of_recipes.items():
        by_seed = [slow_figures(seed, recipe, world) for seed in by_run[run]]
        for name, estimate in estimates.items():
          values = [seed[name] for seed in by_seed]
          assert estimate['per_seed'] == pytest.approx(values), name
          assert estimate['value'] == pytest.approx(np.mean(values))
          assert estimate['low'] <= estimate['high']


def test_worlds_that_one_run_lacks_are_left_out(by_run):
  closed = dataclasses.replace(by_run['plain'][0].pairs, open_world=None)
  seeds = [dataclasses.replace(by_run['plain'][0], pairs=closed)]
  only = {'plain': seeds, 'painted': by_run['painted'][:1]}
  assert list(measure_dataset(only, 'plain', draws=5)['pairs']) == ['closed']


def test_the_report_has_a_table_for_each_world(by_run, tmp_path):
  def change(study):
    dataset = first_dataset(study)
    (experiment,) = study['experiments'].values()
    runs, recipes = list(experiment['runs']), experiment['recipes']
    measured = measure_dataset(by_run, 'plain', draws=5)['pairs']
    dataset['pairs'] = {
      world: {
        run: {recipe: next(iter(of_recipes.values())) for recipe in recipes}
        for run, of_recipes in zip(runs, of_runs.values(), strict=True)
      }
      for world, of_runs in measured.items()
    }

  report = make_report(tmp_path, change, **SMALL)
  text = ' '.join(report.tree.itertext())
  for title in (
    'Verbs and objects',
    'Open world, %',
    'FCP by the object',
  ):
    assert title in text
  pairs = first_dataset(report.study)['pairs']
  run, figures = next(iter(pairs['open'].items()))
  value = next(iter(figures.values()))['fcp_verb']['value']
  assert f'{100 * value:.1f}' in text
  assert '| harmonic mean |' in report.markdown
  (table,) = tmp_path.glob('**/*pairs*open*.csv')
  rows = list(csv.reader(table.open()))
  assert rows[0][:3] == ['group', 'run', 'seen pairs']
  assert run in {row[1] for row in rows[1:]}
