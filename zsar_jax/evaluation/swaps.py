"""Whose background a clip gets where an evaluation swaps them, as in HAT's action swap.

HAT is Chung, Wu and Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video
Dataset Augmentation" (NeurIPS 2022, Datasets and Benchmarks). Its own pairs can be read from its
files actionswap_{rand,close,far,same}_{1,2,3}.pickle; for any other data set pairs are drawn.

A pickle is a program, and these files come from strangers. No unpickler runs them: see
`instructions`.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.data.class_names import match_classes, to_nfc
from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.paths import local_path
from zsar_jax.runtime.progress import log
from zsar_jax.weights.formats.pickle_interpreter import Interpreter

# HAT takes clips of which people cover as much: less shows nobody, and more no background.
LEAST_COVERAGE = 0.05
MOST_COVERAGE = 0.5

# HAT's files of 7,860 pairs are about 1 MB.
_MOST_BYTES = 64 * 2**20


def in_dataset(
  ids: Sequence[str], labels: np.ndarray, coverage_person: np.ndarray, kind: str, seed: int
) -> np.ndarray:
  """Draws pairs of a data set's clips.

  Only clips with a person coverage of `LEAST_COVERAGE` to `MOST_COVERAGE` take part. No clip is
  the background of two others, unless more than half of them are of one class: then those of the
  other classes serve it in turn. The pairs follow from the seed and the ids, not from the order
  of the clips.

  Args:
    ids: of the clips, N, each once.
    labels: i32[N].
    coverage_person: f32[N], NaN where nobody knows.
    kind: 'rand' for a partner of another class, 'same' for another clip of the same class.
    seed: another one draws other pairs.

  Returns:
    i32[N], the position of the clip whose background each gets, or -1 for nobody's.
  """
  coverage = np.asarray(coverage_person)
  takes_part = np.flatnonzero((coverage >= LEAST_COVERAGE) & (coverage <= MOST_COVERAGE))
  partners = np.full(len(ids), -1, np.int32)

  def drawn(part: str) -> np.ndarray:
    def rank(n: int) -> str:
      return hashlib.sha256(f'{seed}/{part}/{ids[n]}'.encode(errors='surrogatepass')).hexdigest()

    return np.array(sorted(takes_part.tolist(), key=rank), np.int64)

  if kind == 'same':
    order = drawn('same')
    for label in np.unique(labels[order]):
      clips = order[labels[order] == label]
      if len(clips) > 1:
        partners[clips] = np.roll(clips, -1)
  else:
    foregrounds = drawn('foreground')
    backgrounds = _of_another_class(labels, foregrounds, drawn('background'))
    partners[foregrounds] = backgrounds
  return partners


def _of_another_class(
  labels: np.ndarray, foregrounds: np.ndarray, backgrounds: np.ndarray
) -> np.ndarray:
  """Exchanges backgrounds until each is of another class than its foreground.

  Args:
    labels: i32[N].
    foregrounds: i64[M], positions of clips.
    backgrounds: i64[M], the same positions in another order.

  Returns:
    i64[M], the background of each foreground; -1 where all clips are of one class.
  """
  backgrounds = backgrounds.copy()
  own = labels[foregrounds]
  there = labels[backgrounds]
  left = []
  for n in np.flatnonzero(own == there):
    label = own[n]
    if there[n] != label:
      continue  # An earlier exchange has settled it.
    # After an exchange neither pair is of one class. If no class has more than half of the clips,
    # there is always such a pair: too few backgrounds are of this class to fill all the others.
    able = (own != label) & (there != label)
    if able.any():
      other = (n + int(np.roll(able, -n).argmax())) % len(able)
      for exchanged in (backgrounds, there):
        exchanged[[n, other]] = exchanged[[other, n]]
    else:
      left.append(n)
  if left:
    others = backgrounds[there != own[left[0]]]
    backgrounds[left] = np.resize(others, len(left)) if len(others) else -1
  return backgrounds


@dataclasses.dataclass(frozen=True)
class HatPairs:
  """What became of the pairs of one of HAT's files.

  Attributes:
    pairs: how many the file has.
    used: how many clips have a partner now.
    unknown: pairs of which the clip is not in the data set, or is there for a second time.
    partner_unknown: pairs of which only the partner is not in it.
    own: pairs of a clip with itself, of which HAT's `same` has two.
  """

  pairs: int
  used: int
  unknown: int
  partner_unknown: int
  own: int

  def __str__(self) -> str:
    return (
      f'{self.used} of {self.pairs} pairs used; {self.unknown} of clips and'
      f' {self.partner_unknown} of partners that are not in the data set, {self.own} of a clip with'
      ' itself'
    )


def read_hat(
  path: str | os.PathLike[str], ids: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, HatPairs]:
  """Reads one of HAT's files of pairs, or a .json of the same form.

  They are {'class/clip': ['class/clip', its frames, its class's place in HAT's list]}. A clip is
  found by the whole name, or by what follows the last '/', with or without an extension.

  Args:
    path: the file.
    ids: of the data set's clips, N.
    classes: the vocabulary; pairs of clips of other classes do not count, in any spelling.

  Returns:
    partners: i32[N], the position of the clip whose background each gets, or -1.
    counts: what became of the pairs.

  Raises:
    UserError: the file is none of these, or none of its clips is in the data set.
  """
  table = _read_table(pathlib.Path(path))
  places = _places(ids)
  clips = [name for clip, entry in table.items() for name in (clip, entry[0])]
  meant = match_classes((name.split('/')[-2] for name in clips if '/' in name), classes)

  def find(name: str) -> int:
    folder, _, clip = name.rpartition('/')
    if folder and not meant[folder.rpartition('/')[2]]:
      return -1
    candidates = (name, os.path.splitext(name)[0], clip, os.path.splitext(clip)[0])
    return next((places[to_nfc(one)] for one in candidates if to_nfc(one) in places), -1)

  partners = np.full(len(ids), -1, np.int32)
  met: set[int] = set()
  unknown = partner_unknown = own = 0
  for name, entry in table.items():
    clip, partner = find(name), find(entry[0])
    if clip < 0 or clip in met:
      unknown += 1
      continue
    met.add(clip)
    if partner < 0:
      partner_unknown += 1
    elif partner == clip:
      own += 1
    else:
      partners[clip] = partner
  if not met:
    example = f', such as {next(iter(table))[:100]!r}' if table else ''
    raise UserError(
      f'{path}: none of its {len(table)} clips{example}, is in the data set, where they are called'
      f' as {ids[0]!r}; take the pairs of this data set'
    )
  used = int((partners >= 0).sum())
  return partners, HatPairs(len(table), used, unknown, partner_unknown, own)


def _places(ids: Sequence[str]) -> dict[str, int]:
  """The position of each id, and of what follows its last '/' where that is no other's."""
  short: dict[str, int] = {}
  for n, name in enumerate(map(to_nfc, ids)):
    last = name.rpartition('/')[2]
    short[last] = -1 if last in short else n
  known = {name: n for name, n in short.items() if n >= 0}
  return known | {to_nfc(name): n for n, name in enumerate(ids)}


def open_pairs(
  text: str,
  ids: Sequence[str],
  labels: np.ndarray,
  classes: Sequence[str],
  coverage_person: np.ndarray,
  field: str,
) -> np.ndarray:
  """The pairs that a config asks for.

  Args:
    text: 'rand:SEED' or 'same:SEED' to draw them by `in_dataset`, or a file for `read_hat`.
    ids: of the clips, N.
    labels: i32[N].
    classes: the vocabulary.
    coverage_person: f32[N].
    field: where `text` comes from, for errors.

  Returns:
    i32[N], the position of the clip whose background each gets, or -1.

  Raises:
    UserError: `text` is none of these, or the file cannot be used.
  """
  if match := re.fullmatch('(rand|same):([0-9]{1,18})', text):
    return in_dataset(ids, labels, coverage_person, match[1], int(match[2]))
  text = local_path(text, field)
  if '\0' in text or not pathlib.Path(text).is_file():
    raise UserError(
      f"{field}: {text!r} is neither 'rand:SEED' nor 'same:SEED', with a number for SEED, nor a"
      ' file of pairs; write one of them'
    )
  try:
    partners, counts = read_hat(text, ids, classes)
  except UserError as error:
    raise UserError(f'{field}: {error}') from None
  log(f'{field}: {text}: {counts}')
  return partners


def _read_table(path: pathlib.Path) -> dict[str, Sequence[Any]]:
  """{clip: [clip, int, int]}, of a pickle or of JSON."""
  try:
    with path.open('rb') as file:
      data = file.read(_MOST_BYTES + 1)
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror}); name a file of pairs') from None
  if len(data) > _MOST_BYTES:
    raise UserError(
      f'{path}: more than {_MOST_BYTES >> 20} MiB, which no file of pairs has; name another'
    )
  try:
    table = json.loads(data) if path.suffix == '.json' else Interpreter().run(io.BytesIO(data))
  except Exception as error:  # Of damaged files, pickletools raises almost anything.
    raise UserError(
      f'{path}: damaged, or no file of pairs ({first_line(error)}); fetch it again'
    ) from None
  if type(table) is not dict:
    raise UserError(f'{path}: holds no dictionary of pairs; name one of HAT')
  for name, entry in table.items():
    right = type(entry) in (list, tuple) and len(entry) == 3
    right = right and [type(value) for value in entry] == [str, int, int]
    if not right or not name or not entry[0] or min(entry[1:]) < 0:
      raise UserError(
        f"{path}: {name[:100]!r} must have ['class/clip', frames, class number]; fetch it again"
      )
  return table
