"""Figures of pairs of verbs and objects: a table by hand, and a slow reference."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from tests.evaluation.examples import predictions
from zsar_jax.config import default_config
from zsar_jax.data.verb_objects import VerbObjects
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation import clip_list, protocol
from zsar_jax.evaluation import predictions as predictions_lib
from zsar_jax.evaluation.pair_metrics import all_pair_metrics, frequent_count, worlds
from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.evaluation.ratio import Combination, Ratio
from zsar_jax.evaluation.run_results import compute_results, format_table
from zsar_jax.study.statistics import estimate

NAN = math.nan

# Verbs open, close; objects book, box, cup. In training 'open book' is frequent.
COUNTS = np.array([[10, 1, 0], [0, 1, 1]], np.int32)
CLASSES = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 2]], np.int32)
OPEN_BOOK, OPEN_BOX, OPEN_CUP, CLOSE_BOOK, CLOSE_CUP = range(5)


def by_hand(answers, open_world=None, labels=None):
  """Predictions of classes; the answer None has logits that are not finite."""
  logits = np.zeros((len(answers), len(CLASSES)), np.float32)
  for row, answer in zip(logits, answers, strict=True):
    row[:] = NAN if answer is None else np.arange(len(CLASSES)) == answer
  names = VerbObjects(('open', 'close'), ('book', 'box', 'cup'), CLASSES, COUNTS)
  best = None if open_world is None else {'none': np.array(open_world, np.int32)}
  return dataclasses.replace(
    predictions(labels, {'none': logits}), pairs=PairPredictions(names, best)
  )


def test_the_figures_of_a_table_by_hand():
  table = [  # label, answer in the closed world, number of the pair in the open world
    (OPEN_BOOK, OPEN_BOOK, 0),  # seen; right in both
    (OPEN_BOX, OPEN_BOOK, 4),  # seen; the verb is right; close box: the object is right
    (CLOSE_CUP, None, -1),  # seen; wrong
    (OPEN_CUP, OPEN_CUP, 2),  # unseen; right in both
    (OPEN_CUP, OPEN_BOOK, 3),  # unseen; open book is frequent: the verb is right; close book
    (CLOSE_BOOK, OPEN_BOOK, 0),  # unseen; open book: the object is right
    (CLOSE_BOOK, CLOSE_CUP, 4),  # unseen; close cup is seen, not frequent; close box as well
    (CLOSE_BOOK, None, -1),  # unseen; wrong, and no pair
  ]
  labels, answers, numbers = zip(*table, strict=True)
  p = by_hand(answers, numbers, labels)
  assert worlds(p) == ('closed', 'open')
  # Mean 13 / 4, and the deviation of 10, 1, 1, 1.
  assert frequent_count(COUNTS) == pytest.approx(3.25 + 4.5)
  closed = {name: figure.value for name, figure in all_pair_metrics(p, 'none', 'closed').items()}
  third, fifth = 1 / 3, 1 / 5
  gaps = {'seen_gap': third - 2 * third * third, 'unseen_gap': fifth - 3 * fifth * 2 * fifth}
  # Seen pairs: open book, all right; open box, of which only the verb is; close cup, nothing.
  # Unseen: open cup, 1/2 right, verbs 1, objects 1/2; close book: 0, verbs 1/3, objects 1/3.
  macro = {'seen_gap_macro': 0.0, 'unseen_gap_macro': (0 + (0 - 1 / 9)) / 2}
  assert closed == pytest.approx(
    {
      'seen_pair': third,
      'seen_verb': 2 * third,
      'seen_object': third,
      'unseen_pair': fifth,
      'unseen_verb': 3 * fifth,
      'unseen_object': 2 * fifth,
      'hm_pair': 2 * third * fifth / (third + fifth),
      'hm_verb': 2 * (2 / 3) * 0.6 / (2 / 3 + 0.6),
      'hm_object': 2 * third * 0.4 / (third + 0.4),
      **gaps,
      **macro,
      'fsp': 3 / 4,
      'fcp': 2 / 4,
      'fcp_verb': 1 / 2,
      'fcp_object': 1 / 2,
      'fcp_both': 0,
    }
  )
  opened = {name: figure.value for name, figure in all_pair_metrics(p, 'none', 'open').items()}
  assert opened['seen_object'] == pytest.approx(2 / 3)
  assert opened['unseen_verb'] == pytest.approx(2 / 5)
  assert (opened['fsp'], opened['fcp'], opened['fcp_verb']) == (2 / 4, 1 / 4, 1)

  table_text = format_table(compute_results([p], {}))
  assert 'none, open world' in table_text
  assert '33.3       20.0       25.0' in table_text


def test_a_model_that_is_never_wrong_has_no_rates_of_errors():
  p = by_hand([OPEN_CUP, OPEN_BOOK], labels=[OPEN_CUP, OPEN_BOOK])
  assert worlds(p) == ('closed',)
  results = compute_results([p], {})['made up']['none']['pairs']
  assert list(results) == ['closed']
  assert results['closed']['fsp'] is None is results['closed']['fcp_both']
  assert results['closed']['hm_pair'] == 1
  assert results['closed']['seen_gap'] == 0


def random_pairs(seed, clips=150, recipe='person=mean'):
  rng = np.random.default_rng(seed)
  verbs, objects = rng.integers(2, 6), rng.integers(2, 6)
  every = list(itertools.product(range(verbs), range(objects)))
  kept = sorted(rng.choice(len(every), rng.integers(3, len(every) + 1), replace=False))
  counts = rng.integers(0, 9, (verbs, objects)) * (rng.random((verbs, objects)) < 0.6)
  names = VerbObjects(
    tuple(f'v{n}' for n in range(verbs)),
    tuple(f'o{n}' for n in range(objects)),
    np.array([every[n] for n in kept], np.int32),
    counts.astype(np.int32),
  )
  labels = rng.integers(0, len(kept), clips)
  logits = rng.integers(0, 5, (clips, len(kept))).astype(np.float32)
  logits[rng.random(clips) < 0.05] = NAN
  best = rng.integers(-1, verbs * objects, clips).astype(np.int32)
  p = predictions(
    labels,
    {recipe: logits},
    coverage=rng.choice([0.1, NAN], (clips, 1), p=[0.9, 0.1]).astype(np.float32),
  )
  return dataclasses.replace(p, pairs=PairPredictions(names, {recipe: best}))


def slow_figures(p, recipe, world):
  """The figures, one clip at a time; those without a clip are missing."""
  names = p.pairs.vocabulary
  objects = len(names.objects)
  numbers = [int(n) for row in names.counts for n in row if n]
  average = sum(numbers) / len(numbers)
  spread = math.sqrt(sum((n - average) ** 2 for n in numbers) / max(1, len(numbers) - 1))
  clips = []
  for n, label in enumerate(p.labels.tolist()):
    if recipe != 'none' and not math.isfinite(p.coverage[n, 0]):
      continue
    true = tuple(names.classes[label].tolist())
    if world == 'open':
      number = int(p.pairs.open_world[recipe][n])
      answer = None if number < 0 else (number // objects, number % objects)
    else:
      scores = p.logits[recipe][n].tolist()
      finite = all(map(math.isfinite, scores))
      answer = tuple(names.classes[scores.index(max(scores))].tolist()) if finite else None
    clips.append((true, answer))

  def rate(values):
    values = list(values)
    return sum(values) / len(values) if values else None

  def right(clips, which):
    return rate(
      answer is not None and all(true[i] == answer[i] for i in which) for true, answer in clips
    )

  whichs = {'pair': (0, 1), 'verb': (0,), 'object': (1,)}
  figures = {}
  parts = {
    'seen': [clip for clip in clips if names.counts[clip[0]]],
    'unseen': [clip for clip in clips if not names.counts[clip[0]]],
  }
  for part, members in parts.items():
    for name, which in whichs.items():
      figures[f'{part}_{name}'] = right(members, which)
    by_pair = {}
    for clip in members:
      by_pair.setdefault(clip[0], []).append(clip)
    gaps = []
    for group in (members, *by_pair.values()):
      pair, verb, thing = (right(group, which) for which in whichs.values())
      gaps.append(None if pair is None else pair - verb * thing)
    figures[f'{part}_gap'] = gaps[0]
    figures[f'{part}_gap_macro'] = rate(gaps[1:])
  for name in whichs:
    seen, unseen = figures[f'seen_{name}'], figures[f'unseen_{name}']
    if None not in (seen, unseen):
      figures[f'hm_{name}'] = 0 if seen + unseen == 0 else 2 * seen * unseen / (seen + unseen)
  wrong = [(true, answer) for true, answer in parts['unseen'] if answer != true]
  figures['fsp'] = rate(answer is not None and names.counts[answer] > 0 for _, answer in wrong)
  frequent = [clip for clip in wrong if clip[1] and names.counts[clip[1]] > average + spread]
  figures['fcp'] = rate(clip in frequent for clip in wrong)
  figures['fcp_verb'] = rate(t[1] == a[1] and t[0] != a[0] for t, a in frequent)
  figures['fcp_object'] = rate(t[0] == a[0] and t[1] != a[1] for t, a in frequent)
  figures['fcp_both'] = rate(t[0] != a[0] and t[1] != a[1] for t, a in frequent)
  return {name: NAN if value is None else float(value) for name, value in figures.items()}


@pytest.mark.parametrize('world', ['closed', 'open'])
@pytest.mark.parametrize('seed', range(8))
def test_against_one_clip_at_a_time(seed, world):
  p = random_pairs(seed)
  (recipe,) = p.recipes
  figures = {name: figure.value for name, figure in all_pair_metrics(p, recipe, world).items()}
  expected = slow_figures(p, recipe, world)
  missing = dict.fromkeys(figures.keys() - expected.keys(), NAN)
  assert figures == pytest.approx(expected | missing, nan_ok=True)


def test_the_interval_of_a_combination_is_that_of_its_values_in_each_draw():
  """The bootstrap of a product of groups, against one that draws clips one sample at a time."""
  rng = np.random.default_rng(0)
  groups = rng.integers(0, 3, 40)
  ratios = tuple(
    Ratio((rng.random((2, 40)) < share).astype(float), np.ones((2, 40)), groups=groups)
    for share in (0.5, 0.8)
  )
  figure = Combination(lambda first, second: first * second, ratios)

  def slow(clips, seed):
    values = [
      math.prod(
        float(ratio.numerator[seed, clips[groups[clips] == group]].mean()) for ratio in ratios
      )
      for group in set(groups[clips].tolist())
    ]
    return sum(values) / len(values)

  every = np.arange(40)
  found = estimate(figure, draws=4000)
  assert found.per_seed == pytest.approx([slow(every, 0), slow(every, 1)])
  assert found.value == pytest.approx(np.mean(found.per_seed))
  assert (found.count, found.chance) == (40, None)
  draws = []
  for _ in range(4000):
    clips = rng.integers(40, size=40)
    draws.append(np.mean([slow(clips, seed) for seed in rng.integers(2, size=2)]))
  low, high = np.quantile(draws, [0.025, 0.975])
  assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_files_keep_the_pairs(tmp_path):
  p = random_pairs(3)
  for expected in (p, dataclasses.replace(p, pairs=dataclasses.replace(p.pairs, open_world=None))):
    expected.save(tmp_path / 'p.npz')
    loaded = predictions_lib.load(tmp_path / 'p.npz')
    for name, array in expected.pairs.to_arrays().items():
      np.testing.assert_array_equal(loaded.pairs.to_arrays()[name], array, strict=True)
    assert (loaded.pairs.open_world is None) == (expected.pairs.open_world is None)


def test_runs_with_other_training_pairs_are_not_compared():
  p = random_pairs(3)
  predictions_lib.check_same_clips(p, p)
  names = p.pairs.vocabulary
  counted_again = dataclasses.replace(names, counts=names.counts + 1)
  for pairs in (None, dataclasses.replace(p.pairs, vocabulary=counted_again)):
    with pytest.raises(UserError, match='made up: two runs were evaluated with different verbs'):
      predictions_lib.check_same_clips(p, dataclasses.replace(p, pairs=pairs))


def test_lists_of_exported_clips_keep_the_pairs(tmp_path):
  p = random_pairs(3)
  closed = dataclasses.replace(p, pairs=dataclasses.replace(p.pairs, open_world=None))
  count = len(p.ids)
  config = default_config()
  use = protocol.describe_use(config, View.from_config(config), ('{}',), True, 'keep')
  exported = clip_list.ClipList(closed, [list(p.classes)], [12.0] * count, 1, 'logits', {}, use, {})
  exported.save(tmp_path)
  loaded = clip_list.load(tmp_path).blank.pairs
  for name, array in closed.pairs.to_arrays().items():
    np.testing.assert_array_equal(loaded.to_arrays()[name], array, strict=True)
  content = json.loads((tmp_path / clip_list.LIST).read_text())
  for field, value, problem in (
    ('counts', [[1]], 'class_pairs: '),
    ('classes', 'x', 'invalid literal'),
    ('verbs', [], 'verbs: it is empty'),
  ):
    changed = content | {'pairs': content['pairs'] | {field: value}}
    (tmp_path / clip_list.LIST).write_text(json.dumps(changed))
    with pytest.raises(UserError, match=rf'clips.json: damaged \({problem}'):
      clip_list.load(tmp_path)


@pytest.mark.parametrize(
  ('name', 'change', 'problem'),
  [
    ('class_pairs', lambda pairs: pairs + 9, 'class_pairs: not all of'),
    ('class_pairs', lambda pairs: pairs[[0, *range(len(pairs) - 1)]], 'class_pairs: two classes'),
    ('class_pairs', lambda pairs: pairs[1:], 'class_pairs: .* classes instead of'),
    ('class_pairs', lambda pairs: pairs.astype(np.int64), 'class_pairs: int64 with 2 axes'),
    ('pair_counts', lambda counts: -counts, 'pair_counts: one is negative'),
    ('pair_counts', lambda counts: counts[:, 1:], 'pair_counts: '),
    ('open_world', lambda best: best + 99, 'open_world: not a pair of'),
    ('open_world', lambda best: best[:, 1:], 'open_world: '),
    ('objects', lambda names: names[np.zeros(len(names), int)], 'objects: .*occurs twice'),
    ('pair_counts', None, 'pair_counts: missing'),
  ],
)  # fmt: skip
def test_files_with_wrong_pairs_are_refused(tmp_path, name, change, problem):
  path = tmp_path / 'p.npz'
  random_pairs(3).save(path)
  with np.load(path) as file:
    arrays = dict(file)
  if change:
    arrays[name] = change(arrays[name])
  else:
    del arrays[name]
  np.savez_compressed(path, **arrays)
  with pytest.raises(UserError, match=rf'p\.npz: {problem}.*; evaluate the run again'):
    predictions_lib.load(path)
