"""Tables of the metrics of order and of other recipes: their rows, columns and numbers."""

import pytest

from tests.study.report.random_study import RUNS, SMALL, first_dataset, make_report, text_of
from zsar_jax.study.report import metric_labels, recipe_metrics
from zsar_jax.study.report.tables import Value


def estimate(value):
  return {'value': value, 'low': value, 'high': value, 'per_seed': [value], 'count': 9}


@pytest.fixture(name='study')
def _study():
  recipes = ['none', 'background=mean', 'freeze', 'background=mean,reverse', 'reverse']
  metrics = {
    'plain': {
      'drop[reverse]': estimate(0.1),
      'drop[background=mean,reverse]': estimate(0.2),
      'drop[freeze]': estimate(0.3),
      'static_share[freeze]': estimate(0.7),
      'resist[background=mean]': estimate(0.6),
      'BOR': estimate(0.5),
    },
    'other': {'drop[reverse]': estimate(0.4), 'chiral[reverse]': estimate(0.8)},
  }
  groups = {'plain': {'doors': estimate(0.5), 'cups': estimate(0.25)}, 'other': {}}
  runs = {'plain': {}, 'other': {}}
  return {'recipes': recipes, 'runs': runs}, {'bias': metrics, 'chiral_groups': groups}


def values(table):
  return {
    (group, run): [cell and cell.estimate['value'] for cell in cells]
    for group, rows in table.groups.items()
    for run, cells in rows
  }


def test_groups_are_orders_and_columns_are_paintings(study):
  contents = recipe_metrics.order(*study)
  assert list(contents) == ['drop', 'static_share']
  assert contents['drop'].columns == ['none', 'background=mean']
  assert values(contents['drop']) == {
    ('reversed', 'plain'): [0.1, 0.2],
    ('reversed', 'other'): [0.4, None],
    ('one frame repeated', 'plain'): [0.3, None],
    ('one frame repeated', 'other'): [None, None],
  }
  assert values(contents['static_share']) == {
    ('one frame repeated', 'plain'): [0.7],
    ('one frame repeated', 'other'): [None],
  }
  assert all(
    isinstance(cell, Value | None)
    for _, cells in contents['drop'].groups['reversed']
    for cell in cells
  )


def test_other_metrics_have_a_column_for_each_recipe(study):
  contents = recipe_metrics.by_recipe(*study)
  assert {metric: (table.columns, values(table)) for metric, table in contents.items()} == {
    'resist': (['background=mean'], {('', 'plain'): [0.6], ('', 'other'): [None]}),
    'chiral': (['reverse'], {('', 'plain'): [None], ('', 'other'): [0.8]}),
    'chiral_groups': (
      ['plain', 'other'],
      {('', 'doors'): [0.5, None], ('', 'cups'): [0.25, None]},
    ),
  }


def test_the_card_of_a_run_has_a_row_for_each_recipe(study):
  table = recipe_metrics.of_run(*study, 'plain')
  assert table.columns == ['Relative drop', 'Static share \u2193', 'Resist Rate \u2191']
  assert {run: row for (_, run), row in values(table).items()} == {
    'background=mean': [None, None, 0.6],
    'freeze': [0.3, 0.7, None],
    'background=mean,reverse': [0.2, None, None],
    'reverse': [0.1, None, None],
  }
  study[1]['bias']['other'] = {'BOR': estimate(0.1)}
  assert recipe_metrics.of_run(*study, 'other') is None


def test_labels_name_the_recipe():
  label = metric_labels.find_label('resist[background=normal]')
  assert (label.title, label.better) == ('Resist Rate, \u2068background=normal\u2069', 'higher')
  assert metric_labels.find_label('flips[reverse]').better == ''
  assert metric_labels.find_label('BOR') is metric_labels.RATES['BOR']
  assert metric_labels.find_label('none') is metric_labels.find_label('none[reverse]') is None


def test_the_report_shows_the_tables(random_report):
  bias = first_dataset(random_report.study)['bias']
  section = random_report.tree.find(".//section[@id='order-0']")
  table = next(table for table in section.iter('table') if 'Flip rate' in table.findtext('caption'))
  heads = [text_of(head).replace('\u200b', '') for head in table.find('thead').iter('th')]
  assert heads == ['run', 'none', 'background=stripes', 'background=normal']
  shown = [
    [text_of(cell).split(' ')[0] for cell in row.findall('td')]
    for body in table.findall('tbody')
    for row in body.findall('tr')
    if row.get('class') != 'group'
  ]
  # By order, then by run; '-' is a painting that was not evaluated in this order.
  orders = (
    ('reverse', None, 'background=normal,reverse'),
    (None, 'background=stripes,freeze', None),
  )
  numbers = [
    [recipe and f'{100 * bias[run][f"flips[{recipe}]"]["value"]:.1f}' for recipe in recipes]
    for recipes in orders
    for run in RUNS[:3]
  ]
  assert len(shown) == len(numbers) == 6
  for row, expected in zip(shown, numbers, strict=True):
    for cell, number in zip(row, expected, strict=True):
      assert cell.startswith(number or '\u2013')
  assert 'Relative drop: share of its accuracy' in random_report.markdown
  assert '| one frame repeated: none (baseline) |' not in random_report.markdown
  value = bias['background=normal']['resist[background=swap]']['value']
  row = next(
    line for line in random_report.markdown.partition('Resist Rate')[2].splitlines()
    if line.startswith('| background=normal |')
  )  # fmt: skip
  assert f'{100 * value:.1f} [' in row


def test_a_study_without_these_recipes_has_no_such_section(tmp_path):
  def change(study):
    for metrics in first_dataset(study)['bias'].values():
      for name in [name for name in metrics if '[' in name]:
        del metrics[name]

  report = make_report(tmp_path, change, **SMALL)
  assert report.tree.find(".//section[@id='order']") is None
  assert report.tree.find(".//section[@id='recipe_metrics']") is None
  assert 'Relative drop' not in report.markdown
