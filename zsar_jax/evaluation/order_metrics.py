"""How far predictions depend on the order of frames, and how well they resist painting.

A pair of recipes compares a painted clip, such as `background=normal`, with the same clip in
another order, `background=normal,reverse`. With `none` as the painting, both are unpainted. A model
that averages its frames has exactly 0 for `reverse` and `shuffle` in every figure here but
`resist`.

Sources: the Resist Rate and the Temporal Sensitivity Score are those of INFACT (arXiv 2603.11481).
Relative drops and flip rates under reversed, shuffled and frozen clips are common in stress tests
of video models.
"""

from collections.abc import Iterator

import numpy as np

from zsar_jax.evaluation.metrics import accuracy_ratio, is_correct
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Ratio, mean
from zsar_jax.recipes import language
from zsar_jax.recipes.language import Recipe

_PEOPLE = ('person', 'person_box')


def order_metrics(p: Predictions) -> dict[str, Ratio]:
  """Returns each figure for which `p` has the recipes, by its name in study.json.

  A name is that of the figure and, in brackets, the recipe that changes the clip:
  'drop[background=normal,reverse]', 'resist[background=swap]'.
  """
  metrics = {}
  for painting, _, recipe in order_changes(p.recipes):
    metrics[f'drop[{recipe}]'] = relative_drop(p, recipe, painting)
    metrics[f'flips[{recipe}]'] = flip_rate(p, recipe, painting)
    metrics[f'TSS[{recipe}]'] = temporal_sensitivity(p, recipe, painting)
    if language.parse(recipe).effect('freeze'):
      metrics[f'static_share[{recipe}]'] = accuracy_ratio(p, recipe, painting)
  if 'none' in p.recipes:
    for recipe in filter(_preserves_label, p.recipes):
      metrics[f'resist[{recipe}]'] = resist_rate(p, recipe)
  return metrics


def order_changes(recipes: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
  """Yields those recipes that differ from another one only in the order of all clips' frames.

  Args:
    recipes: in their canonical form.

  Yields:
    The other recipe, the effect, and the recipe: ('background=normal', 'reverse',
    'background=normal,reverse').
  """
  for text in recipes:
    recipe = language.parse(text)
    painting = str(Recipe(recipe.parts, recipe.early_effects))
    if [effect.probability for effect in recipe.order_effects] == [1] and painting in recipes:
      yield painting, recipe.order_effects[0].name, text


def relative_drop(p: Predictions, recipe: str, reference: str) -> Ratio:
  """Returns the share of its accuracy that the model loses: (reference - recipe) / reference.

  Both accuracies are over the clips that count under both recipes. The drop is below 0 if the
  model is more accurate under `recipe`.
  """
  return _remainder(accuracy_ratio(p, recipe, reference))


def flip_rate(p: Predictions, recipe: str, reference: str) -> Ratio:
  """Returns the share of clips whose predicted class changes, whether it was right or not.

  Having no predicted class, because logits are not finite, counts as another class.
  """
  flipped = _predicted(p, recipe) != _predicted(p, reference)
  chance = 1 - 1 / len(p.classes)  # For two independent guesses.
  return mean(flipped, p.counted(recipe) & p.counted(reference), chance)


def temporal_sensitivity(p: Predictions, recipe: str, reference: str) -> Ratio:
  """Returns the share of the clips right under `reference` that get another class under `recipe`.

  This is the Temporal Sensitivity Score if `recipe` destroys the order of frames. It is above the
  relative drop, from which the clips that only become right are subtracted.
  """
  return _remainder(resist_rate(p, recipe, reference))


def resist_rate(p: Predictions, recipe: str, reference: str = 'none') -> Ratio:
  """Returns the share of the clips right under `reference` that are right under `recipe` too.

  This is the Resist Rate if `recipe` leaves what the label says.
  """
  counted = p.counted(recipe) & p.counted(reference)
  right = (is_correct(p, reference) & counted).astype(np.float64)
  return Ratio(right * is_correct(p, recipe), right, counted, chance=right / len(p.classes))


def _remainder(share: Ratio) -> Ratio:
  """Returns 1 - `share`, a figure with a chance level."""
  assert share.chance is not None
  return Ratio(
    share.denominator - share.numerator,
    share.denominator,
    share.counted,
    chance=share.denominator - share.chance,
  )


def _preserves_label(text: str) -> bool:
  """Returns whether a recipe changes what is around people in every clip, and nothing else."""
  recipe = language.parse(text)
  around_people = all(
    part.region not in _PEOPLE and not part.over_people and part.probability == 1
    for part in recipe.parts
  )
  return bool(recipe.parts) and not recipe.effects and around_people


def _predicted(p: Predictions, recipe: str) -> np.ndarray:
  """Returns i64[N], the predicted class of each clip; -1 where the logits are not finite."""
  logits = p.logits[recipe]
  return np.where(np.isfinite(logits).all(axis=1), logits.argmax(axis=1), -1)
