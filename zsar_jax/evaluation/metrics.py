"""Zero-shot accuracy, and how far it is due to the scene: figures from the logits of each clip.

Every figure of a study is a ratio of two sums over clips, and is kept as the summands: those are
what `bias.statistics` draws its samples from. No figure is averaged over batches.

HAT is Chung, Wu and Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video
Dataset Augmentation" (NeurIPS 2022, Datasets and Benchmarks).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.recipes import language

# The recipes with a part in the figures of `bias_metrics`; the first of several that is there.
_HUMAN_ONLY = ('background=mean,object=mean', 'background=mean')
_BACKGROUND_ONLY = ('person=mean,object=mean', 'person=mean')
_SWAP = ('background=swap',)
_SCUBA = ('background=stripes',)
_SCUFO = ('background=stripes,freeze',)
_COLOR = ('background=normal',)
_OTHER_COLOR = ('background=normal/other',)

# Shares of the frame between which clips are grouped.
COVERAGE_EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


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


@dataclasses.dataclass(frozen=True, eq=False)
class Ratio:
  """A figure as the ratio of two sums over clips, or as a mean of such ratios over groups of clips.

  Attributes:
    numerator: f64[N], or f64[S, N] for S seeds, evaluated on the same clips.
    denominator: as `numerator`, nowhere below 0; both are 0 for a clip that has no say.
    counted: bool, as `numerator`: which clips have a say; by default those with a denominator.
    groups: i64[N], the group of each clip: the figure is the mean of the groups' ratios, over those
      whose ratio can be formed. None for one group.
    chance: as `numerator`: its expected value for a model that guesses evenly among all classes.
      None for a figure without a chance level.
  """

  numerator: np.ndarray
  denominator: np.ndarray
  counted: np.ndarray | None = None
  groups: np.ndarray | None = None
  chance: np.ndarray | None = None

  @property
  def parts(self) -> list[np.ndarray]:
    """Of each group the positions of its clips, i64[n]."""
    if self.groups is None:
      return [np.arange(self.numerator.shape[-1])]
    order = np.argsort(self.groups, kind='stable')
    return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1)

  @property
  def per_seed(self) -> np.ndarray:
    """f64[S]: the figure of each seed; NaN where no denominator is above 0."""
    numerator, denominator = map(np.atleast_2d, (self.numerator, self.denominator))
    return mean_known(
      [divide(numerator[:, part].sum(1), denominator[:, part].sum(1)) for part in self.parts]
    )

  @property
  def value(self) -> float:
    """The mean over the seeds; NaN where the ratio of one of them cannot be formed."""
    return float(self.per_seed.mean())

  @property
  def has_say(self) -> np.ndarray:
    """bool, as `numerator`: which clips have a say."""
    return self.denominator > 0 if self.counted is None else self.counted

  @property
  def clips(self) -> np.ndarray:
    """bool[N]: which clips have a say, for any of the seeds."""
    return np.atleast_2d(self.has_say).any(axis=0)

  @property
  def chance_level(self) -> float | None:
    """The value of a model that guesses evenly among all classes; None where there is none."""
    if self.chance is None:
      return None
    level = dataclasses.replace(self, numerator=self.chance).value
    return level if math.isfinite(level) else None

  def over(self, clips: np.ndarray) -> 'Ratio':
    """The same figure of some of the clips: bool[N], or bool[S, N] for each seed its own."""
    return dataclasses.replace(
      self,
      numerator=self.numerator * clips,
      denominator=self.denominator * clips,
      counted=self.has_say & clips,
      chance=None if self.chance is None else self.chance * clips,
    )


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """The ratio, NaN wherever the denominator is 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(denominator == 0, np.nan, numerator / denominator)


def mean_known(values: Sequence[np.ndarray]) -> np.ndarray:
  """The mean of arrays of one shape, place by place, over those that are not NaN there."""
  stacked = np.stack(values)
  known = ~np.isnan(stacked)
  return divide(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0))


def stack(ratios: Sequence[Ratio]) -> Ratio:
  """The same figure of several seeds, f64[N] each, as f64[S, N]."""
  chances = [ratio.chance for ratio in ratios if ratio.chance is not None]
  return Ratio(
    np.stack([ratio.numerator for ratio in ratios]),
    np.stack([ratio.denominator for ratio in ratios]),
    np.stack([ratio.has_say for ratio in ratios]),
    ratios[0].groups,
    np.stack(chances) if len(chances) == len(ratios) else None,
  )


def on_common_clips(first: Ratio, second: Ratio) -> tuple[Ratio, Ratio]:
  """Two figures over the clips that have a say in both, seed by seed: these can be compared.

  Raises:
    ValueError: where they are not of as many seeds and clips.
  """
  if first.numerator.shape != second.numerator.shape:
    raise ValueError(f'no pairs: {first.numerator.shape} and {second.numerator.shape}')
  common = first.has_say & second.has_say
  return first.over(common), second.over(common)


def _mean(values: np.ndarray, counted: np.ndarray, chance: float | None = None) -> Ratio:
  """The mean of `values`, [N], over the clips that are `counted`, bool[N].

  Args:
    values: of each clip.
    counted: which of them have a say.
    chance: the expected value of each for a model that guesses.
  """
  weights = counted.astype(np.float64)
  summands = np.where(counted, values, 0).astype(np.float64)
  return Ratio(summands, weights, chance=None if chance is None else chance * weights)


def _ranks(p: Predictions, recipe: str) -> np.ndarray:
  return ranks(p.logits[recipe], p.labels)


def top_k(p: Predictions, recipe: str, k: int) -> Ratio:
  """The share of clips whose true class is among the first `k`, as in `accuracy`."""
  k = min(k, len(p.classes))
  return _mean(_ranks(p, recipe) < k, p.counted(recipe), chance=k / len(p.classes))


def top_1(p: Predictions, recipe: str) -> Ratio:
  """The share of clips whose true class is named.

  Of clips over another clip's background it is HAT's SHAcc; of foregrounds over stripes, moving
  and still, it is the accuracy on SCUBA and SCUFO (StillMix: Li et al., ICCV 2023).
  """
  return top_k(p, recipe, 1)


def mean_class(p: Predictions, recipe: str) -> Ratio:
  """The mean of the classes' own top-1."""
  return dataclasses.replace(top_1(p, recipe), groups=p.labels)


def accuracy_ratio(p: Predictions, recipe: str, reference: str = 'none') -> Ratio:
  """Top-1 under one recipe over top-1 under another: HAT's BOR and HOR, as fractions.

  BOR has background-only clips above, HOR human-only clips, and both have clips as they are
  below. It is the ratio of the whole data set's totals, over the clips that count under both.
  """
  counted = p.counted(recipe) & p.counted(reference)
  above, below = ((_ranks(p, text) == 0) & counted for text in (recipe, reference))
  # What guessing under `recipe` would keep of this model's accuracy under `reference`.
  chance = counted / len(p.classes)
  return Ratio(above.astype(np.float64), below.astype(np.float64), counted, chance=chance)


def accuracy_ratio_gap(p: Predictions, recipe: str, other: str, reference: str = 'none') -> Ratio:
  """The `accuracy_ratio` of one recipe less that of another, such as HOR less BOR.

  Over the clips that count under all three recipes.
  """
  counted = p.counted(recipe) & p.counted(other) & p.counted(reference)
  first, second, below = ((_ranks(p, text) == 0) & counted for text in (recipe, other, reference))
  gap = first.astype(np.float64) - second
  return Ratio(gap, below.astype(np.float64), counted)


def _contested(p: Predictions, recipe: str) -> np.ndarray:
  """bool[N]: the clips whose background is of a class of the vocabulary, and not of their own."""
  return p.counted(recipe) & (p.partner_labels >= 0) & (p.partner_labels != p.labels)


def _background_ranks(p: Predictions, recipe: str) -> np.ndarray:
  """i64[N]: the place of the background's class; of class 0 where there is none."""
  return ranks(p.logits[recipe], np.maximum(p.partner_labels, 0))


def swap_background_error(p: Predictions, recipe: str) -> Ratio:
  """HAT's SBErr: how often the class that the background comes from is named instead.

  Clips whose background is of their own class, or of one outside the vocabulary, have no say.
  """
  named = _background_ranks(p, recipe) == 0
  return _mean(named, _contested(p, recipe), chance=1 / len(p.classes))


def swap_gap(p: Predictions, recipe: str) -> Ratio:
  """How much more often the person's class is named than the background's: SHAcc less SBErr.

  Over the clips of `swap_background_error`, which may be fewer than those of SHAcc.
  """
  gap = (_ranks(p, recipe) == 0).astype(np.float64) - (_background_ranks(p, recipe) == 0)
  return _mean(gap, _contested(p, recipe))


def background_wins(p: Predictions, recipe: str) -> Ratio:
  """How often the background's class comes before the person's (Zhou et al., arXiv 2512.17953).

  Over the clips of `swap_background_error`.
  """
  wins = _background_ranks(p, recipe) < _ranks(p, recipe)
  return _mean(wins, _contested(p, recipe), chance=0.5)


def rank_gap(p: Predictions, recipe: str) -> Ratio:
  """How many places the person's class comes behind the background's (arXiv 2512.17953).

  In places, above 0 where the background comes first, as a mean over the clips of
  `swap_background_error` whose logits are finite: the others have no ranks.
  """
  gap = _ranks(p, recipe) - _background_ranks(p, recipe)
  return _mean(gap, _contested(p, recipe) & np.isfinite(p.logits[recipe]).all(axis=1))


def score_gap(p: Predictions, recipe: str) -> Ratio:
  """The logit of the person's class less that of the background's (arXiv 2512.17953).

  In units of the logits: the natural logarithm of how many times as probable the person's class
  is; above 0 where the person comes first. Over the clips of `rank_gap`.
  """
  logits = p.logits[recipe].astype(np.float64)
  counted = _contested(p, recipe) & np.isfinite(logits).all(axis=1)
  rows = np.arange(len(logits))
  with np.errstate(invalid='ignore'):
    gap = logits[rows, p.labels] - logits[rows, p.partner_labels]
  return _mean(gap, counted)


def contrasted(p: Predictions, scuba: str, scufo: str) -> Ratio:
  """How often a clip is right on SCUBA but wrong on SCUFO, where nothing moves.

  Contrasted accuracy of Li et al. (StillMix, ICCV 2023): SCUBA keeps the foreground over another
  background, and SCUFO repeats one frame of that.
  """
  right = (_ranks(p, scuba) == 0) & (_ranks(p, scufo) != 0)
  chance = (1 - 1 / len(p.classes)) / len(p.classes)  # Of two guesses that are independent.
  return _mean(right, p.counted(scuba) & p.counted(scufo), chance)


def consistency(p: Predictions, recipe: str, other: str) -> Ratio:
  """How often two recipes, such as two draws of colors, have the same class named.

  A clip whose logits are not finite has no class named, and agrees with nothing.
  """
  first, second = p.logits[recipe], p.logits[other]
  finite = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
  same = finite & (first.argmax(axis=1) == second.argmax(axis=1))
  return _mean(same, p.counted(recipe) & p.counted(other), chance=1 / len(p.classes))


def by_class(p: Predictions, recipe: str = 'none') -> dict[str, Ratio]:
  """Top-1 of each class that has clips."""
  whole = top_1(p, recipe)
  parts = {name: whole.over(p.labels == label) for label, name in enumerate(p.classes)}
  return {name: part for name, part in parts.items() if part.clips.any()}


def by_attribute(p: Predictions, name: str, recipe: str = 'none') -> dict[str, Ratio]:
  """Top-1 of the clips with each value of an attribute, such as 'scene' of Mimetics.

  Clips without the attribute have no say; of none, there is nothing in the result.
  """
  whole = top_1(p, recipe)
  found = [words.get(name) for words in p.attributes]
  values = sorted({value for value in found if value is not None})
  return {value: whole.over(np.array([one == value for one in found])) for value in values}


def by_coverage(
  p: Predictions,
  region: str,
  recipe: str = 'none',
  edges: Sequence[float] = COVERAGE_EDGES,
) -> dict[tuple[float, float], Ratio]:
  """Top-1 of the clips of which a region covers so much, as HAT shows SHAcc.

  Args:
    p: the predictions.
    region: one of `p.regions`.
    recipe: one of `p.recipes`.
    edges: shares of the frame, growing.

  Returns:
    {(low, high): ratio}: low <= share < high, of the last bin also share = high. Clips of unknown
    coverage are in none, and bins without a clip are left out.
  """
  whole = top_1(p, recipe)
  share = p.coverage[:, p.regions.index(region)].astype(np.float64)
  # Means of shares in f32 may leave [0, 1] by a rounding error.
  share = np.clip(share, 0, 1)
  bins = {}
  for low, high in zip(edges[:-1], edges[1:], strict=True):
    inside = (share >= low) & ((share < high) | ((share == high) & (high == edges[-1])))
    part = whole.over(inside)
    if part.clips.any():
      bins[low, high] = part
  return bins


def saliency(p: Predictions) -> tuple[dict[str, Ratio], dict[str, Ratio]]:
  """The mean share of the gradient on person, object and background, and that of the pixels.

  Both are over the clips of which both are known.

  Returns:
    Twice {part: ratio}; {} where there is no such clip.
  """
  both = (p.saliency, p.saliency_area)
  counted = np.all([np.isfinite(shares).all(axis=1) for shares in both], axis=0)
  if not counted.any():
    return {}, {}
  gradient, area = (
    {part: _mean(shares[:, n], counted) for n, part in enumerate(PARTS)} for shares in both
  )
  return gradient, area


def swap_recipe(p: Predictions) -> str | None:
  """The recipe of `p` that HAT's SHAcc and SBErr are measured under, as `p` names it."""
  return _first_known(p, _SWAP)


def _first_known(p: Predictions, texts: Sequence[str]) -> str | None:
  known = {language.parse(text): text for text in p.recipes}
  return next((known[one] for one in map(language.parse, texts) if one in known), None)


def bias_metrics(p: Predictions) -> dict[str, Ratio]:
  """All figures of static bias that the recipes of `p` allow, by their names."""
  figures: tuple[tuple[str, Callable[..., Ratio], tuple[tuple[str, ...], ...]], ...] = (
    ('BOR', accuracy_ratio, (_BACKGROUND_ONLY, ('none',))),
    ('HOR', accuracy_ratio, (_HUMAN_ONLY, ('none',))),
    ('HOR-BOR', accuracy_ratio_gap, (_HUMAN_ONLY, _BACKGROUND_ONLY, ('none',))),
    ('SHAcc', top_1, (_SWAP,)),
    ('SBErr', swap_background_error, (_SWAP,)),
    ('SHAcc-SBErr', swap_gap, (_SWAP,)),
    ('background_wins', background_wins, (_SWAP,)),
    ('rank_gap', rank_gap, (_SWAP,)),
    ('score_gap', score_gap, (_SWAP,)),
    ('SCUBA', top_1, (_SCUBA,)),
    ('SCUFO', top_1, (_SCUFO,)),
    ('contrasted', contrasted, (_SCUBA, _SCUFO)),
    ('recolour', consistency, (_COLOR, _OTHER_COLOR)),
  )
  metrics = {}
  for name, function, wanted in figures:
    found = [_first_known(p, texts) for texts in wanted]
    if None not in found:
      metrics[name] = function(p, *found)
  return metrics
