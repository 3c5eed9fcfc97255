"""Tests of the numbers in a report: their formats, axes and charts."""

import re
from typing import Any

import numpy as np
import pytest

from tests.study.report.random_study import make_study
from zsar_jax.evaluation import predictions
from zsar_jax.recipes import regions
from zsar_jax.study.report import axes, line_plots, number_format, reproduction


def numbers_of(value: Any) -> set[float]:
  if isinstance(value, dict):
    value = list(value.values())
  if isinstance(value, list):
    return set().union(*map(numbers_of, value))
  return {float(value)} if isinstance(value, int | float) else set()


@pytest.mark.parametrize('kind', ['html', 'markdown'])
def test_every_number_shown_is_the_studys(random_report, kind):
  numbers = [abs(number) for number in numbers_of(random_report.study)]
  allowed = {f'{100 * number:.1f}' for number in numbers}
  allowed |= {f'{number:.2f}' for number in numbers}
  allowed |= {f'{number:.2g}' for number in numbers}  # p-values
  if kind == 'html':
    tree = random_report.tree
    texts = []
    for element in tree.iter():
      texts += [element.get('title', ''), element.get('aria-label', ''), element.tail or '']
      # Axes have round numbers of their own; code and settings are not results.
      if element.tag not in ('text', 'code', 'pre', 'style'):
        texts.append(element.text or '')
    text = '\n'.join(texts)
  else:
    text = random_report.markdown.split('## How to reproduce')[0]
  # 0.0.0 of a version and 0.001 of a setting are not results.
  shown = set(re.findall(r'(?<![\d.])\d+\.\d{1,2}(?![\d.])', text))
  assert len(shown) > 200
  assert shown <= allowed


def test_chance_levels_may_differ_in_their_last_bits():
  thirds = [{'value': 0.5, 'chance': (n * (1 / 3)) / n} for n in (7, 53, 156, 160)]
  thirds.append({'value': 0.5, 'chance': np.nextafter(1 / 3, 1)})
  assert len({estimate['chance'] for estimate in thirds}) > 1
  shared_chance = number_format.shared_chance
  assert shared_chance(thirds) == pytest.approx(1 / 3)
  assert shared_chance([*thirds, {'value': None}]) == pytest.approx(1 / 3)
  assert shared_chance([*thirds, {'value': 0.5, 'chance': 0.5}]) is None
  assert shared_chance([*thirds, {'value': 0.5}]) is None


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
def test_axes_have_round_ends_and_include_0(values, ticks):
  axis = axes.axis(values, ticks=3, min_span=0.02 if values else 1.0)
  np.testing.assert_allclose(axis.ticks, ticks, atol=1e-9)
  np.testing.assert_allclose([axis.position(axis.low - 1), axis.position(axis.high + 1)], [0, 1])


def test_thinning_keeps_means_and_ends():
  rng = np.random.default_rng(0)
  points = [(float(x), float(y)) for x, y in enumerate(rng.normal(size=1000))]
  thin = line_plots.thinned([*points[:500], (500.5, None), *points[500:]], 100)
  np.testing.assert_allclose(thin, np.reshape(points, (100, 10, 2)).mean(axis=1))
  assert line_plots.thinned(points[:7], 100) == points[:7]


def test_the_example_code_computes_the_number(tmp_path, monkeypatch, capsys):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 40, 3)).astype(np.float32)
  labels = np.arange(40, dtype=np.int32) % 3
  study = make_study(tmp_path)
  for seed, of_seed in zip((1, 2), logits, strict=True):
    folder = tmp_path / 'runs' / 'none' / str(seed) / 'predictions'
    folder.mkdir(parents=True)
    predictions.Predictions(
      dataset='scenes', recipes=('none',), classes=tuple('abc'),
      ids=tuple(map(str, range(40))), labels=labels, logits={'none': of_seed},
      coverage=np.zeros((40, 4), np.float32), attributes=({},) * 40, partners=('',) * 40,
      partner_labels=np.full(40, -1, np.int32), saliency=np.full((40, 3), np.nan, np.float32),
      saliency_area=np.full((40, 3), np.nan, np.float32), regions=tuple(regions.REGION_BITS),
    ).save(folder / 'scenes.npz')  # fmt: skip
  run = study['experiments']['pantomime']['runs']['none']
  run['folders'] = {seed: f'runs/none/{seed}' for seed in ('1', '2')}
  monkeypatch.chdir(tmp_path)
  exec(reproduction.example_code(study), {})
  top1 = (logits.argmax(axis=2) == labels).mean()
  value = float(re.search(r'value=([\d.]+)', capsys.readouterr().out)[1])
  np.testing.assert_allclose(value, top1, rtol=1e-6)
