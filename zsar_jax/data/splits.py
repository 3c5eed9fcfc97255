"""Splits class vocabularies into classes to train on and classes for zero-shot evaluation.

Names are matched by `zsar_jax.data.class_names`. The names that functions return are spelled as in
their data set, in NFC.
"""

import collections
import csv
import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from zsar_jax.data.class_names import class_key, match_classes, to_nfc
from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage.paths import as_path

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

# Classes of Kinetics-400 that Kinetics-600 spells differently or narrows (Carreira et al., arXiv
# 1808.01340, section 2), as {Kinetics-600: Kinetics-400}. Without this table, 231 names of
# Kinetics-600 are not in Kinetics-400; with it, 220 remain, as in the field's zero-shot protocol
# (Chen and Huang, ICCV 2021). ViFi-CLIP's three lists of 160 of these 220 contain none of the names
# below.
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

_ORIGINAL_NAMES = {class_key(new): old for new, old in _KINETICS_RENAMED.items()}

# The suffixes of files with class names; a '.json' file has named parts.
_SUFFIXES = ('.json', '.csv', '.txt')


def _original_name(name: str) -> str:
  """Returns the name in Kinetics-400 of a class that Kinetics-600 renamed, else `name`."""
  return _ORIGINAL_NAMES.get(class_key(name), name)


def intersection(classes: Sequence[str], others: Collection[str]) -> tuple[str, ...]:
  """Returns the names in `classes` that are also in `others`, in any spelling.

  Two names are the same class if they match in both directions, see `class_names.match_classes`.
  """
  originals = {name: _original_name(name) for name in classes}
  other_originals = tuple(map(_original_name, others))
  matches = match_classes(originals.values(), other_originals)
  reverse_matches = match_classes(other_originals, tuple(originals.values()))
  return tuple(
    name
    for name, original in originals.items()
    if any(original in reverse_matches[other] for other in matches[original])
  )


def difference(classes: Sequence[str], others: Collection[str]) -> tuple[str, ...]:
  """Returns the names in `classes` that are not in `others`, in any spelling.

  For Kinetics-600 and Kinetics-400 these are 220 classes.
  """
  common = set(intersection(classes, others))
  return tuple(name for name in classes if name not in common)


def base_to_novel(
  classes: Sequence[str], labels: Sequence[int] | np.ndarray
) -> dict[str, tuple[str, ...]]:
  """Returns the field's base-to-novel split: the half with more training clips is base.

  The definition is ViFi-CLIP's (arXiv 2212.03640); base gets one class more if their number is odd.
  Equally frequent classes are ranked by their labels.

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
    part: tuple(classes[label] for label in sorted(members))
    for part, members in (('base', ranked[:half]), ('novel', ranked[half:]))
  }


def random_split(
  classes: Sequence[str], count: int, seed: int = 0, repeats: int = 1
) -> dict[str, tuple[str, ...]]:
  """Draws `count` classes `repeats` times, such as 160 of 220 three times.

  Classes are ranked by a hash of the seed, the repetition and the name: the draw is the same on
  every machine and for any order of the vocabulary.

  Args:
    classes: the vocabulary.
    count: the number of classes to draw.
    seed: another seed draws other classes.
    repeats: the number of times to draw.

  Returns:
    {'1': names, '2': names, ...}, each in the order of `classes`.

  Raises:
    UserError: if there are fewer classes than `count`, or `count` is below 1.
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
  """Returns the classes of Mimetics and the other ones: 50 and 350 of Kinetics-400.

  Args:
    classes: the vocabulary, in label order.

  Returns:
    {'mimetics': names, 'without_mimetics': names}, each in label order; {} if the vocabulary
    does not have all 50.
  """
  matches = match_classes(MIMETICS_CLASSES, classes)
  if any(len(names) != 1 for names in matches.values()):
    return {}
  mimetics = {name for names in matches.values() for name in names}
  return {
    'mimetics': tuple(name for name in classes if name in mimetics),
    'without_mimetics': tuple(name for name in classes if name not in mimetics),
  }


def is_class_file(reference: str) -> bool:
  """Returns whether a text names a file of classes: 'a.txt', 'a.csv' or 'splits/k600.json:1'."""
  return _parse_reference(reference)[0].endswith(_SUFFIXES)


def read_classes(reference: str, field: str, ordered: bool = False) -> tuple[str, ...]:
  """Reads class names from a file.

  Args:
    reference: a text file with one name per line, or with `id name` as in UCF101's classInd.txt,
      where ids count from 0 or 1, in any order; a csv file of `id,name` as ViFi-CLIP and mmaction2
      write it, with or without a header; or a part of a file of `zsar split`, as
      'splits/k600.json:1'.
    field: where `reference` comes from, for errors.
    ordered: whether the ids are labels, which must be 0, 1, 2 and so on, in any order.

  Returns:
    The names in NFC, in the file's order, or if `ordered` in the order of the ids.

  Raises:
    UserError: if the file or the part does not exist or cannot be read, if a name is empty or
      listed twice, or if ids are not labels but must be.
  """
  file, part = _parse_reference(reference)
  path = as_path(file, field)
  try:
    text = path.read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    reason = error_reason(error) if isinstance(error, OSError) else 'it is not UTF-8'
    raise UserError(f'{field}: {path} cannot be read ({reason}); name a file of classes') from None
  source = f'{field}: {path}'
  if path.suffix == '.json':
    listed = _parse_json(text, part, source)
  else:
    listed = _parse_lines(text, source, ordered)
  names = tuple(map(to_nfc, listed))
  if not names:
    raise UserError(f'{field}: {path} names no class; write one on each line')
  for name in names:
    if name.strip() != name or len(name.splitlines()) != 1:
      raise UserError(f'{field}: {path} has {name!r} for a class; write one line of text')
  repeated = [name for name, count in collections.Counter(names).items() if count > 1]
  if repeated:
    raise UserError(f'{field}: {path} names the class {repeated[0]!r} twice; delete one of the two')
  return names


def _parse_reference(reference: str) -> tuple[str, str]:
  """Returns the file and the part of 'FILE.json:PART'; the part of other references is ''."""
  file, colon, part = reference.rpartition(':')
  return (file, part) if colon and file.endswith('.json') else (reference, '')


def _parse_json(text: str, part: str, source: str) -> tuple[str, ...]:
  """Returns the names of a part of a file of `zsar split`."""
  try:
    parts: dict[str, Any] = json.loads(text)['parts']
    part_names = ', '.join(parts.keys())
  except (ValueError, KeyError, TypeError, AttributeError):
    raise UserError(f'{source} has no "parts"; make it with zsar split') from None
  if part not in parts:
    problem = f'no part {part!r}' if part else 'named parts'
    raise UserError(f'{source} has {problem}; write one of {part_names} after its name and a colon')
  names = parts[part]
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise UserError(f'{source}, part {part!r} is no list of names; make it with zsar split')
  return tuple(names)


def _parse_lines(text: str, source: str, ordered: bool) -> tuple[str, ...]:
  """Returns the names of a text file, with or without an id before each name."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  has_header = bool(lines) and bool(re.fullmatch(r'id,\s*name', lines[0], re.IGNORECASE))
  if has_header:
    del lines[0]
  rows = [next(csv.reader([line])) for line in lines]
  has_id = [len(row) > 1 and row[0].strip().isdecimal() for row in rows]
  if not all(has_id):
    if ordered and has_header:
      line = lines[has_id.index(False)]
      raise UserError(
        f'{source}: {line!r} is not an id and a name, such as "0,archery"; correct it'
      )
    rows = [line.split(maxsplit=1) for line in lines]
    ids = [int(row[0]) if len(row) == 2 and row[0].isdecimal() else -1 for row in rows]
    # Names may begin with numbers, but hardly with exactly the numbers of their lines.
    if sorted(ids) not in (list(range(len(ids))), list(range(1, len(ids) + 1))):
      return tuple(lines)
  # An unquoted name with commas was read as several fields.
  names = [','.join(row[1:]).strip() for row in rows]
  if ordered:
    ids = [int(row[0]) for row in rows]
    if sorted(ids) != list(range(len(ids))):
      raise UserError(
        f'{source}: the ids of {len(ids)} classes must be 0 to {len(ids) - 1}, each once;'
        ' correct them'
      )
    names = [name for _, name in sorted(zip(ids, names, strict=True))]
  return tuple(names)
