"""Made-up predictions, and helpers for slow reference figures of them."""

import numpy as np
import pytest

from zsar_jax.evaluation.predictions import Predictions


def predictions(labels, logits, partner_labels=None, **changes):
  """Made-up predictions. The partner of a clip is called 'p'; None is a clip without a partner."""
  count, classes = np.shape(next(iter(logits.values())))
  if partner_labels is None:
    partner_labels = [None] * count
  fields = {
    'dataset': 'made up',
    'recipes': tuple(logits),
    'classes': tuple(f'class {n}' for n in range(classes)),
    'ids': tuple(f'clip {n}' for n in range(count)),
    'labels': np.array(labels, np.int32),
    'logits': {recipe: np.array(scores, np.float32) for recipe, scores in logits.items()},
    'regions': ('person',),
    'coverage': np.full((count, 1), 0.2, np.float32),
    'attributes': tuple({} for _ in range(count)),
    'partners': tuple('' if label is None else 'p' for label in partner_labels),
    'partner_labels': np.array([-1 if n is None else n for n in partner_labels], np.int32),
    'saliency': np.full((count, 3), np.nan, np.float32),
    'saliency_area': np.full((count, 3), np.nan, np.float32),
  }
  return Predictions(**(fields | changes))


NAN = [np.nan] * 3

# Logits of six clips for three classes, with the predicted class, and whether it is correct.
LABELS = [0, 0, 0, 1, 1, 2]
TABLE = {
  'none': [
    [3, 1, 0],  # 0, correct
    [2, 2, 1],  # 0 of a tie, correct
    [0, 5, 4],  # 1, wrong, third
    [0, 1, 0],  # 1, correct
    [1, 0, 2],  # 2, wrong, third
    NAN,  # wrong
  ],
  'background=mean': [
    [0, 1, 2],  # 2, wrong
    [4, 0, 0],  # 0, correct
    [4, 0, 0],  # 0, correct
    [1, 0, 0],  # 0, wrong
    [0, 0, 1],  # 2, wrong
    [0, 0, 1],  # 2, correct
  ],
  'object=mean,person=mean': [
    [1, 0, 0],  # 0, correct
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, correct
    [0, 0, 1],  # 2, wrong
    [1, 0, 0],  # 0, wrong
  ],
  'background=swap': [
    [1, 3, 2],  # 1; of 0 third, of 1 first, 2 less
    [5, 1, 4],  # 0; of 0 first, of 2 second, 1 more
    [9, 0, 1],  # Its background is of its own class.
    [7, 6, 5],  # Its background is of no class of the vocabulary.
    NAN,  # No partner.
    [2, 1, 8],  # 2; of 2 first, of 0 second, 6 more
  ],
  'background=stripes': [
    [1, 0, 0],  # 0, correct
    [1, 0, 0],  # 0, correct
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, correct
    [0, 1, 0],  # 1, correct
    [1, 0, 0],  # 0, wrong
  ],
  'background=stripes,freeze': [
    [1, 0, 0],  # 0, correct
    [0, 1, 0],  # 1, wrong
    [1, 0, 0],  # 0, correct
    NAN,  # wrong
    [0, 1, 0],  # 1, correct
    [1, 0, 0],  # 0, wrong
  ],
  'background=normal': [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], NAN, [0, 0, 1]],
  'background=normal/other': [[2, 0, 0], [0, 0, 1], [0, 1, 2], [3, 0, 0], NAN, NAN],
}
PARTNER_LABELS = [1, 2, 0, -1, None, 0]


def by_hand():
  return predictions(LABELS, TABLE, PARTNER_LABELS)


def random_predictions(seed, count=120, classes=8):
  rng = np.random.default_rng(seed)
  logits = {recipe: rng.integers(0, 4, (count, classes)).astype(np.float32) for recipe in TABLE}
  for scores in logits.values():
    scores[rng.random(count) < 0.1, rng.integers(classes)] = np.nan
  labels = rng.integers(0, classes - 2, count)
  partners = [rng.choice([None, -1, *range(classes)]) for _ in range(count)]
  return predictions(
    labels,
    logits,
    partners,
    coverage=rng.choice([0, 0.04, 0.05, 0.3, 0.5, 1, np.nan], (count, 1)).astype(np.float32),
    attributes=tuple(
      {} if n % 5 == 0 else {'scene': str(rng.choice(['yes', 'no']))} for n in range(count)
    ),
    saliency=rng.choice([0.1, 0.5, np.nan], (count, 3), p=[0.45, 0.45, 0.1]).astype(np.float32),
    saliency_area=rng.choice([0.2, np.nan], (count, 3), p=[0.9, 0.1]).astype(np.float32),
  )


def order(p, recipe, n):
  """The classes by descending logit; None if the logits are not finite."""
  scores = p.logits[recipe][n].tolist()
  if not all(np.isfinite(scores)):
    return None
  return sorted(range(len(scores)), key=lambda c: (-scores[c], c))


def mean(values):
  return pytest.approx(sum(values) / len(values)) if values else pytest.approx(np.nan, nan_ok=True)
