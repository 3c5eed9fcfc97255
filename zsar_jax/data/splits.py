"""Class vocabularies: which classes are for training and which are kept for zero-shot evaluation.

Vocabularies are compared as `zsar_jax.data.class_names` says. Names themselves stay as their data
set writes them, in NFC.
"""

import collections
import csv
import hashlib
import json
import pathlib
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from zsar_jax.data.class_names import class_key, match_classes, to_nfc
from zsar_jax.errors import UserError
from zsar_jax.runtime.paths import local_path

# The 50 classes of Mimetics v1.0 (Weinzaepfel and Rogez, arXiv 1912.07249), all of Kinetics-400.
MIMETICS_CLASSES = (
  'archery',
  'bowling',
  'brushing hair',
  'brushing teeth',
  'canoeing or kayaking',
  'catching or throwing baseball',
  'catching or throwing frisbee',
  'clean and jerk',
  'cleaning windows',
  'climbing a rope',
  'climbing ladder',
  'deadlifting',
  'dribbling basketball',
  'drinking',
  'driving car',
  'dunking basketball',
  'eating cake',
  'eating ice cream',
  'flying kite',
  'golf driving',
  'hitting baseball',
  'hurdling',
  'juggling balls',
  'juggling soccer ball',
  'opening bottle',
  'playing accordion',
  'playing basketball',
  'playing bass guitar',
  'playing guitar',
  'playing piano',
  'playing saxophone',
  'playing tennis',
  'playing trumpet',
  'playing violin',
  'playing volleyball',
  'punching person (boxing)',
  'reading book',
  'reading newspaper',
  'shooting basketball',
  'shooting goal (soccer)',
  'skiing (not slalom or crosscountry)',
  'skiing slalom',
  'skipping rope',
  'smoking',
  'surfing water',
  'sweeping floor',
  'sword fighting',
  'tying tie',
  'walking the dog',
  'writing',
)

# Classes of Kinetics-400 that Kinetics-600 has under another name, as it spells or narrows them
# (Carreira et al., arXiv 1808.01340, section 2). Without them 231 names of Kinetics-600 are not
# in Kinetics-400; with them the 220 classes of the field's zero-shot protocol remain (Chen and
# Huang, ICCV 2021), and the three lists of 160 that ViFi-CLIP draws from those hold none of these.
_KINETICS_RENAMED = {
  'changing wheel (not on bike)': 'changing wheel',
  'cooking sausages (not on barbeque)': 'cooking sausages',
  'dyeing hair': 'dying hair',
  'hugging (not baby)': 'hugging',
  'inflating balloons': 'balloon blowing',
  'making the bed': 'making bed',
  'opening bottle (not wine)': 'opening bottle',
  'person collecting garbage': 'garbage collecting',
  'throwing ball (not baseball or American football)': 'throwing ball',
  'tying necktie': 'tying tie',
  'waking up': 'baby waking up',
}

# What ends the name of a file with class names; a '.json' file has named parts.
_SUFFIXES = ('.json', '.csv', '.txt')


_FIRST_NAMES = {class_key(new): old for new, old in _KINETICS_RENAMED.items()}


def _first_name(name: str) -> str:
  """What a class was called in Kinetics-400, if it was renamed since."""
  return _FIRST_NAMES.get(class_key(name), name)


def intersection(classes: Sequence[str], others: Collection[str]) -> tuple[str, ...]:
  """Those of `classes` that `others` has too, whichever way it writes them.

  Two names are the same class if each means the other, see `class_names.match_classes`.
  """
  ours = {name: _first_name(name) for name in classes}
  theirs = tuple(map(_first_name, others))
  meant, meaning = match_classes(ours.values(), theirs), match_classes(theirs, (*ours.values(),))
  return tuple(
    name for name, first in ours.items() if any(first in meaning[other] for other in meant[first])
  )


def difference(classes: Sequence[str], others: Collection[str]) -> tuple[str, ...]:
  """Those of `classes` that `others` does not have, whichever way it writes them.

  The classes of Kinetics-600 that are not of Kinetics-400 are 220.
  """
  common = set(intersection(classes, others))
  return tuple(name for name in classes if name not in common)


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


def random_split(
  classes: Sequence[str], count: int, seed: int = 0, repeats: int = 1
) -> dict[str, tuple[str, ...]]:
  """Draws classes, several times over, such as 160 of 220 three times.

  A class is drawn by a hash of the seed, the repetition and its name: the same classes on every
  machine and in whatever order the vocabulary comes.

  Args:
    classes: the vocabulary.
    count: how many to draw.
    seed: another one draws others.
    repeats: how many times to draw.

  Returns:
    {'1': names, '2': names, ...}, each in the order of `classes`.

  Raises:
    UserError: there are not as many classes.
  """
  if not 1 <= count <= len(classes):
    raise UserError(f'{count} of {len(classes)} classes cannot be drawn; ask for fewer, at least 1')
  parts = {}
  for repeat in map(str, range(1, repeats + 1)):

    def rank(name: str, repeat: str = repeat) -> str:
      return hashlib.sha256(f'{seed}/{repeat}/{class_key(name)}'.encode()).hexdigest()

    drawn = set(sorted(classes, key=rank)[:count])
    parts[repeat] = tuple(name for name in classes if name in drawn)
  return parts


def mimetics_split(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """The classes of Mimetics and the rest: 50 and 350 of Kinetics-400.

  Args:
    classes: the vocabulary, in label order.

  Returns:
    {'mimetics': names, 'without_mimetics': names}, each in label order; {} where the
    vocabulary does not have all 50.
  """
  meant = match_classes(MIMETICS_CLASSES, classes)
  if any(len(names) != 1 for names in meant.values()):
    return {}
  wanted = {name for names in meant.values() for name in names}
  return {
    'mimetics': tuple(name for name in classes if name in wanted),
    'without_mimetics': tuple(name for name in classes if name not in wanted),
  }


def is_class_file(reference: str) -> bool:
  """Whether a text names a file of classes: 'novel.txt', 'labels.csv' or 'splits/k600.json:1'."""
  return _parse(reference)[0].endswith(_SUFFIXES)


def read_classes(reference: str, field: str, ordered: bool = False) -> tuple[str, ...]:
  """Reads class names from a file.

  Args:
    reference: a text file with one name a line, or `id name` as UCF101's classInd.txt has it, with
      ids that count from 0 or 1, in any order; a csv of `id,name` as ViFi-CLIP and mmaction2
      write it, with or without a head; or a part of a file of `zsar split`, as
      'splits/k600.json:1'.
    field: where `reference` comes from, for errors.
    ordered: whether ids are labels: they must be 0, 1, 2 and so on, in any order.

  Returns:
    The names in NFC, in the file's order, or where they are `ordered` in that of the ids.

  Raises:
    UserError: for a file or a part that is not there or not readable, for a name that is empty or
      stands there twice, and for ids that are not labels where they must be.
  """
  file, part = _parse(reference)
  path = pathlib.Path(local_path(file, field))
  try:
    text = path.read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    reason = error.strerror if isinstance(error, OSError) else 'it is not UTF-8'
    raise UserError(f'{field}: {path} cannot be read ({reason}); name a file of classes') from None
  where = f'{field}: {path}'
  listed = _part(text, part, where) if path.suffix == '.json' else _lines(text, where, ordered)
  names = tuple(map(to_nfc, listed))
  if not names:
    raise UserError(f'{field}: {path} names no class; write one on each line')
  for name in names:
    if name.strip() != name or len(name.splitlines()) != 1:
      raise UserError(f'{field}: {path} has {name!r} for a class; write one line of text')
  twice = [name for name, count in collections.Counter(names).items() if count > 1]
  if twice:
    raise UserError(f'{field}: {path} names the class {twice[0]!r} twice; delete one of the two')
  return names


def _parse(reference: str) -> tuple[str, str]:
  """The file and the part of 'FILE.json:PART'; no part of everything else."""
  file, colon, part = reference.rpartition(':')
  return (file, part) if colon and file.endswith('.json') else (reference, '')


def _part(text: str, part: str, where: str) -> tuple[str, ...]:
  """A part of a file of `zsar split`."""
  try:
    parts: dict[str, Any] = json.loads(text)['parts']
    known = ', '.join(parts.keys())
  except (ValueError, KeyError, TypeError, AttributeError):
    raise UserError(f'{where} has no "parts"; make it with zsar split') from None
  if part not in parts:
    asked = f'no part {part!r}' if part else 'named parts'
    raise UserError(f'{where} has {asked}; write one of {known} behind its name and a colon')
  names = parts[part]
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise UserError(f'{where}, part {part!r} is no list of names; make it with zsar split')
  return tuple(names)


def _lines(text: str, where: str, ordered: bool) -> tuple[str, ...]:
  """The names of a text file: one a line, or behind an id on each line."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  head = bool(lines) and bool(re.fullmatch(r'id,\s*name', lines[0], re.IGNORECASE))
  if head:
    del lines[0]
  rows = [next(csv.reader([line])) for line in lines]
  has_id = [len(row) > 1 and row[0].strip().isdecimal() for row in rows]
  if not all(has_id):
    if ordered and head:
      wrong = lines[has_id.index(False)]
      raise UserError(f'{where}: {wrong!r} is no id and name, such as "0,archery"; correct it')
    rows = [line.split(maxsplit=1) for line in lines]
    ids = [int(row[0]) if len(row) == 2 and row[0].isdecimal() else -1 for row in rows]
    # Names may begin with numbers, but hardly with those of their lines.
    if sorted(ids) not in (list(range(len(ids))), list(range(1, len(ids) + 1))):
      return tuple(lines)
  # A name with commas that nobody quoted is several fields.
  names = [','.join(row[1:]).strip() for row in rows]
  if ordered:
    ids = [int(row[0]) for row in rows]
    if sorted(ids) != list(range(len(ids))):
      raise UserError(
        f'{where}: the ids of {len(ids)} classes must be 0 to {len(ids) - 1}, each once;'
        ' correct them'
      )
    names = [name for _, name in sorted(zip(ids, names, strict=True))]
  return tuple(names)
