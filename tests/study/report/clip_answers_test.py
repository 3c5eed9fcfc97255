"""Tests of the list of all clips: its packed answers, and its filters in a browser."""

import base64
import hashlib
import json
import pathlib
import re
import xml.sax.saxutils
import zlib

import numpy as np
import pytest

from tests.study.report import random_study
from tests.study.report.escaping_test import CHROMIUM, load_in_chromium
from tests.study.report.random_study import RECIPES, SMALL
from zsar_jax.errors import UserError
from zsar_jax.evaluation import bias_metrics, metrics
from zsar_jax.study.report import write_report

CLIPS = 90


def make_page(folder: pathlib.Path, **classes):
  """Writes the report of a study with predictions; returns the page and the predictions."""
  study = random_study.write_study(folder, **SMALL)
  by_run = random_study.write_predictions(folder, study, CLIPS, **classes)
  write_report(folder)
  return (folder / 'report.html').read_text(), by_run


def unpack(html: str, position: int = 0):
  """Reads the packed answers as the head of clip_answers.py describes them."""
  pack = re.findall(r'<script type="text/plain"[^>]*>([^<]*)</script>', html)[position]
  content = zlib.decompress(base64.b64decode(pack))
  end = 4 + int.from_bytes(content[:4], 'little')
  head = json.loads(content[4:end])
  count, size = len(head['ids']), head['bytes']
  columns = 2 + len(head['attributes'])
  shorts = np.frombuffer(content, '<u2', columns * count, end).reshape(columns, count)
  answers = np.frombuffer(content, f'<u{size}', -1, end + shorts.nbytes)
  return head, shorts, answers.reshape(len(head['runs']), len(head['recipes']), count)


@pytest.mark.parametrize('classes', [{}, {'classes': tuple(f'c{n}' for n in range(254))}])
def test_the_pack_has_every_answer(tmp_path, classes):
  html, by_run = make_page(tmp_path, **classes)
  head, shorts, answers = unpack(html)
  assert head['bytes'] == (2 if classes else 1)
  first = by_run[head['runs'][0]]
  assert head['ids'] == list(first.ids)
  np.testing.assert_array_equal(shorts[0], first.labels)
  np.testing.assert_array_equal(shorts[1], first.partner_labels.astype('<u2'))
  name, values = head['attributes'][0]
  assert name == 'scene'
  assert [values[n] for n in shorts[2]] == [clip.get('scene', '') for clip in first.attributes]
  kinds = set()
  for run, of_run in by_run.items():
    for recipe, logits in of_run.logits.items():
      row = answers[head['runs'].index(run), head['recipes'].index(recipe)]
      counted = of_run.counted(recipe)
      for clip, code in enumerate(row.tolist()):
        scores = logits[clip].tolist()
        if not counted[clip]:
          expected = 1
        elif not all(map(np.isfinite, scores)):
          expected = 2
        else:
          best = scores.index(max(scores))
          expected = 0 if best == of_run.labels[clip] else 3 + best
        assert code == expected
        kinds.add(min(code, 3))
  assert kinds == {0, 1, 2, 3}


def test_the_bins_of_the_people_are_those_of_the_metric(tmp_path):
  html, by_run = make_page(tmp_path)
  head, shorts, _ = unpack(html)
  of_run = next(iter(by_run.values()))
  name, values = head['attributes'][-1]
  assert name == "people's share of the frame"
  bins = metrics.top_1_by_coverage(of_run, of_run.actor)
  for (low, high), ratio in bins.items():
    number = values.index(f'{100 * low:.1f} to {100 * high:.1f} %')
    np.testing.assert_array_equal(shorts[-1] == number, ratio.counted_clips)


def test_runs_without_predictions_are_named(tmp_path):
  make_page(tmp_path)
  study = json.loads((tmp_path / 'study.json').read_text())
  runs = study['experiments']['pantomime']['runs']
  path = tmp_path / runs['background=normal']['folders']['1'] / 'predictions' / 'scenes.npz'
  path.unlink()
  write_report(tmp_path)
  html = (tmp_path / 'report.html').read_text()
  assert unpack(html)[0]['runs'] == ['none']
  assert 'Not in the list, because their predictions are not in the folder of the study' in html
  for entry in runs.values():
    entry['folders'] = {'1': '../elsewhere'}
  (tmp_path / 'study.json').write_text(json.dumps(study))
  with pytest.raises(UserError, match='the file of predictions .* outside the folder of the study'):
    write_report(tmp_path)


# Chooses each preset and then a class, and writes what the list then says. Without a window nothing
# ever comes into view.
ACTIONS = """
IntersectionObserver = class {
  constructor(act) { this.act = act; }
  observe(target) { setTimeout(() => this.act([{ isIntersecting: true, target }])); }
  unobserve() {}
};
addEventListener('load', async () => {
  const root = document.querySelector('.explorer');
  while (!root.dataset.ready) await new Promise((done) => setTimeout(done, 10));
  const results = [];
  const note = () => results.push(root.querySelector('.count').textContent);
  for (const button of root.querySelectorAll('.presets button')) { button.click(); note(); }
  root.querySelector('.presets button').click();
  const list = root.querySelectorAll('select')[6];
  list.value = '1';
  list.dispatchEvent(new Event('change'));
  note();
  const box = root.querySelector('.list');
  box.dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }));
  results.push(root.querySelector('.details h4').textContent);
  results.push(String(root.querySelectorAll('.details .right, .details .wrong').length));
  const output = document.createElement('pre');
  output.id = 'results';
  output.textContent = results.join('\\n');
  document.body.append(output);
});
"""


@pytest.mark.skipif(CHROMIUM is None, reason='Chromium is not installed')
def test_filters_in_chromium(tmp_path):
  html, by_run = make_page(tmp_path)
  # The policy of the page stays, so that the list works only if the policy allows its script.
  digest = base64.b64encode(hashlib.sha256(ACTIONS.encode()).digest()).decode()
  html = html.replace('script-src ', f"script-src 'sha256-{digest}' ")
  acting = tmp_path / 'acting.html'
  acting.write_text(html.replace('</head>', f'<script>{ACTIONS}</script></head>'))
  shown, _ = load_in_chromium(tmp_path, acting.as_uri(), '--virtual-time-budget=10000')
  output = re.search(r'<pre id="results">([^<]*)</pre>', shown)[1]
  results = xml.sax.saxutils.unescape(output, {'&nbsp;': '\u00a0'}).split('\n')
  of_run = by_run['none']
  painted = bias_metrics.background_recipe(of_run.recipes)
  assert painted == 'background=mean'

  def right(recipe):
    return (metrics.label_ranks(of_run, recipe) == 0) & of_run.counted(recipe)

  def wrong(recipe):
    return (metrics.label_ranks(of_run, recipe) > 0) & of_run.counted(recipe)

  answers = of_run.logits['background=swap'].argmax(axis=1)
  follows = of_run.counted('background=swap') & wrong('background=swap')
  follows &= answers == of_run.partner_labels
  expected = [
    CLIPS,
    (right('none') & wrong(painted)).sum(),
    (wrong('none') & right(painted)).sum(),
    follows.sum(),
    (of_run.labels == 1).sum(),
  ]
  assert results[:5] == [f'{n} of {CLIPS} clips ({100 * n / CLIPS:.1f}\u00a0%)' for n in expected]
  assert min(expected) > 0
  last = np.flatnonzero(of_run.labels == 1)[-1]
  assert results[5] == f'{of_run.classes[1]} {of_run.ids[last]}'
  counted = sum(of_run.counted(recipe)[last] for recipe in RECIPES)
  assert int(results[6]) == 2 * counted
