"""Two-way accuracy on chiral pairs: is a clip's class preferred over the same action reversed?

Both classes of a pair, such as "Closing something" and "Opening something", show the same things in
the same places, in the opposite direction of time. A model that cannot see the order of frames is
right in half of the clips in expectation, if both classes have as many. Pairs of the same kind are
a group; see "Chirality in Action" (NeurIPS 2025, arXiv 2509.08502).

Clips have two attributes for this, which `data.clip_labels` reads:

    chiral_group    the group
    chiral_pair     the class that the clip's own class is to be told from
"""

import numpy as np

from zsar_jax.evaluation.metrics import class_ranks, label_ranks
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Ratio, mean

_GROUP, _PAIR = 'chiral_group', 'chiral_pair'


def two_way_accuracy(p: Predictions, recipe: str = 'none') -> Ratio | None:
  """Returns the mean over the groups of the share of clips whose class ranks before its reversal.

  Only the two classes of a clip's pair are compared, whatever else is in the vocabulary. Clips
  count that have both attributes and whose reversed class is in the vocabulary. A clip whose logits
  are not finite is wrong.

  Returns:
    The figure, with a chance of 0.5; None if no clip has the attributes.
  """
  labels = {name: label for label, name in enumerate(p.classes)}
  opposite = np.array([
    labels.get(attributes.get(_PAIR, ''), -1) if _GROUP in attributes else -1
    for attributes in p.attributes
  ])  # fmt: skip
  if (opposite < 0).all():
    return None
  right = label_ranks(p, recipe) < class_ranks(p.logits[recipe], np.maximum(opposite, 0))
  of_clips = mean(right, p.counted(recipe) & (opposite >= 0), chance=0.5)
  groups = np.unique(_groups(p), return_inverse=True)[1].reshape(-1)
  return Ratio(of_clips.numerator, of_clips.denominator, None, groups, of_clips.chance)


def two_way_accuracy_by_group(p: Predictions, recipe: str = 'none') -> dict[str, Ratio]:
  """Returns the share of clips of each group whose class ranks before its reversal."""
  accuracy = two_way_accuracy(p, recipe)
  if accuracy is None:
    return {}
  groups = _groups(p)
  return {
    name: accuracy.restrict(groups == name) for name in np.unique(groups[accuracy.mask]).tolist()
  }


def _groups(p: Predictions) -> np.ndarray:
  """Returns str[N], the group of each clip; '' without one."""
  return np.array([attributes.get(_GROUP, '') for attributes in p.attributes])
