"""Which classes are for training and which are kept for zero-shot evaluation."""

from collections.abc import Sequence

import numpy as np


def base_to_novel(classes: Sequence[str], labels: Sequence[int]) -> dict[str, tuple[str, ...]]:
  """The field's base-to-novel split: the classes with more training clips are base.

  The definition is ViFi-CLIP's (arXiv 2212.03640); of an odd number of classes base gets one
  more. Equally frequent classes are ranked by their labels.

  Args:
    classes: the vocabulary, in label order.
    labels: the label of each training clip.

  Returns:
    {'base': names, 'novel': names}, each in label order.
  """
  counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes))
  ranked = np.argsort(-counts, kind='stable')
  half = -(-len(classes) // 2)
  return {
    part: tuple(classes[label] for label in sorted(chosen))
    for part, chosen in (('base', ranked[:half]), ('novel', ranked[half:]))
  }
