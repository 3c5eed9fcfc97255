"""The ranking of models in the report, and the page of each model."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

from tests.study.report.page_test import cells_of, table_with_caption
from tests.study.report.random_study import RUNS, make_report, text_of
from zsar_jax.study.report import bar_charts, cards

PROTOCOL = {
  'format': 'siglip_hf',
  'architecture': 'siglip',
  'normalization': 'half',
  'towers': {'image_layers': 12, 'image_width': 768, 'text_layers': 11, 'text_width': 640},
  'video': {'temporal': 'mean'},
  'parameters': 203_155_970,
  'view': {
    'num_frames': 8,
    'sampling': 'ends',
    'size': 224,
    'interpolation': 'bilinear',
    'resize': 'squash',
    'centre_crop': 1.0,
  },
  'views': {'clips': 4, 'crops': 1, 'view_mean': 'logits'},
  'templates': ['a video of <b>{}</b>.', '{}'],
  'notes': ['a & b'],
}


def ranked(value, run, behind=None):
  estimate = {'value': value, 'low': value - 0.1, 'high': value + 0.1, 'per_seed': [], 'count': 9}
  difference = behind and dict(zip(('value', 'low', 'high'), behind, strict=True))
  return {'run': run, 'estimate': estimate, 'behind': difference}


def change(study):
  """The first run is somebody's model; on the first data set there are two rankings."""
  experiment = study['experiments']['pantomime']
  first, second, third = list(experiment['runs'])[:3]
  experiment['runs'][first] |= {
    'recipe': None,
    'source': 'hf://some/<model>',
    'trained_on': 'WebLI',
    'license': 'apache-2.0',
    'protocol': PROTOCOL,
    'curves': {},
  }
  dataset = experiment['datasets']['scenes']
  for run, low in ((first, 0.2), (second, 0.5), (third, 0.7)):
    dataset['matrix'][run]['none']['top1'] |= {'low': low, 'chance': 0.25}
  dataset['ranking'] = [
    {
      'figure': 'top1, none',
      'better': 'higher',
      'runs': [
        ranked(0.9, first),
        ranked(0.8, second, (0.1, -0.01, 0.2)),
        ranked(0.5, third, (0.4, 0.3, 0.5)),
      ],
    },
    {
      'figure': 'SHAcc-SBErr',
      'better': 'higher',
      'runs': [ranked(0.6, third), ranked(-0.1, first, (0.7, 0.6, 0.8))],
    },
  ]


@pytest.fixture(scope='module')
def report(tmp_path_factory):
  return make_report(tmp_path_factory.mktemp('cards'), change)


@pytest.fixture(scope='module')
def card(report):
  text = (report.folder / 'cards' / 'pantomime-none.html').read_text()
  return ET.fromstring(text.replace('&nbsp;', '\u00a0').removeprefix('<!DOCTYPE html>').strip())


def test_ranks_are_in_the_order_of_the_headline(report):
  first, second, third = RUNS[:3]
  caption = (
    'Rank of each model by each figure; = is not clearly worse than the best; \u2020 is not'
    ' clearly above chance on unpainted clips'
  )
  table = table_with_caption(report.tree, caption)
  heads = [text_of(cell) for cell in table.findall('thead/tr/th')]
  assert heads == ['figure', third, f'{first} \u2020', second]
  assert cells_of(table) == [['3', '1', '2 ='], ['1', '2', '\u2013']]


def test_a_chart_shows_intervals_that_reach_below_0():
  estimate = {'value': 0.05, 'low': -0.07, 'high': 0.16, 'per_seed': [], 'count': 9}
  chart = bar_charts.bar_chart('SHAcc minus SBErr', 'none', {'none': estimate})
  assert chart.axis.low <= -0.07
  assert chart.axis.high >= 1


def test_every_model_has_a_card_that_the_ranking_links(report):
  links = re.findall(r'href="(cards/[^"]+)"', report.html)
  written = {f'cards/{path.name}' for path in (report.folder / 'cards').iterdir()}
  assert set(links) == written
  assert len(written) == 3


def test_a_card_states_the_protocol(card):
  terms = [text_of(term) for term in card.iter('dt')]
  facts = dict(zip(terms, (text_of(text) for text in card.iter('dd')), strict=True))
  assert facts == {
    'Model': 'hf://some/<model>',
    'Trained on': 'WebLI',
    'Training recipe': 'only evaluated',
    'License of the weights': 'apache-2.0',
    'Format': 'siglip_hf',
    'Architecture': (
      'siglip; image tower 12 layers of width 768, text tower 11 layers of width 640'
    ),
    'Frames are combined by': 'mean',
    'Parameters': '203\u202f155\u202f970',
    'Normalization': 'half',
    'Frames': '8 of 224 \u00d7 224 pixels, bilinear',
    'Sampled in time': 'evenly, from the first frame to the last',
    'Cut': 'resized to a square',
    'Views of a clip': '4 in time, 1 in space; mean of logits',
    'Class texts': 'a video of <b>{}</b>. | {}',
    'Note': 'a & b',
  }


def test_a_card_has_the_figures_of_its_model(report, card):
  study = json.loads((report.folder / 'study.json').read_text())
  dataset = study['experiments']['pantomime']['datasets']['scenes']
  table = table_with_caption(card, 'Accuracy, %, with 95\u00a0% intervals')
  values = [row.find('td').text.strip() for row in table.findall('tbody/tr')]
  recipes = study['experiments']['pantomime']['recipes']
  assert values == [
    f'{100 * dataset["matrix"]["none"][recipe]["top1"]["value"]:.1f}' for recipe in recipes
  ]


def test_cards_of_similar_names_are_different_files():
  names = {'a-b': ('c', 'd'), 'a': ('b-c', 'b+c', 'B-c')}
  study = {'experiments': {name: {'runs': dict.fromkeys(runs, {})} for name, runs in names.items()}}
  files = cards.file_names(study)
  assert len({file.lower() for file in files.values()}) == len(files) == 5
  assert files['a-b', 'c'] == 'a-b-c.html'
  experiment = study['experiments']['a']
  assert cards.href(study, experiment, 'b+c') == f'cards/{files["a", "b+c"]}'


def test_a_study_without_rankings_links_its_cards(tmp_path):
  report = make_report(tmp_path, runs=2)
  assert 'Models, best first' not in report.html
  cards = {f'cards/{path.name}' for path in (tmp_path / 'cards').iterdir()}
  assert len(cards) == 2
  assert set(re.findall(r'href="(cards/[^"]+)"', report.html)) == cards
