"""Accuracies of data sets and groups, in results.json and in the table."""

import json

import numpy as np
import pytest

from tests.evaluation.examples import predictions
from zsar_jax.evaluation import predictions as predictions_file
from zsar_jax.evaluation.run_results import (
  compute_results,
  format_table,
  save_results,
  summarize_group,
)
from zsar_jax.training import loop

# {data set: its number of classes}
PARTS = {'a': 3, 'b': 4, 'c': 3}
GROUPS = {'toy': tuple(PARTS)}


@pytest.fixture(name='by_dataset')
def _by_dataset():
  rng = np.random.default_rng(0)
  return [
    predictions(
      rng.integers(0, classes, 8 + classes),
      {'none': rng.normal(size=(8 + classes, classes))},
      dataset=name,
    )
    for name, classes in PARTS.items()
  ]


def test_groups_are_mean_and_sample_deviation(by_dataset):
  results = compute_results(by_dataset, GROUPS)
  figures = results['toy']['none']
  for name in ('top1', 'top5', 'mean_class'):
    values = [results[part]['none'][name] for part in PARTS]
    np.testing.assert_allclose(figures[name], np.mean(values))
    np.testing.assert_allclose(figures[f'{name}_std'], np.std(values, ddof=1))
  assert figures['count'] == sum(results[part]['none']['count'] for part in PARTS)
  assert figures['over'] == 3
  assert set(loop.flatten(results)) >= {'a/none/top1', 'toy/none/top1', 'toy/none/top1_std'}
  assert 'toy/none/over' not in loop.flatten(results)


def test_files(by_dataset, tmp_path):
  results = save_results(by_dataset, GROUPS, tmp_path)
  assert results == compute_results(by_dataset, GROUPS)
  assert json.loads((tmp_path / 'results.json').read_text()) == results
  for of_dataset in by_dataset:
    saved = predictions_file.load(tmp_path / 'predictions' / f'{of_dataset.dataset}.npz')
    assert saved.classes == of_dataset.classes
    np.testing.assert_array_equal(saved.logits['none'], of_dataset.logits['none'])


def test_table_of_a_group():
  by_recipe = [{'none': {'top1': x, 'top5': 1.0, 'mean_class': x, 'count': 4}} for x in (0.5, 0.7)]
  title, row = format_table({'toy': summarize_group(by_recipe)}).splitlines()[:2]
  assert title.startswith('toy (mean and standard deviation over 2)')
  assert title.split()[-5:] == ['clips', 'top-1', 'top-5', 'mean', 'class']
  assert ' '.join(row.split()) == 'none 8 60.0 ± 14.1 100.0 ± 0.0 60.0 ± 14.1'


def test_table_rows_have_their_own_counts():
  figures = {'top1': 0.5, 'top5': 1.0, 'mean_class': 0.5}
  results = {'none': figures | {'count': 24}, 'background=mean': figures | {'count': 20}}
  rows = [line.split()[:2] for line in format_table({'toy': results}).splitlines()[:3]]
  assert rows == [['toy', 'clips'], ['none', '24'], ['background=mean', '20']]
