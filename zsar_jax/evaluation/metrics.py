"""Zero-shot accuracy from the logits of each clip, over all clips or by stratum."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.evaluation.ratio import Ratio, mean

# The edges of the coverage bins, as shares of the frame.
COVERAGE_EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


def class_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The rank of a class among all classes, 0 for the largest logit.

  Of equal logits the lower class index comes first, as in an argmax.

  Args:
    logits: f32[N, C].
    labels: i32[N], the class of each clip whose rank is returned.

  Returns:
    i64[N], C where the logits are not all finite, so that these clips count as wrong.
  """
  label_logits = np.take_along_axis(logits, labels[:, None], axis=1)  # [N, 1]
  lower_index = np.arange(logits.shape[1])[None, :] < labels[:, None]
  rank = ((logits > label_logits) | ((logits == label_logits) & lower_index)).sum(axis=1)
  return np.where(np.isfinite(logits).all(axis=1), rank, logits.shape[1])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
  """Returns top1, top5 and mean_class in [0, 1], and the count of clips.

  mean_class is the mean of the per-class top-1, over the classes that have clips. With five classes
  or fewer, top5 is the share of clips with finite logits.

  Args:
    logits: f32[N, C], N at least 1.
    labels: i32[N].
  """
  rank = class_ranks(logits, labels)
  classes = logits.shape[1]
  count = np.bincount(labels, minlength=classes)
  correct = np.bincount(labels, weights=rank == 0, minlength=classes)
  present = count > 0
  return {
    'top1': float((rank == 0).mean()),
    'top5': float((rank < min(5, classes)).mean()),
    'mean_class': float((correct[present] / count[present]).mean()),
    'count': int(len(labels)),
  }


def label_ranks(p: Predictions, recipe: str) -> np.ndarray:
  """i64[N]: the rank of each clip's own class under a recipe, see `class_ranks`."""
  return class_ranks(p.logits[recipe], p.labels)


def is_correct(p: Predictions, recipe: str) -> np.ndarray:
  """Returns bool[N], whether the class of each clip is predicted."""
  return label_ranks(p, recipe) == 0


def top_k(p: Predictions, recipe: str, k: int) -> Ratio:
  """The share of clips whose true class is among the first `k`, as in `accuracy`."""
  k = min(k, len(p.classes))
  return mean(label_ranks(p, recipe) < k, p.counted(recipe), chance=k / len(p.classes))


def top_1(p: Predictions, recipe: str) -> Ratio:
  """The share of clips whose true class is predicted.

  With swapped backgrounds this is HAT's SHAcc; with foregrounds over stripes, moving and still, it
  is the accuracy on SCUBA and SCUFO (StillMix: Li et al., ICCV 2023).
  """
  return top_k(p, recipe, 1)


def mean_class(p: Predictions, recipe: str) -> Ratio:
  """The mean of the per-class top-1."""
  return dataclasses.replace(top_1(p, recipe), groups=p.labels)


def accuracy_ratio(p: Predictions, recipe: str, reference: str = 'none') -> Ratio:
  """Returns top-1 under one recipe divided by top-1 under another: HAT's BOR and HOR, as fractions.

  The numerator of BOR is the accuracy on background-only clips, that of HOR the accuracy on
  human-only clips; the denominator of both is the accuracy on the original clips. Both accuracies
  are over the clips that count under both recipes.
  """
  counted = p.counted(recipe) & p.counted(reference)
  numerator, denominator = (is_correct(p, text) & counted for text in (recipe, reference))
  # The expected numerator of a model that guesses under `recipe`.
  chance = counted / len(p.classes)
  return Ratio(numerator.astype(np.float64), denominator.astype(np.float64), counted, chance=chance)


def top_1_by_attribute(p: Predictions, name: str, recipe: str = 'none') -> dict[str, Ratio]:
  """Top-1 of the clips with each value of an attribute, such as 'scene' of Mimetics.

  Clips without the attribute are left out; {} if no clip has it.
  """
  top1 = top_1(p, recipe)
  of_clips = [attributes.get(name) for attributes in p.attributes]
  values = sorted({value for value in of_clips if value is not None})
  return {
    value: top1.restrict(np.array([of_clip == value for of_clip in of_clips])) for value in values
  }


def top_1_by_coverage(
  p: Predictions,
  region: str,
  recipe: str = 'none',
  edges: Sequence[float] = COVERAGE_EDGES,
) -> dict[tuple[float, float], Ratio]:
  """Top-1 by the share of the frame that a region covers, as HAT reports SHAcc.

  Args:
    p: the predictions.
    region: one of `p.regions`.
    recipe: one of `p.recipes`.
    edges: shares of the frame, increasing.

  Returns:
    {(low, high): ratio} for low <= share < high; the last bin includes share = high. Clips of
    unknown coverage are in no bin, and bins without clips are left out.
  """
  top1 = top_1(p, recipe)
  share = p.coverage[:, p.regions.index(region)].astype(np.float64)
  # Means of shares in f32 may leave [0, 1] by a rounding error.
  share = np.clip(share, 0, 1)
  bins = {}
  for low, high in zip(edges[:-1], edges[1:], strict=True):
    inside = (share >= low) & ((share < high) | ((share == high) & (high == edges[-1])))
    ratio = top1.restrict(inside)
    if ratio.counted_clips.any():
      bins[low, high] = ratio
  return bins


def saliency(p: Predictions) -> tuple[dict[str, Ratio], dict[str, Ratio]]:
  """The mean shares of the gradient and of the pixels on person, object and background.

  Both are means over the clips for which both are known.

  Returns:
    gradient: {part: ratio}; {} if there is no such clip.
    area: the same for the pixels.
  """
  both = (p.saliency, p.saliency_area)
  counted = np.all([np.isfinite(shares).all(axis=1) for shares in both], axis=0)
  if not counted.any():
    return {}, {}
  gradient, area = (
    {part: mean(shares[:, n], counted) for n, part in enumerate(PARTS)} for shares in both
  )
  return gradient, area
