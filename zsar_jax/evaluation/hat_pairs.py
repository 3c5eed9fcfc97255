"""Reads HAT's files of clip pairs, actionswap_{rand,close,far,same}_{1,2,3}.pickle.

HAT is Chung, Wu and Russakovsky, "Enabling Detailed Action Recognition Evaluation Through Video
Dataset Augmentation" (NeurIPS 2022, Datasets and Benchmarks).

A pickle is a program, and these files come from untrusted sources. Python's unpickler does not run
them; `weights.formats.instructions` reads them.
"""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from zsar_jax.data.class_names import match_classes, to_nfc
from zsar_jax.errors import UserError, error_reason, first_line
from zsar_jax.weights.formats.pickle_interpreter import Interpreter

# HAT's files of 7,860 pairs take about 1 MB.
_MAX_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class HatPairCounts:
  """The numbers of used and unused pairs of a file, by reason.

  Attributes:
    pairs: all pairs of the file.
    used: clips that get a partner.
    unknown: pairs whose clip is not in the data set, or occurs a second time.
    partner_unknown: pairs whose clip is in the data set, and whose partner is not.
    own: pairs of a clip with itself; HAT's `same` has two.
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


def read_hat_pairs(
  path: pathlib.Path, ids: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, HatPairCounts]:
  """Reads one of HAT's files of pairs, or a .json file of the same form.

  The form is {'class/clip': ['class/clip', number of frames, index of the class in HAT's list]}. A
  name refers to the clip whose id is the full name or the part after the last '/', each with or
  without an extension.

  Args:
    path: the file.
    ids: the data set's clips, N.
    classes: the vocabulary. Pairs with a clip of another class are left out; class names are
      compared in any spelling.

  Returns:
    partners: i32[N], the position of the clip whose background each clip gets, or -1.
    counts: how many of the pairs are used.

  Raises:
    UserError: the file has another form, or none of its clips is in the data set.
  """
  table = _read_table(path)
  position_of = _clip_finder(table, ids, classes)
  partners = np.full(len(ids), -1, np.int32)
  paired: set[int] = set()
  unknown = partner_unknown = own = 0
  for name, entry in table.items():
    clip, partner = position_of(name), position_of(entry[0])
    if clip < 0 or clip in paired:
      unknown += 1
      continue
    paired.add(clip)
    if partner < 0:
      partner_unknown += 1
    elif partner == clip:
      own += 1
    else:
      partners[clip] = partner
  if not paired:
    example = f', such as {next(iter(table))[:100]!r}' if table else ''
    raise UserError(
      f'{path}: none of its {len(table)} clips{example}, is in the data set, whose clips have names'
      f' such as {ids[0]!r}; name the pairs of this data set'
    )
  used = int((partners >= 0).sum())
  return partners, HatPairCounts(len(table), used, unknown, partner_unknown, own)


def _clip_finder(
  table: dict[str, Sequence[Any]], ids: Sequence[str], classes: Sequence[str]
) -> Callable[[str], int]:
  """Returns a function from a name of the table to the position of its clip, or -1."""
  positions = _positions_by_name(ids)
  names = [name for clip, entry in table.items() for name in (clip, entry[0])]
  matches = match_classes(_class_folders(names), classes)

  def find(name: str) -> int:
    folder, _, clip = name.rpartition('/')
    if folder and not matches[folder.rpartition('/')[2]]:
      return -1
    spellings = (name, os.path.splitext(name)[0], clip, os.path.splitext(clip)[0])
    return next((positions[text] for text in map(to_nfc, spellings) if text in positions), -1)

  return find


def _class_folders(names: Iterable[str]) -> list[str]:
  return [name.split('/')[-2] for name in names if '/' in name]


def _positions_by_name(ids: Sequence[str]) -> dict[str, int]:
  """The position of each id, and of the part after its last '/' if no other id ends with it."""
  by_last_part: dict[str, int] = {}
  for position, name in enumerate(map(to_nfc, ids)):
    last_part = name.rpartition('/')[2]
    by_last_part[last_part] = -1 if last_part in by_last_part else position
  unique = {name: position for name, position in by_last_part.items() if position >= 0}
  return unique | {to_nfc(name): position for position, name in enumerate(ids)}


def _read_table(path: pathlib.Path) -> dict[str, Sequence[Any]]:
  """Reads {clip: [clip, int, int]} from a pickle or from JSON."""
  try:
    with path.open('rb') as file:
      data = file.read(_MAX_BYTES + 1)
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error_reason(error)}); name a file of pairs'
    ) from None
  if len(data) > _MAX_BYTES:
    raise UserError(
      f'{path}: more than {_MAX_BYTES >> 20} MiB, which no file of pairs has; name another'
    )
  try:
    table = json.loads(data) if path.suffix == '.json' else Interpreter().run(io.BytesIO(data))
  except Exception as error:  # For damaged files, pickletools raises almost any exception.
    raise UserError(
      f'{path}: damaged, or no file of pairs ({first_line(error)}); download it again'
    ) from None
  if type(table) is not dict:
    raise UserError(f"{path}: holds no dictionary of pairs; name one of HAT's files")
  for name, entry in table.items():
    valid = type(entry) in (list, tuple) and len(entry) == 3
    valid = valid and [type(value) for value in entry] == [str, int, int]
    if not valid or not name or not entry[0] or min(entry[1:]) < 0:
      raise UserError(
        f"{path}: {name[:100]!r} must have ['class/clip', frames, class number]; download the file"
        ' again'
      )
  return table
