"""Tests of the page: what each section shows, and what it leaves out."""

import re
import xml.etree.ElementTree as ET

import cv2
import numpy as np

from tests.study.report.random_study import (
  NO_VALUE,
  RATES,
  RECIPES,
  RUNS,
  SMALL,
  first_dataset,
  make_report,
  text_of,
  with_class,
)


def table_with_caption(tree: ET.Element, caption: str) -> ET.Element:
  return next(table for table in tree.iter('table') if table.findtext('caption') == caption)


def cells_of(table: ET.Element) -> list[list[str]]:
  return [
    [text_of(cell).replace('\u2212', '-') for cell in row.findall('td')]
    for row in table.findall('tbody/tr')
  ]


def test_heat_maps_show_the_matrix(random_report):
  tree, dataset = random_report.tree, first_dataset(random_report.study)
  for metric, title in (('top1', 'top-1'), ('top5', 'top-5'), ('mean_class', 'mean class')):
    assert cells_of(table_with_caption(tree, f'Accuracy, {title}, %')) == [
      [f'{100 * dataset["matrix"][run][recipe][metric]["value"]:.1f}' for recipe in RECIPES]
      for run in RUNS[:3]
    ]
  gains = cells_of(table_with_caption(tree, 'Top-1 minus the baseline, points'))
  assert gains[1:] == [
    [f'{100 * dataset["difference"][run][recipe]["value"]:+.1f}' for recipe in RECIPES]
    for run in RUNS[1:3]
  ]


def test_differences_are_gray_exactly_if_their_interval_includes_0(random_report):
  dataset = first_dataset(random_report.study)
  table = table_with_caption(random_report.tree, 'Top-1 minus the baseline, points')
  classes = [cell.get('class') for cell in table.findall('tbody/tr/td')][len(RECIPES) :]
  cells = [dataset['difference'][run][recipe] for run in RUNS[1:3] for recipe in RECIPES]
  assert {'unsure'} < set(classes)
  for css, cell in zip(classes, cells, strict=True):
    assert (css == 'unsure') == (cell['low'] <= 0 <= cell['high'])
    assert css == 'unsure' or css.startswith('d-') == (cell['value'] < 0)


def test_bars_show_the_bias_metrics(random_report):
  bias = first_dataset(random_report.study)['bias']
  section = random_report.tree.find(".//section[@id='bias-0']")
  assert [value.text.strip() for value in with_class(section, 'value')] == [
    f'{100 * bias[run][metric]["value"]:.1f}' for metric in RATES for run in RUNS[:3]
  ]


def test_chance_is_drawn_for_each_rate_stratum_and_plot(random_report):
  assert len(with_class(random_report.tree, 'chance')) == 2 * 3 * 9 + 3 * 6 + 2 * 3
  text = text_of(random_report.tree)
  assert text.count('dashed: chance, 12.5\u00a0%') == 2 * 9 + 6
  assert text.count('framed color: chance, 12.5\u00a0%') == 2 * 3


def test_drawings_say_what_they_show(random_report):
  drawings = [
    drawing
    for parent in random_report.tree.iter()
    if parent.tag not in ('svg', 'g')
    for drawing in parent.findall('svg')
  ]
  assert len(drawings) > 30
  for drawing in drawings:
    if drawing.get('aria-hidden') != 'true':
      assert drawing.get('role') == 'img'
      assert drawing.get('aria-label') == drawing.findtext('title')
  # A mark for each seed of each finding.
  assert len(with_class(random_report.tree, 'dot')) == 3 * 3


def test_every_verdict_has_a_badge(random_report):
  cards = with_class(random_report.tree, 'finding')
  assert [(card.get('class'), text_of(with_class(card, 'badge')[0])) for card in cards] == [
    ('card finding yes', '\u2713 holds'),
    ('card finding no', '\u2717 does not hold'),
    ('card finding partly', '\u2248 holds on average'),
  ]


def test_all_intervals_can_be_read_without_a_pointer(random_report):
  """Titles are shown only to a pointer, so that intervals are in the text of the page too."""
  tree = random_report.tree
  for parent in list(tree.iter()):
    for title in parent.findall('title'):
      title.text = ''
  visible = text_of(tree).replace('\u2212', '-')
  dataset = first_dataset(random_report.study)

  def is_visible(estimate, form):
    numbers = (form.format(100 * estimate[end]) for end in ('low', 'high'))
    texts = ['0.0' if float(number) == 0 else number for number in numbers]
    return '\u00a0to\u00a0'.join(texts) in visible

  rates = [cell[m] for row in dataset['matrix'].values() for cell in row.values() for m in cell]
  rates += [by_metric[m] for by_metric in dataset['bias'].values() for m in ('BOR', 'SHAcc')]
  rates += [row['top1'] for bins in dataset['coverage'].values() for row in bins]
  rates += [shares['person'] for shares in dataset['saliency'].values()]
  assert all(is_visible(rate, '{:.1f}') for rate in rates)
  gains = [gain for by_recipe in dataset['difference'].values() for gain in by_recipe.values()]
  gains += [row['gain'] for entries in dataset['classes_gain'].values() for row in entries]
  assert all(is_visible(gain, '{:+.1f}') for gain in gains)
  assert '0.062, 0.062, 0.062' in visible  # McNemar's p-values


def test_numbers_that_cannot_be_computed_are_dashes_that_say_why(tmp_path):
  def change(study):
    dataset = first_dataset(study)
    dataset['matrix']['none']['none']['top1'] = NO_VALUE
    dataset['bias']['none']['BOR'] = NO_VALUE
    dataset['bias']['none']['rank_gap'] = NO_VALUE
    dataset['coverage']['none'][0]['top1'] = NO_VALUE
    dataset['saliency']['none'].update(
      person=NO_VALUE, area=dict.fromkeys(('person', 'object', 'background'))
    )
    dataset['classes_gain']['background=normal'][0].update(baseline=None, gain=NO_VALUE)
    study['findings'][0].update(estimate=NO_VALUE, per_seed=[None])

  report = make_report(tmp_path, change, **SMALL)
  tree = report.tree
  dashes = [cell for cell in tree.iter('td') if 'cannot be computed' in cell.get('title', '')]
  assert {text_of(cell) for cell in dashes} == {'\u2013'}
  assert {cell.get('class') for cell in dashes} == {'none', None}
  drawn = [group for group in tree.iter('g') if 'cannot be' in (group.findtext('title') or '')]
  assert [text_of(with_class(group, 'value')[0]) for group in drawn] == ['\u2013']
  assert not {'None', 'nan'} & set(re.findall(r'\w+', report.html + report.markdown))


def test_sections_without_data_are_left_out(tmp_path):
  def change(study):
    study['findings'] = []
    dataset = first_dataset(study)
    for field in ('classes_gain', 'strata', 'coverage'):
      del dataset[field]
    dataset.update(difference={}, bias={}, saliency={}, gallery=[])
    for run in study['experiments']['pantomime']['runs'].values():
      run['curves'] = {}

  tree = make_report(tmp_path, change, **SMALL).tree
  sections = [section.get('id') for section in tree.findall('body/main/section')]
  assert sections == ['answers', 'matrix', 'runs', 'method']
  assert [link.get('href') for link in tree.findall('body/nav//a')] == [f'#{id}' for id in sections]


def test_numbers_of_different_clips_are_marked(tmp_path):
  """24 clips, of which 4 have no masks: each column, bar and sentence has its number of clips."""

  def change(study):
    dataset = first_dataset(study)
    dataset['count'] = 24
    for run in dataset['matrix']:
      for recipe in RECIPES:
        for accuracy in dataset['matrix'][run][recipe].values():
          accuracy['count'] = 24 if recipe == 'none' else 20
    dataset['bias']['none']['SCUBA']['count'] = 20
    dataset['bias']['background=normal']['SCUBA']['count'] = 19
    gain = dataset['difference']['background=normal']
    gain['background=mean']['count'] = 18  # Two of the 20 do not count for the baseline.
    study['findings'] = study['findings'][:1]
    study['findings'][0]['estimate']['count'] = 20

  report = make_report(tmp_path, change, **SMALL)
  tree = report.tree
  counts = [text_of(cell) for cell in next(tree.iter('tfoot')).iter('td')]
  assert counts == ['24', *['20'] * (len(RECIPES) - 1)]
  text = text_of(tree)
  for words in (
    'the columns cover different clips',
    '19 to 20 clips',
    'the 20 of 24 clips that count on both sides',
  ):
    assert words in text
  assert {'19 clips', '20 clips'} <= {text_of(small) for small in with_class(tree, 'small')}
  assert '| clips | 24 | 20 | 20 |' in report.markdown
  assert '| clips of the differences | 160 | 18 | 160 |' in report.markdown
  assert '| SCUBA | ↑ higher | 19 to 20 |' in report.markdown
  assert 'the 20 of 24 clips that count on both sides' in report.markdown


def test_a_large_study_still_opens_fast(tmp_path):
  def change(study):
    noise = np.random.default_rng(0).integers(0, 255, (300, 900, 3), np.uint8)
    for path in (tmp_path / 'gallery').iterdir():
      cv2.imwrite(str(path), noise)  # 400 kB each

  size = {'experiments': 2, 'datasets': 3, 'runs': 8, 'classes': 400, 'clips': 6}
  html = make_report(tmp_path, change, **size).html
  assert 2_000_000 < len(html.encode()) < 9_500_000
  assert 'data:image/jpeg' in html
  assert 'Left out to keep this page small: <a href="gallery/' in html
  assert 'are only in study.json' in html
