"""Tests of the report, on a study of random numbers."""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import cv2
import numpy as np
import pytest

from zsar_jax.errors import UserError
from zsar_jax.evaluation import predictions
from zsar_jax.recipes import regions
from zsar_jax.study import report
from zsar_jax.study.report import gallery, method, plots, scales, sentences, words
from zsar_jax.study.report import results as studies

RECIPES = (
  'none', 'background=mean', 'person=mean', 'person=mean,object=mean', 'background=swap',
  'background=stripes', 'background=stripes,freeze', 'background=normal', 'background=normal/other',
)  # fmt: skip
RUNS = (
  'none', 'background=normal', 'background=mean', 'background=normal,object=normal',
  'background=swap@0.5', 'actor_cutmix', 'background_erasing', 'still_mix',
)  # fmt: skip
DATASETS = ('scenes', 'mimes', 'tabletop')
HOSTILE = (
  '<script>alert(1)</script>', '"quoted" & \'so\'', 'pouring ' + 'very ' * 40 + 'long',
  'مصارعة الأذرع \u202e', 'juggling 🤹 balls', 'a|b`c*d_e[f](g)', 'nul\x00 and \ud800',
  ']]><svg onload=x>', 'https://example.com/x', "' onclick='y\" onload=\"z",
)  # fmt: skip


def make_study(
  folder: pathlib.Path, experiments=1, datasets=2, runs=3, classes=12, seeds=3, clips=2, seed=0
) -> dict:
  """A study.json of RANDOM NUMBERS, with pictures of noise: nothing was trained or measured."""
  rng = np.random.default_rng(seed)
  study = {
    'title': 'Random numbers, to try the report: nothing was measured',
    'created': '2025-01-02T03:04:05+00:00',
    'versions': {'jax': '0.0.0', 'zsar_jax': '0.0.0'},
    'hardware': 'none <at all>',
    'about': 'What a *study* might say & <i>do</i>.',
    'seeds': list(range(1, seeds + 1)),
    'command': 'python -m nothing --like="this" & so on',
    'experiments': {},
    'findings': [
      {
        'name': f'finding_{number}',
        'statement': (
          'Painting the background in training helps on mimes',
          'Scenes lose',
          'It <b>is</b> so',
        )[number],
        'verdict': ('holds', 'does not hold', 'holds on average')[number],
        'threshold': 0.05,
        'estimate': estimate(rng, -0.05 if number == 1 else 0.3, seeds),
        'per_seed': rng.normal(0.2, 0.08, seeds).tolist(),
        'better': {'value': 0.6, 'place': ['pantomime', 'background=normal', 'mimes', 'none']},
        'worse': {'value': 0.3, 'place': ['pantomime', 'none', 'mimes', 'none']},
        'explanation': 'Top-1 on mimes, painted minus as it is, must be above the threshold.',
      }
      for number in range(3)
    ],
  }
  for number in range(experiments):
    study['experiments'][('pantomime', 'clip b16')[number]] = make_experiment(
      rng, folder, RUNS[:runs], DATASETS[:datasets], classes, seeds, clips
    )
  (folder / 'study.json').write_text(json.dumps(study))
  return study


def estimate(rng, value, seeds, count=160, spread=0.05) -> dict:
  low, high = value - spread * rng.uniform(0.5, 1.5), value + spread * rng.uniform(0.5, 1.5)
  per_seed = (value + rng.normal(0, spread, seeds)).tolist()
  return {
    'value': value, 'low': low, 'high': high, 'per_seed': per_seed, 'count': count, 'chance': 0.125,
  }  # fmt: skip


def make_experiment(rng, folder, runs, datasets, classes, seeds, clips) -> dict:
  def rate(low=0.2, high=0.9):
    return estimate(rng, rng.uniform(low, high), seeds)

  def curve():
    steps = list(range(10, 3001, 10))
    fall = np.exp(-np.arange(len(steps)) / 80)
    noise = rng.normal(0, 0.05, len(steps))
    return {
      'step': steps,
      'loss': (3 * fall + 0.3 + noise).tolist(),
      'accuracy': np.clip(1 - fall + noise, 0, 1).tolist(),
    }

  experiment = {
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
    'datasets': {},
  }
  names = [*HOSTILE, *(f'class {n} waving while squatting' for n in range(classes))][:classes]
  for place, name in enumerate(datasets):
    matrix = {
      run: {
        recipe: {'top1': rate(), 'top5': rate(0.8, 1), 'mean_class': rate()} for recipe in RECIPES
      }
      for run in runs
    }
    pictures = {}
    for recipe_number, recipe in enumerate(RECIPES[:5]):
      path = f'gallery/{name}{recipe_number}.jpg'
      (folder / 'gallery').mkdir(exist_ok=True)
      noise = cv2.resize(rng.integers(0, 255, (7, 56, 3), np.uint8), (448, 56))
      cv2.imwrite(str(folder / path), noise)
      pictures[recipe] = path
    experiment['datasets'][name] = {
      'about': f'the data set {name}',
      'count': 160,
      'classes': classes,
      'matrix': matrix,
      'difference': {
        run: {
          recipe: estimate(
            rng,
            matrix[run][recipe]['top1']['value'] - matrix[runs[0]][recipe]['top1']['value'],
            seeds,
          )
          | {'p': 0.03125, 'mcnemar': [0.0625] * seeds, 'chance': None}
          for recipe in RECIPES
        }
        for run in runs[1:]
      },
      'bias': {
        run: {
          **{m: rate(0.1, 0.95) for m in ('BOR', 'HOR', 'SHAcc', 'SBErr', 'background_wins',
                                          'SCUBA', 'SCUFO', 'contrasted', 'recolour')},
          **{m: estimate(rng, rng.uniform(-0.3, 0.3), seeds) for m in ('SHAcc-SBErr', 'HOR-BOR')},
          'rank_gap': estimate(rng, -1.5, seeds),
          'score_gap': estimate(rng, 2.5, seeds),
        }
        for run in runs
      },
      'classes_gain': {
        run: [
          {
            'class': c, 'count': 8, 'baseline': 0.5, 'accuracy': 0.625,
            'gain': estimate(rng, rng.normal(0.05, 0.2), seeds, 8, 0.15),
          }
          for c in names
        ]
        for run in runs[1:]
      },
      'strata': {
        run: {a: {'yes': rate(), 'no': rate()} for a in ('object', 'scene', 'mime')} for run in runs
      } if place == 1 else {},
      'coverage': {
        run: [
          {'low': low, 'high': high, 'count': 30, 'top1': rate()}
          for low, high in ((0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5), (0.5, 1))
        ]
        for run in runs
      },
      'saliency': {
        run: dict(
          zip(
            ('person', 'object', 'background'),
            (estimate(rng, v, seeds) for v in rng.dirichlet((4, 2, 4))),
            strict=True,
          ),
          area={'person': 0.2, 'object': 0.05, 'background': 0.75},
        )
        for run in runs
      },
      'gallery': [
        {
          'clip': f'clip-{c}/{names[c % len(names)]}',
          'class': names[c % len(names)],
          'why': 'the baseline is wrong, the best run right',
          'pictures': pictures,
          'predictions': {
            run: {
              recipe: [[names[(c + int(n)) % len(names)], 0.7], [names[1], 0.2]]
              for recipe, n in zip(RECIPES, rng.integers(2, size=len(RECIPES)), strict=True)
            }
            for run in runs
          },
          'not_counted': {RECIPES[-1]: 'no masks', RECIPES[4]: 'no partner'} if c == 1 else {},
          'frames': 8,
          'unpainted': {RECIPES[1]: 3} if c == 0 else {},
        }
        for c in range(clips)
      ],
    }  # fmt: skip
  return experiment


class Page(html.parser.HTMLParser):
  """What a page holds; fails where its elements are not balanced."""

  EMPTY = frozenset(('meta', 'br', 'wbr', 'img', 'input'))

  def __init__(self, text: str):
    super().__init__(convert_charrefs=True)
    self.tags, self.attributes, self.texts, self._open = [], [], [], []
    self.feed(text)
    self.close()
    assert not self._open

  def handle_starttag(self, tag, attributes):
    assert tag not in self.EMPTY, 'empty elements are closed where they open'
    self._open.append(tag)
    self.handle_startendtag(tag, attributes)

  def handle_startendtag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += [(tag, *attribute) for attribute in attributes]

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.texts.append((tuple(self._open), data))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(folder, study, page, markdown) of a study of random numbers."""
  folder = tmp_path_factory.mktemp('study')
  study = make_study(folder)
  report.write_report(folder)
  return (
    folder,
    json.loads(json.dumps(study)),
    (folder / 'report.html').read_text(),
    (folder / 'report.md').read_text(),
  )


def changed(folder: pathlib.Path, change, **size) -> None:
  """A small study with `change(study)` applied to it."""
  study = make_study(folder, datasets=1, runs=2, seeds=1, clips=1, **size)
  change(study)
  (folder / 'study.json').write_text(json.dumps(study))


def only_dataset(study: dict) -> dict:
  return study['experiments']['pantomime']['datasets']['scenes']


def test_page_is_balanced_and_asks_for_nothing(made):
  parsed = Page(made[2])
  assert 'script' not in parsed.tags
  assert not {'link', 'iframe', 'object', 'embed', 'base', 'form'} & set(parsed.tags)
  for tag, name, value in parsed.attributes:
    assert not name.startswith('on'), (tag, name)
    if name in ('src', 'href', 'srcset', 'action', 'data', 'poster'):
      assert value.startswith(('data:image/', '#')), (tag, name, value[:50])
    if name not in ('title', 'aria-label', 'alt', 'content'):
      assert 'url(' not in (value or '')
  style = ''.join(text for path, text in parsed.texts if 'style' in path)
  assert len(style) > 1000
  assert 'url(' not in style
  assert '@import' not in style
  policy = next(v for t, n, v in parsed.attributes if t == 'meta' and 'default-src' in (v or ''))
  assert "default-src 'none'" in policy


# All attributes that the page uses; a name that broke out of a value would bring others.
ATTRIBUTES = frozenset((
  'alt', 'aria-hidden', 'aria-label', 'charset', 'checked', 'class', 'colspan', 'content', 'cx',
  'cy', 'd', 'data-label', 'decoding', 'for', 'height', 'href', 'http-equiv', 'id', 'lang',
  'loading', 'name', 'open', 'overflow', 'r', 'role', 'scope', 'src', 'start', 'tabindex',
  'text-anchor', 'title', 'type', 'viewbox', 'width', 'x', 'x1', 'x2', 'y', 'y1', 'y2',
))  # fmt: skip


def test_what_hostile_names_hold_is_text(made):
  parsed = Page(made[2])
  assert {name for _, name, _ in parsed.attributes} <= ATTRIBUTES
  values = '\n'.join(value or '' for _, _, value in parsed.attributes)
  # The picture's text has the clip's id, which ends in the class.
  assert f'{HOSTILE[0]}\u2069 under' in values
  assert f'{HOSTILE[1]}\u2069 under' in values
  # In the Markdown, `<` may only begin the elements that keep addresses from being links.
  assert set(re.findall(r'<[^>]*>', made[3].split('```')[0])) <= {'<span>', '</span>'}
  text = ''.join(text for _, text in parsed.texts)
  for name in HOSTILE:
    shown = name.replace('\x00', '\ufffd').replace('\ud800', '\ufffd')
    assert shown in text
  assert '\u202e' not in made[3]
  assert '| a\\|b\\`c\\*d\\_e\\[f\\](g) |' in made[3]


def drawings_of(text: str) -> list[str]:
  """The outermost svg elements."""
  found, depth, start = [], 0, 0
  for tag in re.finditer('<svg|</svg>', text):
    if tag.group() == '<svg':
      start = tag.start() if depth == 0 else start
      depth += 1
    else:
      depth -= 1
      if depth == 0:
        found.append(text[start : tag.end()])
  return found


def test_drawings_are_well_formed_and_say_what_they_show(made):
  drawings = drawings_of(made[2])
  assert len(drawings) > 50
  for drawing in drawings:
    root = xml.etree.ElementTree.fromstring(drawing)
    if root.get('aria-hidden') != 'true':
      assert root.get('role') == 'img'
      assert root.get('aria-label') == root.find('title').text
  # A bar for each run and metric, a mark for each seed of each finding.
  assert made[2].count('class="bars"') == 2 * 9 + 6
  assert made[2].count('class="dot"') == 3 * 3


def numbers_of(value) -> set[float]:
  if isinstance(value, dict):
    return set().union(*(numbers_of(item) for item in value.values()))
  if isinstance(value, list):
    return set().union(*(numbers_of(item) for item in value))
  return {float(value)} if isinstance(value, int | float) else set()


@pytest.mark.parametrize('kind', [2, 3])
def test_every_number_shown_is_the_studys(made, kind):
  numbers = numbers_of(made[1])
  allowed = {f'{abs(100 * number):.1f}' for number in numbers}
  allowed |= {f'{abs(number):.2f}' for number in numbers}
  allowed |= {f'{abs(number):.2g}' for number in numbers}  # p-values
  if kind == 2:
    parsed = Page(made[2])
    # Axes write round numbers of their own; code and settings are texts of the study.
    shown = [
      text for path, text in parsed.texts if not {'text', 'code', 'pre', 'style'} & set(path)
    ]
    shown += [value for _, name, value in parsed.attributes if name in ('title', 'aria-label')]
    text = '\n'.join(shown)
  else:
    text = made[3].split('## How to reproduce')[0]
  # 0.0.0 of a version and 0.001 of a setting are no results.
  found = set(re.findall(r'(?<![\d.])\d+\.\d{1,2}(?![\d.])', text))
  assert len(found) > 200
  assert found <= allowed


def rows_after(text: str, caption: str) -> list[list[str]]:
  """The cells of the first table with this caption."""
  table = text[text.index(f'<caption>{caption}</caption>') :]
  table = table[table.index('<tbody>') : table.index('</tbody>')]
  return [
    [re.sub('<.*?>', '', cell) for cell in re.findall(r'<td.*?</td>', row)]
    for row in re.findall(r'<tr>.*?</tr>', table)
  ]


def test_heat_maps_hold_the_matrix(made):
  dataset = made[1]['experiments']['pantomime']['datasets']['scenes']
  for metric, title in (('top1', 'top-1'), ('top5', 'top-5'), ('mean_class', 'mean class')):
    expected = [
      [f'{100 * dataset["matrix"][run][recipe][metric]["value"]:.1f}' for recipe in RECIPES]
      for run in RUNS[:3]
    ]
    assert rows_after(made[2], f'Accuracy, {title}, %') == expected
  gains = [
    [f'{100 * dataset["difference"][run][recipe]["value"]:+.1f}' for recipe in RECIPES]
    for run in RUNS[1:3]
  ]
  shown = rows_after(made[2], 'Top-1 minus the baseline, points')
  assert [[cell.replace('\u2212', '-') for cell in row] for row in shown[1:]] == gains


def test_bars_hold_the_bias_metrics(made):
  bias = made[1]['experiments']['pantomime']['datasets']['scenes']['bias']
  section = made[2][made[2].index('<section id="bias">') :]
  shown = re.findall(r'<span class="value">([\d.]+)<small>', section)
  names = (
    'BOR',
    'HOR',
    'SHAcc',
    'SBErr',
    'background_wins',
    'SCUBA',
    'SCUFO',
    'contrasted',
    'recolour',
  )
  expected = [f'{100 * bias[run][name]["value"]:.1f}' for name in names for run in RUNS[:3]]
  assert shown[: len(expected)] == expected


def test_a_difference_is_muted_just_where_its_interval_includes_0(made):
  dataset = made[1]['experiments']['pantomime']['datasets']['scenes']
  table = made[2][made[2].index('<caption>Top-1 minus') :]
  kinds = re.findall(r'<td class="(d-?\d|unsure)"', table[: table.index('</tbody>')])
  cells = [dataset['difference'][run][recipe] for run in RUNS[1:3] for recipe in RECIPES]
  assert [kind == 'unsure' for kind in kinds] == [c['low'] <= 0 <= c['high'] for c in cells]
  assert {'unsure'} < set(kinds)
  for kind, cell in zip(kinds, cells, strict=True):
    assert kind == 'unsure' or kind.startswith('d-') == (cell['value'] < 0)


def test_what_cannot_be_formed_is_a_dash_that_says_why(tmp_path):
  def change(study):
    dataset = only_dataset(study)
    dataset['matrix']['none']['none']['top1'] = None
    none = {'value': None, 'low': None, 'high': None, 'per_seed': [None], 'count': 0}
    dataset['bias']['none']['BOR'] = none
    dataset['coverage']['none'][0]['top1'] = none
    dataset['saliency']['none'].update(
      person=none, area=dict.fromkeys(('person', 'object', 'background'))
    )
    dataset['classes_gain']['background=normal'][0].update(baseline=None, gain=none)
    study['findings'][0].update(estimate=none, per_seed=[None])

  changed(tmp_path, change)
  report.write_report(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  Page(text)
  assert re.search(r'<td class="none" title="[^"]*cannot be computed[^"]*">\u2013</td>', text)
  assert re.search(r'class="value" title="cannot be computed[^"]*">\u2013<', text)
  assert 'None' not in text
  assert 'nan' not in (tmp_path / 'report.md').read_text().split()


def test_sections_without_data_are_left_out(tmp_path):
  def change(study):
    del study['findings']
    dataset = only_dataset(study)
    for field in set(dataset) - {'about', 'count', 'classes', 'matrix'}:
      del dataset[field]
    for run in study['experiments']['pantomime']['runs'].values():
      run['curves'] = {}

  changed(tmp_path, change)
  report.write_report(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  sections = re.findall(r'<section id="([a-z]+)">', text)
  assert sections == ['answers', 'matrix', 'runs', 'method']
  assert re.findall(r'<ol>.*</ol>', text)[0].count('href="#') == 4


def answer_of(tmp_path, value, low, high, gap=None) -> sentences.Answer:
  """The answer of a study whose second run gains `value`, with an interval of SHAcc less SBErr."""

  def change(study):
    dataset = only_dataset(study)
    dataset['matrix']['none']['none']['top1'].update(value=0.508)
    dataset['matrix']['background=normal']['none']['top1'].update(value=0.508 + value)
    dataset['difference']['background=normal']['none'].update(value=value, low=low, high=high)
    for run, figures in dataset['bias'].items():
      figures.pop('HOR-BOR')
      if gap and run == 'none':
        figures['SHAcc-SBErr'].update(value=sum(gap) / 2, low=gap[0], high=gap[1])
      else:
        figures.pop('SHAcc-SBErr')

  changed(tmp_path, change)
  study = studies.read(tmp_path / 'study.json')
  return sentences.answer(study['experiments']['pantomime'], 'scenes', only_dataset(study))


@pytest.mark.parametrize(
  ('value', 'low', 'high', 'said'),
  [
    (0.325, 0.25, 0.4, 'names 83.3 %: a gain of +32.5 points (95 % interval +25.0 to +40.0, 160'),
    (
      *(0.02, -0.03, 0.07),
      'names 52.8 %: a difference of +2.0 points (95 % interval −3.0 to +7.0, 160 clips), which may'
      ' be chance.',
    ),
    (-0.2, -0.3, -0.1, 'names 30.8 %: a loss of −20.0 points (95 % interval −30.0 to −10.0, 160'),
  ],
)
def test_answers_are_derived_from_the_numbers(tmp_path, value, low, high, said):
  answer = answer_of(tmp_path, value, low, high)
  sentence = ''.join(answer.sentences[0]).replace('\u00a0', ' ')
  assert sentence.startswith(
    'The baseline run none names 50.8 % of scenes right (160 clips, chance 12.5 %). The best other'
    ' run, background=normal '
  )
  assert said in sentence


@pytest.mark.parametrize(
  ('gap', 'kind', 'headline'),
  [
    ((0.2, 0.4), 'action', 'The run none follows the action more than the background'),
    ((-0.4, -0.2), 'background', 'The run none follows the background more than the action'),
    ((-0.1, 0.3), 'unclear', 'The run none shows no clear preference for action or background'),
    (None, 'unclear', 'The run background=normal names more clips right than none'),
  ],
)
def test_what_a_model_follows_is_said_only_where_the_difference_is_clear(
  tmp_path, gap, kind, headline
):
  answer = answer_of(tmp_path, 0.1, 0.05, 0.15, gap)
  assert answer.kind == kind
  assert ''.join(answer.verdict) == headline


def test_every_verdict_has_its_badge(made):
  badges = re.findall(r'<article class="card finding (\w+)"><p><span class="badge">(.*?)<', made[2])
  assert badges == [
    ('yes', '\u2713 holds'), ('no', '\u2717 does not hold'), ('partly', '\u2248 holds on average')
  ]  # fmt: skip
  rows = [line for line in made[3].splitlines() if re.match(r'\|.* holds? ', line)]
  assert [row.split(' | ')[1] for row in rows] == [badge for _, badge in badges]
  assert {row.split(' | ')[4] for row in rows} == {'160'}


def test_numbers_of_different_clips_are_marked(tmp_path):
  """24 clips, of which 4 have no masks: each column of the map, bar and sentence has its number."""

  def change(study):
    dataset = only_dataset(study)
    dataset['count'] = 24
    for run in dataset['matrix']:
      for recipe in RECIPES:
        for figure in dataset['matrix'][run][recipe].values():
          figure['count'] = 24 if recipe == 'none' else 20
    dataset['bias']['none']['SCUBA']['count'] = 20
    dataset['bias']['background=normal']['SCUBA']['count'] = 19
    gain = dataset['difference']['background=normal']
    gain['background=mean']['count'] = 18  # Two of the 20 are others in the baseline.
    study['findings'] = study['findings'][:1]
    study['findings'][0]['estimate']['count'] = 20
    for side, recipe in (('better', 'none'), ('worse', 'background=normal')):
      study['findings'][0][side]['place'] = ['pantomime', 'none', 'scenes', recipe]

  changed(tmp_path, change)
  report.write_report(tmp_path)
  page = (tmp_path / 'report.html').read_text()
  foot = re.findall('<tfoot>.*?</tfoot>', page)[0]
  assert re.findall('<td>(.*?)</td>', foot) == ['24', *['20'] * 8]
  assert 'the columns are of different clips' in page
  assert '<small>20 clips</small>' in page
  assert '<small>19 clips</small>' in page
  assert '19 to 20 clips' in page
  assert 'the 20 of 24 clips that count on both sides' in page
  text = (tmp_path / 'report.md').read_text()
  assert '| clips | 24 | 20 | 20 |' in text
  assert '| clips of the differences | 160 | 18 | 160 |' in text
  assert '| SCUBA | ↑ higher | 19 to 20 |' in text
  assert 'the 20 of 24 clips that count on both sides' in text


def test_a_chance_level_is_shared_but_for_the_last_bit():
  thirds = [{'value': 0.5, 'chance': (n * (1 / 3)) / n} for n in (7, 53, 156, 160)]
  thirds.append({'value': 0.5, 'chance': np.nextafter(1 / 3, 1)})
  assert len({one['chance'] for one in thirds}) > 1
  assert words.chance_of(thirds) == pytest.approx(1 / 3)
  assert words.chance_of([*thirds, {'value': None, 'chance': None}]) == pytest.approx(1 / 3)
  assert words.chance_of([*thirds, {'value': 0.5, 'chance': 0.5}]) is None
  assert words.chance_of([*thirds, {'value': 0.5, 'chance': None}]) is None


def test_chance_is_drawn(made):
  # A line for each bar of a rate and of a stratum, and for each plot of the coverage.
  assert made[2].count('class="chance"') == 2 * 3 * 9 + 3 * 6 + 2 * 3
  assert made[2].count('dashed: chance, 12.5\u00a0%') == 2 * 9 + 6
  assert made[2].count('framed color: chance, 12.5\u00a0%') == 2 * 3
  assert 'Chance is 12.5 %.' in made[3]


def test_all_intervals_can_be_read_without_a_pointer(made):
  """They stand in the text of the page, and not only in titles, which need a pointer."""
  visible = ''.join(text for path, text in Page(made[2]).texts if 'title' not in path)
  visible = visible.replace('\u2212', '-')
  dataset = made[1]['experiments']['pantomime']['datasets']['scenes']

  def shown(number, form):
    return '0.0' if float(form.format(number).lstrip('+-')) == 0 else form.format(number)

  estimates = [cell[m] for row in dataset['matrix'].values() for cell in row.values() for m in cell]
  estimates += [found[name] for found in dataset['bias'].values() for name in ('BOR', 'SHAcc')]
  estimates += [one['top1'] for bins in dataset['coverage'].values() for one in bins]
  estimates += [one['person'] for one in dataset['saliency'].values()]
  for one in estimates:
    assert f'{100 * one["low"]:.1f}\u00a0to\u00a0{100 * one["high"]:.1f}' in visible
  gains = [one for row in dataset['difference'].values() for one in row.values()]
  gains += [one['gain'] for entries in dataset['classes_gain'].values() for one in entries]
  for one in gains:
    low, high = (shown(100 * one[end], '{:+.1f}') for end in ('low', 'high'))
    assert f'{low}\u00a0to\u00a0{high}' in visible
  assert '0.062, 0.062, 0.062' in visible  # McNemar's p-values


def test_the_gallery_says_what_is_not_painted_and_not_answered(tmp_path):
  def change(study):
    clips = only_dataset(study)['gallery']
    del clips[1]['predictions']['none']['none']  # Its logits were not finite.

  study = make_study(tmp_path, datasets=1, runs=2, seeds=1, clips=2)
  change(study)
  (tmp_path / 'study.json').write_text(json.dumps(study))
  report.write_report(tmp_path)
  page, text = ((tmp_path / f'report.{kind}').read_text() for kind in ('html', 'md'))
  for kind in (page, text):
    for said in (
      'Not counted: this clip has no masks of what the recipe paints.',
      'Not counted: this clip has no partner to take a background from.',
      '3 of the 8 frames that the model sees have no masks and stay unpainted.',
      'no answer: the logits are not finite, which counts as wrong',
    ):
      assert kind.count(said) == 1
  # There is neither a picture nor an answer of what does not count.
  part = page[page.index('Not counted: this clip has no partner') :].split('<div class="shown">')[0]
  assert '<img' not in part
  assert '<li' not in part


def break_field(study, *path_and_value):
  *path, last, value = path_and_value
  for name in path:
    study = study[name]
  study[last] = value


@pytest.mark.parametrize(
  ('broken', 'named'),
  [
    (('title', 3), 'title is 3 and must be a text'),
    (('experiments', []), 'experiments is [] and must be an object'),
    (('findings', 0, 'verdict', 1), 'findings[0].verdict is 1 and must be a text'),
    (('findings', 0, 'verdict', 'maybe'), "findings[0].verdict is 'maybe' and must be one of"),
    (('findings', 0, 'threshold', None), 'findings[0].threshold'),
    (('seeds', [True]), 'seeds[0]'),
    (('seeds', [10**400]), 'seeds[0]'),
    (('findings', 0, 'threshold', 1e300), 'findings[0].threshold is 1e+300'),
    (('experiments', 'pantomime', 'baseline', 'other'), "names 'other', which is no run"),
    (('experiments', 'pantomime', 'runs', 'none', 'recipe', None), 'runs.none.recipe'),
    (('experiments', 'pantomime', 'datasets', 'scenes', 'bias', 'other', {}), 'scenes.bias names'),
    (
      (
        'experiments',
        'pantomime',
        'datasets',
        'scenes',
        'matrix',
        'none',
        'none',
        'top1',
        'low',
        '1',
      ),
      "matrix.none.none.top1.low is '1' and must be a number below",
    ),
    (
      ('experiments', 'pantomime', 'runs', 'none', 'curves', '1', 'loss', [1.0]),
      'curves.1.loss has 1 numbers for 300 steps',
    ),
    (
      (
        'experiments',
        'pantomime',
        'datasets',
        'scenes',
        'gallery',
        0,
        'predictions',
        'none',
        'none',
        [['a']],
      ),
      'predictions.none.none[0] has 1 entries',
    ),
  ],
)
def test_a_wrong_field_is_named(tmp_path, broken, named):
  changed(tmp_path, lambda study: break_field(study, *broken))
  with pytest.raises(UserError, match=re.escape(named)) as caught:
    report.write_report(tmp_path)
  assert 'study.json' in str(caught.value)
  assert not (tmp_path / 'report.html').exists()


@pytest.mark.parametrize(
  ('content', 'said'),
  [
    ('{"title": ', 'is no JSON'),
    ('[' * 100_000, 'is no JSON'),
    ('[]', r'the file is \[\] and must be an object'),
    ('{"title": "x"}', 'the field created is missing'),
    ('{"top1": 0.5}', 'the field title is missing'),
  ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, said):
  (tmp_path / 'study.json').write_text(content)
  with pytest.raises(UserError, match=said):
    report.write_report(tmp_path)


def test_a_missing_study_is_refused(tmp_path):
  with pytest.raises(UserError, match='make the study first'):
    report.write_report(tmp_path)


@pytest.mark.parametrize(
  'path', ['../secret.jpg', '/etc/passwd', 'gallery/../../x.jpg', 'C:\\x.jpg', 'link.jpg', 'a\x00b']
)
def test_pictures_outside_the_folder_are_refused(tmp_path, path):
  folder = tmp_path / 'study'
  folder.mkdir()
  (tmp_path / 'secret.jpg').write_bytes(b'\xff\xd8\xff secret')
  (folder / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
  changed(folder, lambda study: only_dataset(study)['gallery'][0].update(pictures={'none': path}))
  with pytest.raises(UserError, match='outside the folder'):
    report.write_report(folder)


def test_pictures_that_are_missing_or_none_at_all(tmp_path):
  gone = {'none': 'gallery/gone.jpg'}
  changed(tmp_path, lambda study: only_dataset(study)['gallery'][0].update(pictures=gone))
  report.write_report(tmp_path)
  assert 'gallery/gone.jpg is missing' in (tmp_path / 'report.html').read_text()
  assert 'gone.jpg' not in (tmp_path / 'report.md').read_text()
  (tmp_path / 'gallery' / 'gone.jpg').write_text('<svg onload="alert(1)"/>')
  with pytest.raises(UserError, match='neither JPEG nor PNG'):
    report.write_report(tmp_path)


def test_a_large_study_still_opens_fast(tmp_path):
  study = make_study(tmp_path, experiments=2, datasets=3, runs=8, classes=400, clips=6)
  noise = np.random.default_rng(0).integers(0, 255, (300, 900, 3), np.uint8)
  for path in (tmp_path / 'gallery').iterdir():
    cv2.imwrite(str(path), noise)  # 400 kB each
  report.write_report(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  assert 2_000_000 < len(text.encode()) < 8_000_000
  assert 'data:image/jpeg' in text
  assert 'Left out to keep this page small: <a href="gallery/' in text
  assert 'are only in study.json' in text
  assert len(study['experiments']) == 2


def test_pictures_beyond_the_budget_become_links(tmp_path):
  make_study(tmp_path)
  size = (tmp_path / 'gallery' / 'scenes0.jpg').stat().st_size
  pictures = gallery.Pictures(tmp_path, size)
  assert 'src="data:' in pictures.draw('gallery/scenes0.jpg', 'a clip')
  assert 'src=' not in pictures.draw('gallery/scenes0.jpg', 'a clip')


@pytest.mark.parametrize(
  ('values', 'ticks'),
  [
    ([0.93], (0, 0.5, 1)),
    ([-0.12, 0.31], (-0.2, 0, 0.2, 0.4)),
    ([-0.012, -0.03], (-0.03, -0.02, -0.01, 0)),
    ([None, 1.4], (0, 0.5, 1, 1.5)),
    ([], (0, 0.5, 1)),
  ],
)
def test_axes_have_round_ends_about_0(values, ticks):
  axis = scales.axis(values, ticks=3, least=0.02 if values else 1.0)
  np.testing.assert_allclose(axis.ticks, ticks, atol=1e-9)
  np.testing.assert_allclose([axis.place(axis.low - 1), axis.place(axis.high + 1)], [0, 1])


def test_thinning_keeps_means_and_ends():
  rng = np.random.default_rng(0)
  points = [(float(x), float(y)) for x, y in enumerate(rng.normal(size=1000))]
  thin = plots.thinned([*points[:500], (500.5, None), *points[500:]], 100)
  np.testing.assert_allclose(thin, np.reshape(points, (100, 10, 2)).mean(axis=1))
  assert plots.thinned(points[:7], 100) == points[:7]


def test_the_code_of_the_report_forms_the_number_again(tmp_path, monkeypatch, capsys):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 40, 3)).astype(np.float32)
  labels = np.arange(40, dtype=np.int32) % 3
  study = make_study(tmp_path)
  for seed, numbers in zip((1, 2), logits, strict=True):
    folder = tmp_path / 'runs' / 'none' / str(seed) / 'predictions'
    folder.mkdir(parents=True)
    predictions.Predictions(
      dataset='scenes', recipes=('none',), classes=tuple('abc'),
      ids=tuple(map(str, range(40))), labels=labels, logits={'none': numbers},
      coverage=np.zeros((40, 4), np.float32), attributes=({},) * 40, partners=('',) * 40,
      partner_labels=np.full(40, -1, np.int32), saliency=np.full((40, 3), np.nan, np.float32),
      saliency_area=np.full((40, 3), np.nan, np.float32), regions=tuple(regions.REGION_BITS),
    ).save(folder / 'scenes.npz')  # fmt: skip
  run = study['experiments']['pantomime']['runs']['none']
  run['folders'] = {seed: f'runs/none/{seed}' for seed in ('1', '2')}
  monkeypatch.chdir(tmp_path)
  exec(method.example(study), {})
  right = (logits.argmax(axis=2) == labels).mean()
  value = float(re.search(r'value=([\d.]+)', capsys.readouterr().out)[1])
  np.testing.assert_allclose(value, right, rtol=1e-6)


CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


def requested(folder: pathlib.Path, address: str) -> tuple[str, set[str]]:
  """(the page as Chromium has it once it is loaded, what was asked for while it loaded)."""
  log = folder / 'net-log.json'
  flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-sync',
    '--disable-background-networking',
    '--disable-component-update',
  ]
  flags += ['--host-resolver-rules=MAP * ~NOTFOUND', f'--log-net-log={log}']
  dumped = subprocess.run(
    [CHROMIUM, *flags, f'--user-data-dir={folder / "profile"}', '--dump-dom', address],
    capture_output=True, timeout=60, check=True,
  ).stdout.decode()  # fmt: skip
  events = json.loads(log.read_text())['events']
  addresses = {event.get('params', {}).get('url') for event in events}
  return dumped, {address for address in addresses if address}


@pytest.mark.skipif(CHROMIUM is None, reason='Chromium is not installed')
def test_chromium_shows_the_page_and_asks_for_nothing(made, tmp_path):
  dumped, asked = requested(tmp_path, (made[0] / 'report.html').as_uri())
  assert dumped.count('<section') == made[2].count('<section')
  assert dumped.count('<svg') == made[2].count('<svg')
  assert '<script' not in dumped
  # Chromium asks for a few things of its own.
  assert {
    address for address in asked if not re.match(r'https?://[a-z0-9.]*google[a-z]*\.com/', address)
  } == set()
  # The same way of looking does see a page that asks.
  other = tmp_path / 'other.html'
  other.write_text('<img src="http://asks.example/x.png">')
  assert 'http://asks.example/x.png' in requested(tmp_path, other.as_uri())[1]


if __name__ == '__main__':
  out = pathlib.Path(sys.argv[1])
  out.mkdir(parents=True, exist_ok=True)
  make_study(out, *map(int, sys.argv[2:]))
  report.write_report(out)
