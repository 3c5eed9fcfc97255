"""Figures of classes that are pairs of a verb and an object: does the object decide the verb?

Clips are *seen* if their pair occurs in training, otherwise *unseen*. All figures are of top-1 and
without a bias for unseen pairs, which is the zero-shot setting; the figures "best" of C2C (Li et
al., ECCV 2024) come from a sweep of such a bias and are not comparable. FSP, FCP and the
compositional gap are those of RCORE (arXiv 2601.16211), whose code this follows where the paper
leaves a choice.

`closed` is the choice among the classes, `open` the one among all pairs of a verb and an object.
"""

import itertools
from typing import Any

import numpy as np

from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Combination, Ratio, divide, mean

WORLDS = ('closed', 'open')
PARTS = ('seen', 'unseen')
NAMES = ('pair', 'verb', 'object')


def worlds(p: Predictions) -> tuple[str, ...]:
  """Returns the worlds that were scored, () if the classes are no pairs."""
  if p.pairs is None:
    return ()
  return WORLDS if p.pairs.open_world else WORLDS[:1]


def all_pair_metrics(p: Predictions, recipe: str, world: str) -> dict[str, Ratio | Combination]:
  """Returns the figures of a world under a recipe, as fractions.

  They are, where PART is seen or unseen and NAME is pair, verb or object:

      PART_NAME     the share of the clips whose pair, verb or object is predicted; verb and object
                    are those of the predicted pair
      hm_NAME       the harmonic mean of both parts
      PART_gap      the compositional gap: the accuracy of pairs minus the product of those of verbs
                    and objects. Positive: pairs are known beyond chance. Negative on unseen pairs:
                    a right verb comes with a wrong object, a shortcut.
      PART_gap_macro    the mean of the gaps of each pair
      fsp           false seen predictions: of the wrong unseen clips, those that get a seen pair
      fcp           false co-occurrence predictions: those that get a frequent pair, with more
                    training clips than the mean and one standard deviation of the seen pairs
      fcp_verb      of these, the clips whose object is right and whose verb is wrong: the verb
                    follows the object
      fcp_object    those whose verb is right
      fcp_both      those of which neither is right

  A clip whose logits are not finite is wrong, and gets no pair.

  Args:
    p: predictions with pairs.
    recipe: one of `p.recipes`.
    world: one of `worlds(p)`.
  """
  pairs, counted = _pairs(p), p.counted(recipe)
  counts = pairs.vocabulary.counts
  true = pairs.vocabulary.classes[p.labels]  # [N, 2]
  predicted = predicted_pairs(p, recipe, world)
  has_verb, has_object = (predicted == true).T
  correct = {'pair': has_verb & has_object, 'verb': has_verb, 'object': has_object}
  seen = counts[true[:, 0], true[:, 1]] > 0
  of_part = {'seen': counted & seen, 'unseen': counted & ~seen}

  figures: dict[str, Ratio | Combination] = {
    f'{part}_{name}': mean(correct[name], of_part[part])
    for part, name in itertools.product(PARTS, NAMES)
  }
  for name in NAMES:
    both = tuple(mean(correct[name], of_part[part]) for part in PARTS)
    figures[f'hm_{name}'] = Combination(_harmonic_mean, both)
  for part, (suffix, groups) in itertools.product(PARTS, (('', None), ('_macro', p.labels))):
    accuracies = tuple(mean(correct[name], of_part[part], groups=groups) for name in NAMES)
    figures[f'{part}_gap{suffix}'] = Combination(_gap, accuracies)

  wrong = of_part['unseen'] & ~correct['pair']
  training_clips = np.where(predicted[:, 0] < 0, 0, counts[predicted[:, 0], predicted[:, 1]])
  frequent = wrong & (training_clips > frequent_count(counts))
  figures |= {
    'fsp': mean(training_clips > 0, wrong),
    'fcp': mean(frequent, wrong),
    'fcp_verb': mean(has_object & ~has_verb, frequent),
    'fcp_object': mean(has_verb & ~has_object, frequent),
    'fcp_both': mean(~has_verb & ~has_object, frequent),
  }
  return figures


def predicted_pairs(p: Predictions, recipe: str, world: str) -> np.ndarray:
  """Returns i64[N, 2], the verb and the object of each clip's best pair.

  They are -1 where a logit is not finite, and in the open world where the clip does not count.
  """
  pairs = _pairs(p)
  if world == 'open':
    assert pairs.open_world is not None, 'the open world was not scored'
    numbers = pairs.open_world[recipe].astype(np.int64)
    split = np.stack(np.divmod(numbers, len(pairs.vocabulary.objects)), axis=1)
    return np.where(numbers[:, None] < 0, -1, split)
  logits = p.logits[recipe]
  finite = np.isfinite(logits).all(axis=1)
  return np.where(finite[:, None], pairs.vocabulary.classes[logits.argmax(axis=1)], -1)


def frequent_count(counts: np.ndarray) -> float:
  """Returns the number of training clips above which a pair is frequent.

  It is the mean and one standard deviation (n - 1) over the seen pairs. RCORE states it in shares
  of all training clips, which is the same comparison.

  Args:
    counts: i32[V, O], the training clips of each pair.
  """
  seen = counts[counts > 0].astype(np.float64)
  return float(seen.mean() + (seen.std(ddof=1) if len(seen) > 1 else 0)) if len(seen) else 0.0


def pair_results(p: Predictions, recipe: str) -> dict[str, dict[str, Any]]:
  """Returns the figures of each world for results.json: NaN becomes None."""
  return {
    world: {
      name: None if np.isnan(figure.value) else figure.value
      for name, figure in all_pair_metrics(p, recipe, world).items()
    }
    for world in worlds(p)
  }


def format_pairs(results: dict[str, dict[str, dict[str, Any]]]) -> str:
  """Formats the pairs in results as text, a row for each recipe and world; '' without any."""
  columns = {
    'seen': 'seen_pair',
    'unseen': 'unseen_pair',
    'HM': 'hm_pair',
    'verb': 'unseen_verb',
    'object': 'unseen_object',
    'gap': 'unseen_gap',
    'FSP': 'fsp',
    'FCP': 'fcp',
    'by object': 'fcp_verb',
  }
  lines = []
  for dataset, by_recipe in results.items():
    rows = [
      (f'{recipe}, {world} world', [figures[key] for key in columns.values()])
      for recipe, of_recipe in by_recipe.items()
      for world, figures in of_recipe.get('pairs', {}).items()
    ]
    if not rows:
      continue
    title = f'{dataset}, pairs'
    width = max(len(title) - 2, *(len(row) for row, _ in rows))
    lines.append(f'{title:<{width + 2}}' + ''.join(f'{head:>11}' for head in columns))
    lines += [
      f'  {row:<{width}}' + ''.join(f'{_percent(value):>11}' for value in values)
      for row, values in rows
    ]
    lines.append('')
  return '\n'.join(lines)


def _percent(value: float | None) -> str:
  return '-' if value is None else f'{100 * value:.1f}'


def _pairs(p: Predictions) -> PairPredictions:
  assert p.pairs is not None, 'the classes are no pairs of a verb and an object'
  return p.pairs


def _harmonic_mean(seen: np.ndarray, unseen: np.ndarray) -> np.ndarray:
  """Returns 0 where both are 0."""
  harmonic = divide(2 * seen * unseen, seen + unseen)
  return np.where(seen + unseen == 0, 0.0, harmonic)


def _gap(pair: np.ndarray, verb: np.ndarray, thing: np.ndarray) -> np.ndarray:
  return pair - verb * thing
