"""Chooses the clip whose background each clip gets where an evaluation swaps backgrounds.

The swap is that of HAT (Chung, Wu and Russakovsky, "Enabling Detailed Action Recognition Evaluation
Through Video Dataset Augmentation", NeurIPS 2022, Datasets and Benchmarks). Pairs are drawn here,
or read from HAT's files (`hat_pairs`).
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from zsar_jax.data.subset import Subset
from zsar_jax.errors import UserError
from zsar_jax.evaluation.hat_pairs import read_hat_pairs
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.progress import log
from zsar_jax.storage.paths import as_path

# HAT takes clips in which people cover this share of the frame: with less, nobody is visible; with
# more, too little background is left.
MIN_COVERAGE = 0.05
MAX_COVERAGE = 0.5


def choose_partners(subset: Subset, pairs: str, field: str) -> np.ndarray:
  """Chooses the partner of each clip of a subset.

  Args:
    subset: the clips, N.
    pairs: see `load_pairs`.
    field: the config field that `pairs` comes from, for errors.

  Returns:
    i32[N], the position of the clip whose background each clip gets, or -1.

  Raises:
    UserError: as `load_pairs`, or no clip has a partner.
  """
  ids = [subset.clip_id(position) for position in range(len(subset))]
  index = subset.index
  person = index.coverage[:, list(REGION_BITS).index(subset.person_region)]
  partners = load_pairs(pairs, ids, subset.labels, subset.classes, person, field)
  # A file of pairs does not depend on the masks of this data set. The swap needs masks of both
  # clips, and a person in both.
  usable = (index.num_annotated == index.num_frames) & (person > 0)
  paired = (partners >= 0) & usable & usable[partners]
  if dropped := int((partners >= 0).sum() - paired.sum()):
    log(
      f'{field}: {dropped} pairs are left out because one of their clips is not fully annotated or'
      ' shows nobody'
    )
  partners = np.where(paired, partners, -1).astype(np.int32)
  if not (partners >= 0).any():
    raise UserError(
      f'{field}: no clip of {subset.dataset.name} has a partner under {pairs!r}; leave swap out of'
      ' config.eval.recipes, or choose other pairs'
    )
  return partners


def load_pairs(
  pairs: str,
  ids: Sequence[str],
  labels: np.ndarray,
  classes: Sequence[str],
  coverage_person: np.ndarray,
  field: str,
) -> np.ndarray:
  """Draws or reads the pairs that a config names.

  Args:
    pairs: 'rand:SEED' or 'same:SEED' for `draw_pairs`, or a file for `read_hat_pairs`.
    ids: the clips, N.
    labels: i32[N].
    classes: the vocabulary.
    coverage_person: f32[N], see `draw_pairs`.
    field: the config field that `pairs` comes from, for errors.

  Returns:
    i32[N], the position of the clip whose background each clip gets, or -1.

  Raises:
    UserError: `pairs` is none of these, or the file cannot be used.
  """
  if match := re.fullmatch('(rand|same):([0-9]{1,18})', pairs):
    return draw_pairs(ids, labels, coverage_person, match[1], int(match[2]))
  path = as_path(pairs, field)
  if '\0' in pairs or not path.is_file():
    raise UserError(
      f"{field}: {str(path)!r} is neither 'rand:SEED' nor 'same:SEED', with a number for SEED,"
      ' nor a file of pairs; write one of them'
    )
  try:
    partners, counts = read_hat_pairs(path, ids, classes)
  except UserError as error:
    raise UserError(f'{field}: {error}') from None
  log(f'{field}: {path}: {counts}')
  return partners


def draw_pairs(
  ids: Sequence[str], labels: np.ndarray, coverage_person: np.ndarray, kind: str, seed: int
) -> np.ndarray:
  """Draws pairs of a data set's clips.

  Only clips with a person coverage of `MIN_COVERAGE` to `MAX_COVERAGE` take part. No clip is the
  background of two others, unless more than half of the clips have the same class: then the clips
  of the other classes serve as its backgrounds in turn. The pairs depend on the seed and the ids,
  not on the order of the clips.

  Args:
    ids: the clips, N, all different.
    labels: i32[N].
    coverage_person: f32[N], the share of the frame that people cover; NaN if unknown.
    kind: 'rand' for a partner of another class, 'same' for another clip of the same class.
    seed: the seed of the draw.

  Returns:
    i32[N], the position of the clip whose background each clip gets, or -1.
  """
  coverage = np.asarray(coverage_person)
  eligible = np.flatnonzero((coverage >= MIN_COVERAGE) & (coverage <= MAX_COVERAGE))
  partners = np.full(len(ids), -1, np.int32)

  def shuffled(role: str) -> np.ndarray:
    def rank(position: int) -> str:
      text = f'{seed}/{role}/{ids[position]}'
      return hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()

    return np.array(sorted(eligible.tolist(), key=rank), np.int64)

  if kind == 'same':
    order = shuffled('same')
    for label in np.unique(labels[order]):
      clips = order[labels[order] == label]
      if len(clips) > 1:
        partners[clips] = np.roll(clips, -1)
  else:
    foregrounds = shuffled('foreground')
    partners[foregrounds] = _of_another_class(labels, foregrounds, shuffled('background'))
  return partners


def _of_another_class(
  labels: np.ndarray, foregrounds: np.ndarray, backgrounds: np.ndarray
) -> np.ndarray:
  """Exchanges backgrounds until each has another class than its foreground.

  Args:
    labels: i32[N].
    foregrounds: i64[M], positions of clips.
    backgrounds: i64[M], the same positions in another order.

  Returns:
    i64[M], the background of each foreground; -1 if all clips have the same class.
  """
  backgrounds = backgrounds.copy()
  foreground_labels = labels[foregrounds]
  background_labels = labels[backgrounds]
  unsolved = []
  for n in np.flatnonzero(foreground_labels == background_labels):
    label = foreground_labels[n]
    if background_labels[n] != label:
      continue  # An earlier exchange solved this pair.
    # After an exchange with one of these, both pairs are of two classes. If no class has more than
    # half of the clips, there always is one: too few backgrounds have this class to fill all the
    # others.
    exchangeable = (foreground_labels != label) & (background_labels != label)
    if exchangeable.any():
      other = (n + int(np.roll(exchangeable, -n).argmax())) % len(exchangeable)
      for array in (backgrounds, background_labels):
        array[[n, other]] = array[[other, n]]
    else:
      unsolved.append(n)
  if unsolved:
    others = backgrounds[background_labels != foreground_labels[unsolved[0]]]
    backgrounds[unsolved] = np.resize(others, len(unsolved)) if len(others) else -1
  return backgrounds
