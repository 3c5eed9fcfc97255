"""Multiple choice: is a clip's class preferred over a few others that are drawn at random?

Video language models are often tested in this way, with a few answers instead of the entire
vocabulary. The other answers, the distractors, depend only on the clip's id, the vocabulary and the
number of choices, so that every model gets the same ones under every recipe.
"""

import functools
import zlib

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.evaluation.metrics import class_ranks
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Ratio, mean

# The seed of the distractors.
_SEED = 0


def multiple_choice(p: Predictions, recipe: str, choices: int = 0) -> Ratio:
  """Returns the share of clips whose class has the largest logit among some classes.

  Of equal logits the lower class index wins, as in top-1. A clip whose logits are not all finite is
  wrong.

  Args:
    p: the predictions.
    recipe: one of `p.recipes`.
    choices: the number of classes to choose from, the clip's own among them; 0 for `p.choices`.

  Raises:
    UserError: see `check_choices`.
  """
  choices = choices or p.choices
  drawn = draw_choices(p, choices)  # [N, choices]
  logits = np.take_along_axis(p.logits[recipe], drawn, axis=1)
  own = (drawn == p.labels[:, None]).argmax(axis=1)
  right = (class_ranks(logits, own) == 0) & np.isfinite(p.logits[recipe]).all(axis=1)
  return mean(right, p.counted(recipe), chance=1 / choices)


def draw_choices(p: Predictions, choices: int) -> np.ndarray:
  """Returns i64[N, choices], the classes to choose from for each clip, increasing in each row.

  Args:
    p: the predictions.
    choices: the number of classes, the clip's own among them.

  Raises:
    UserError: see `check_choices`.
  """
  check_choices(choices, len(p.classes), 'choices', p.dataset)
  return _draw(p.ids, tuple(p.labels.tolist()), len(p.classes), choices)


def check_choices(choices: int, classes: int, field: str, dataset: str) -> None:
  """Raises a `UserError` if `choices` is less than 2 or more than the classes of a data set."""
  if not 2 <= choices <= classes:
    raise UserError(
      f'{field}: {choices} choices cannot be drawn from the {classes} classes of {dataset}; take 2'
      f' to {classes}'
    )


@functools.lru_cache(maxsize=4)
def _draw(ids: tuple[str, ...], labels: tuple[int, ...], classes: int, choices: int) -> np.ndarray:
  """Draws the choices; cached because all figures of a data set use the same ones."""
  drawn = np.empty((len(ids), choices), np.int64)
  for row, clip_id, label in zip(drawn, ids, labels, strict=True):
    rng = np.random.default_rng([_SEED, zlib.crc32(clip_id.encode('utf-8', 'surrogatepass'))])
    others = rng.choice(classes - 1, choices - 1, replace=False)
    row[0], row[1:] = label, others + (others >= label)
  drawn.sort(axis=1)
  drawn.flags.writeable = False
  return drawn
