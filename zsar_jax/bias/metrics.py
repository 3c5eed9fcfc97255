"""Zero-shot accuracy from the logits of each clip."""

import numpy as np


def ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The place of the true class among all classes, 0 for the first.

  Of equal logits the lower class index comes first, as in an argmax; a clip whose logits are
  not all finite counts as wrong.

  Args:
    logits: f32[N, C].
    labels: i32[N].

  Returns:
    i64[N], C where the logits are not finite.
  """
  true = np.take_along_axis(logits, labels[:, None], axis=1)  # [N, 1]
  before = np.arange(logits.shape[1])[None, :] < labels[:, None]
  rank = ((logits > true) | ((logits == true) & before)).sum(axis=1)
  return np.where(np.isfinite(logits).all(axis=1), rank, logits.shape[1])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
  """top1, top5 and mean_class in [0, 1], and the count of clips.

  mean_class is the mean of the classes' own top-1, over the classes that have clips. With
  five classes or fewer, top5 is the share of clips with finite logits.

  Args:
    logits: f32[N, C], N at least 1.
    labels: i32[N].
  """
  rank = ranks(logits, labels)
  classes = logits.shape[1]
  count = np.bincount(labels, minlength=classes)
  right = np.bincount(labels, weights=rank == 0, minlength=classes)
  present = count > 0
  return {
    'top1': float((rank == 0).mean()),
    'top5': float((rank < min(5, classes)).mean()),
    'mean_class': float((right[present] / count[present]).mean()),
    'count': int(len(labels)),
  }
