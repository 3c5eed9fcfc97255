"""Measures of static bias: how far a prediction depends on the background instead of the action.

HAT is Chung, Wu and Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video
Dataset Augmentation" (NeurIPS 2022, Datasets and Benchmarks).
"""

from collections.abc import Callable, Sequence

import numpy as np

from zsar_jax.evaluation.chirality import two_way_accuracy
from zsar_jax.evaluation.metrics import (
  accuracy_ratio,
  class_ranks,
  is_correct,
  label_ranks,
  top_1,
)
from zsar_jax.evaluation.order_metrics import order_metrics
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Ratio, mean
from zsar_jax.recipes import language

# The recipes of the measures, each with its accepted forms: the first that was evaluated is used.
_ORIGINAL = ('none',)
_HUMAN_ONLY = ('background=mean,object=mean', 'background=mean')
# HAT's own clips without people are inpainted.
_BACKGROUND_ONLY = ('person=inpaint', 'person=mean,object=mean', 'person=mean')
_SWAP = ('background=swap',)
_SCUBA = ('background=stripes',)
_SCUFO = ('background=stripes,freeze',)
_COLOR = ('background=normal',)
_OTHER_COLOR = ('background=normal/other',)


def all_bias_metrics(p: Predictions) -> dict[str, Ratio]:
  """Returns each measure for which `p` has the recipes, by its name in study.json."""
  measures: tuple[tuple[str, Callable[..., Ratio], tuple[tuple[str, ...], ...]], ...] = (
    ('BOR', accuracy_ratio, (_BACKGROUND_ONLY, _ORIGINAL)),
    ('HOR', accuracy_ratio, (_HUMAN_ONLY, _ORIGINAL)),
    ('HOR-BOR', accuracy_ratio_gap, (_HUMAN_ONLY, _BACKGROUND_ONLY, _ORIGINAL)),
    ('SHAcc', top_1, (_SWAP,)),
    ('SBErr', swap_background_error, (_SWAP,)),
    ('SHAcc-SBErr', swap_gap, (_SWAP,)),
    ('background_wins', background_wins, (_SWAP,)),
    ('rank_gap', rank_gap, (_SWAP,)),
    ('score_gap', score_gap, (_SWAP,)),
    ('SCUBA', top_1, (_SCUBA,)),
    ('SCUFO', top_1, (_SCUFO,)),
    ('contrasted', contrasted_accuracy, (_SCUBA, _SCUFO)),
    ('recolour', consistency, (_COLOR, _OTHER_COLOR)),
  )
  metrics = {}
  for name, function, alternatives in measures:
    recipes = [_first_evaluated(p, texts) for texts in alternatives]
    if None not in recipes:
      metrics[name] = function(p, *recipes)
  for recipe in p.recipes:
    if chiral := two_way_accuracy(p, recipe):
      metrics[f'chiral[{recipe}]'] = chiral
  return metrics | order_metrics(p)


def swap_recipe(p: Predictions) -> str | None:
  """Returns the recipe with swapped backgrounds, as `p` writes it; None if `p` has none."""
  return _first_evaluated(p, _SWAP)


def background_recipe(texts: Sequence[str]) -> str | None:
  """Returns the first recipe that paints only the background, with a color; None without one."""
  for text in texts:
    recipe = language.parse(text)
    if (
      [part.region for part in recipe.parts] == ['background']
      and recipe.parts[0].fill not in language.BACKGROUND_FILLS
      and not recipe.effects
    ):
      return text
  return None


def accuracy_ratio_gap(p: Predictions, recipe: str, other: str, reference: str = 'none') -> Ratio:
  """Returns the `accuracy_ratio` of one recipe minus that of another, such as HOR minus BOR.

  Only clips that count under all three recipes are used.
  """
  counted = p.counted(recipe) & p.counted(other) & p.counted(reference)
  first, second, denominator = (
    is_correct(p, text) & counted for text in (recipe, other, reference)
  )
  gap = first.astype(np.float64) - second
  return Ratio(gap, denominator.astype(np.float64), counted)


def swap_background_error(p: Predictions, recipe: str) -> Ratio:
  """Returns HAT's SBErr: the share of clips that get the class of the background's clip.

  A clip does not count if the background's clip has the same class or a class outside the
  vocabulary.
  """
  predicted = _background_ranks(p, recipe) == 0
  return mean(predicted, _background_differs(p, recipe), chance=1 / len(p.classes))


def swap_gap(p: Predictions, recipe: str) -> Ratio:
  """Returns how much more often the person's class is predicted than the background's.

  This is SHAcc minus SBErr over the clips of `swap_background_error`, which may be fewer than those
  of SHAcc.
  """
  gap = is_correct(p, recipe).astype(np.float64) - (_background_ranks(p, recipe) == 0)
  return mean(gap, _background_differs(p, recipe))


def background_wins(p: Predictions, recipe: str) -> Ratio:
  """Returns how often the background's class ranks before the person's.

  The mean is over the clips of `swap_background_error`. Source: Zhou et al., arXiv 2512.17953.
  """
  wins = _background_ranks(p, recipe) < label_ranks(p, recipe)
  return mean(wins, _background_differs(p, recipe), chance=0.5)


def rank_gap(p: Predictions, recipe: str) -> Ratio:
  """Returns the rank of the person's class minus that of the background's (arXiv 2512.17953).

  The gap is positive if the background comes first. The mean is over those clips of
  `swap_background_error` whose logits are finite: the others have no ranks.
  """
  gap = label_ranks(p, recipe) - _background_ranks(p, recipe)
  return mean(gap, _background_differs(p, recipe) & np.isfinite(p.logits[recipe]).all(axis=1))


def score_gap(p: Predictions, recipe: str) -> Ratio:
  """Returns the logit of the person's class minus that of the background's (arXiv 2512.17953).

  The gap is the logarithm of the ratio of the two probabilities, positive if the person comes
  first. The mean is over the clips of `rank_gap`.
  """
  logits = p.logits[recipe].astype(np.float64)
  counted = _background_differs(p, recipe) & np.isfinite(logits).all(axis=1)
  rows = np.arange(len(logits))
  with np.errstate(invalid='ignore'):
    gap = logits[rows, p.labels] - logits[rows, p.partner_labels]
  return mean(gap, counted)


def contrasted_accuracy(p: Predictions, scuba: str, scufo: str) -> Ratio:
  """Returns the share of clips that are correct on SCUBA and wrong on SCUFO, where nothing moves.

  This is the contrasted accuracy of Li et al. (StillMix, ICCV 2023): SCUBA shows the foreground
  over another background, and SCUFO repeats one frame of that clip.
  """
  contrasted = is_correct(p, scuba) & ~is_correct(p, scufo)
  chance = (1 - 1 / len(p.classes)) / len(p.classes)  # For two independent guesses.
  return mean(contrasted, p.counted(scuba) & p.counted(scufo), chance)


def consistency(p: Predictions, recipe: str, other: str) -> Ratio:
  """Returns how often two recipes, such as two draws of colors, lead to the same prediction.

  A clip whose logits are not finite has no predicted class and counts as inconsistent.
  """
  first, second = p.logits[recipe], p.logits[other]
  finite = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
  consistent = finite & (first.argmax(axis=1) == second.argmax(axis=1))
  return mean(consistent, p.counted(recipe) & p.counted(other), chance=1 / len(p.classes))


def _background_differs(p: Predictions, recipe: str) -> np.ndarray:
  """Returns bool[N], whether each clip's background is from another class of the vocabulary."""
  return p.counted(recipe) & (p.partner_labels >= 0) & (p.partner_labels != p.labels)


def _background_ranks(p: Predictions, recipe: str) -> np.ndarray:
  """Returns i64[N], the rank of the background's class, or of class 0 without such a class."""
  return class_ranks(p.logits[recipe], np.maximum(p.partner_labels, 0))


def _first_evaluated(p: Predictions, texts: Sequence[str]) -> str | None:
  """Returns the first of the recipes that `p` has, as `p` writes it; None if `p` has none."""
  evaluated = {language.parse(text): text for text in p.recipes}
  recipes = map(language.parse, texts)
  return next((evaluated[recipe] for recipe in recipes if recipe in evaluated), None)
