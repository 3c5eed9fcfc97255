"""Vocabularies of verbs and objects, in which a class is a pair of both.

These are the lists of zero-shot compositional action recognition: Sth-com (C2C: Li et al., ECCV
2024) and EK100-com (RCORE, arXiv 2601.16211). A list has the fields `verb` and `object`, and lies
in a folder with the lists of the other parts:

    train_pairs.json, val_pairs.json, test_pairs.json     the training pairs are the seen ones
    verb_label_dict.json, object_label_dict.json          {"0": name}, optional
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.data.class_names import to_nfc
from zsar_jax.data.label_rows import LabelRow, read_rows, read_text
from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path

# The name of the class split whose clips are also scored for all pairs of a verb and an object.
OPEN_WORLD = 'open'

_PARTS = ('train', 'val', 'test')

# The most pairs of a verb and an object.
_MAX_PAIRS = 10**6

_PLACEHOLDER = re.compile(r'\[[^\[\]]*\]')
# A placeholder of the object itself, and not, as '[part]' or '[number of]', of something about it.
_OBJECT = re.compile(r'\[something[^\[\]]*\]', re.IGNORECASE)


@dataclasses.dataclass(frozen=True, eq=False)
class VerbObjects:
  """What the classes of a vocabulary of pairs consist of.

  The *open world* has all V x O pairs, with the number `verb * O + object`. The *closed world* has
  the pairs that occur in any of the lists.

  Attributes:
    verbs: V names, in which [brackets] stand for objects.
    objects: O names.
    classes: i32[C, 2], the verb and the object of each class.
    counts: i32[V, O], the training clips of each pair; a pair is *seen* if it has any.
  """

  verbs: tuple[str, ...]
  objects: tuple[str, ...]
  classes: np.ndarray
  counts: np.ndarray

  @property
  def seen(self) -> np.ndarray:
    """bool[C]: which classes are pairs of the training."""
    return self.counts[self.classes[:, 0], self.classes[:, 1]] > 0

  @property
  def numbers(self) -> np.ndarray:
    """i32[C]: the number of each class among all V x O pairs."""
    return self.classes[:, 0] * np.int32(len(self.objects)) + self.classes[:, 1]

  def take(self, classes: Sequence[int]) -> 'VerbObjects':
    """Returns the vocabulary of some of the classes; the open world stays the same."""
    return dataclasses.replace(self, classes=self.classes[list(classes)])

  def to_json(self) -> dict[str, Any]:
    """Returns a JSON object that `from_json` reads."""
    return {
      'verbs': list(self.verbs),
      'objects': list(self.objects),
      'classes': self.classes.tolist(),
      'counts': self.counts.tolist(),
    }

  @classmethod
  def from_json(cls, content: dict[str, Any]) -> 'VerbObjects':
    """Reads what `to_json` returned; raises almost any exception if it is no such object."""
    verbs, objects = (tuple(map(str, content[name])) for name in ('verbs', 'objects'))
    classes, counts = (np.array(content[name], np.int32) for name in ('classes', 'counts'))
    return cls(verbs, objects, classes, counts)

  def open_texts(self) -> list[str]:
    """Returns the texts of all V x O pairs, in the order of their numbers."""
    return [pair_text(verb, thing) for verb in self.verbs for thing in self.objects]


def pair_text(verb: str, thing: str) -> str:
  """Returns a verb with an object: 'Opening [something]' and 'book' become 'Opening book'.

  The object replaces the first placeholder that begins with 'something', or else the last one;
  other placeholders stay. If the verb has none, the object follows it: 'open' becomes 'open book'.
  """
  matches = list(_OBJECT.finditer(verb)) or list(_PLACEHOLDER.finditer(verb))[-1:]
  if not matches:
    return f'{verb} {thing}'
  return f'{verb[: matches[0].start()]}{thing}{verb[matches[0].end() :]}'


def read_verb_objects(
  reference: str, rows: Sequence[LabelRow], field: str
) -> tuple[VerbObjects, list[tuple[int, int]]]:
  """Reads the vocabulary of a list of pairs, and the pair of each of its rows.

  Args:
    reference: the file of the list.
    rows: its rows.
    field: where `reference` comes from, for errors.

  Returns:
    The vocabulary, whose classes are the closed world ordered by verb and object, and the (verb,
    object) of each row.

  Raises:
    UserError: if there is no list of training pairs, or a verb or an object is not in its file.
  """
  path = as_path(reference, field)
  lists = {path.name: rows}
  for part in _PARTS:
    name = f'{part}_pairs{path.suffix}'
    if name not in lists and (path.parent / name).exists():
      lists[name] = read_rows(str(path.parent / name), field)
  training = f'train_pairs{path.suffix}'
  if training not in lists:
    raise UserError(
      f'{field}: {path.parent} has no {training}, so it is unknown which pairs were seen in'
      ' training; put it beside the list'
    )
  columns = [
    _number(path.parent, column, [row for listed in lists.values() for row in listed], field)
    for column in ('verb', 'object')
  ]
  verbs, objects = (names for names, _ in columns)
  if len(verbs) * len(objects) > _MAX_PAIRS:
    raise UserError(
      f'{field}: {path} has {len(verbs)} verbs and {len(objects)} objects, and more than'
      f' {_MAX_PAIRS} pairs of them; name a list with fewer'
    )
  pairs = list(zip(*(numbers for _, numbers in columns), strict=True))
  pairs_of, first = {}, 0
  for name, listed in lists.items():
    pairs_of[name] = pairs[first : first + len(listed)]
    first += len(listed)
  counts = np.zeros((len(verbs), len(objects)), np.int32)
  np.add.at(counts, tuple(np.array(pairs_of[training]).T), 1)
  classes = np.array(sorted(set(pairs)), np.int32)
  return VerbObjects(verbs, objects, classes, counts), pairs_of[path.name]


def _number(
  folder: pathlib.Path, column: str, rows: Sequence[LabelRow], field: str
) -> tuple[tuple[str, ...], list[int]]:
  """Returns the names that occur in a column, and for each row the number of its name."""
  texts = [row.text(column) for row in rows]
  path = folder / f'{column}_label_dict.json'
  names = _read_names(path, field) if path.exists() else tuple(sorted(set(texts)))
  number_of = {name: number for number, name in enumerate(names)}
  for row, text in zip(rows, texts, strict=True):
    if text not in number_of:
      raise UserError(
        f'{row.where}: the {column} {text!r} is not in {path.name} beside it; correct one of them'
      )
  return names, [number_of[text] for text in texts]


def _read_names(path: pathlib.Path, field: str) -> tuple[str, ...]:
  """Reads {"0": name, "1": name, ...}."""
  text = read_text(path, f'{field}: {path}')
  try:
    content = json.loads(text)
    names = {int(number): to_nfc(name) for number, name in content.items()}
  except (ValueError, RecursionError, AttributeError, TypeError):
    raise UserError(
      f'{field}: {path} is not of the form {{"0": name, "1": name}}; copy it again, or delete it'
    ) from None
  ordered = tuple(names.get(number, '') for number in range(len(names)))
  if not all(ordered) or len(set(ordered)) < len(content):
    raise UserError(
      f'{field}: {path} must number different names from 0 on; copy it again, or delete it'
    )
  return ordered
