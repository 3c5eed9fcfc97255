"""Gives clips of an existing data set the labels of a list, such as those of a benchmark.

`labels` of `config.dataset_ref` names the list. It chooses clips by their ids and gives each a
label, so that one data set of records serves many benchmarks. A list is a JSON list of objects, a
csv file with a header, or lines of an id and a label, with one of these sets of columns:

    id, and one of template, label, name, class      a label; [brackets] stand for objects
    id, verb, object                                 a pair of both, see `verb_objects`
    id, template, chiral_triplet_id, chiral_label    chiral pairs, one clip in a row
    verb_forward, verb_reverse, noun_abstract,       chiral pairs, one pair in a row with the ids of
      triplet_id, id_forward, id_reverse               its clips, separated by ';'

An id may also stand in a column vid, video_id, video or path. If all labels are numbers, `classes`
of the reference names the file of `id,name` that they count in.

Clips get the attributes of their record, and those of the list:

    pair               'seen' or 'unseen', in lists of pairs
    chiral_group       the triplet of a chiral clip, such as an object that is opened and closed
    chiral_pair        the name of the class that its class is to be told from: the same action the
                       other way round, in the same vocabulary
    chiral_direction   'forward' or 'reverse'
    other columns      if they have at most 50 different texts, because a study reports the accuracy
                       for each
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from zsar_jax.data import splits
from zsar_jax.data.dataset import ClipDataset
from zsar_jax.data.label_rows import LabelRow, read_rows
from zsar_jax.data.verb_objects import OPEN_WORLD, VerbObjects, pair_text, read_verb_objects
from zsar_jax.errors import UserError
from zsar_jax.runtime.progress import log

# EK100-com's `id` counts the rows, and its `vid` is the clip.
_ID_COLUMNS = ('vid', 'video_id', 'id', 'video', 'path')
_LABEL_COLUMNS = ('template', 'label', 'name', 'class')
_CHIRAL_CLIPS = ('chiral_triplet_id', 'chiral_label')
_CHIRAL_PAIRS = ('verb_forward', 'verb_reverse', 'triplet_id', 'id_forward', 'id_reverse')
_DIRECTIONS = {'1': 'forward', '0': 'reverse'}

_VIDEO_SUFFIXES = ('.mp4', '.webm', '.avi', '.mkv', '.mov', '.m4v')

_MAX_VALUES = 50


@dataclasses.dataclass(frozen=True)
class _LabeledClip:
  """A clip of a list: its position in the file for errors, its id, its label as a text."""

  where: str
  id: str
  text: str
  attributes: dict[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class ClipLabels:
  """A list of labels.

  Attributes:
    source: the field and the file, for messages.
    classes: the vocabulary, in label order.
    class_texts: the text of each class; [brackets] stand for objects.
    class_splits: named parts of the vocabulary.
    clips: for each id of the list the label and the attributes.
    pairs: the verbs and objects of the classes; None in a list of labels.
  """

  source: str
  classes: tuple[str, ...]
  class_texts: tuple[str, ...]
  class_splits: dict[str, tuple[str, ...]]
  clips: dict[str, tuple[int, dict[str, str]]]
  pairs: VerbObjects | None = None


def read_labels(reference: str, names: str | Sequence[str], field: str) -> ClipLabels:
  """Reads a list.

  Args:
    reference: the file.
    names: `classes` of the same reference to a data set. If the labels of the list are numbers, it
      names the file of the classes that they count.
    field: where `reference` comes from, for errors.

  Raises:
    UserError: if the file cannot be read, a row is malformed, a label is not in the vocabulary, or
      a clip has two labels.
  """
  rows = read_rows(reference, field)
  source = f'{field}: {reference}'
  columns = rows[0].fields
  if all(name in columns for name in ('verb', 'object')):
    return _pair_labels(source, reference, rows, field)
  if all(name in columns for name in _CHIRAL_PAIRS):
    clips = _chiral_pairs(rows)
  elif all(name in columns for name in _CHIRAL_CLIPS):
    clips = _chiral_clips(rows)
  else:
    clips = _plain_clips(rows, source)
  if all(clip.text.isdecimal() for clip in clips):
    return _numbered_labels(source, clips, names, field)
  texts: dict[str, str] = {}
  for clip in clips:
    texts.setdefault(_class_name(clip.text), clip.text)
  classes = tuple(sorted(texts))
  labels = {name: label for label, name in enumerate(classes)}
  labeled = _by_id(clips, [labels[_class_name(clip.text)] for clip in clips])
  return ClipLabels(source, classes, tuple(texts[name] for name in classes), {}, labeled)


def relabel(dataset: ClipDataset, labels: ClipLabels) -> ClipDataset:
  """Returns the clips of a data set that a list names, with its labels.

  The clips of the list that the data set lacks are counted in a message.

  Raises:
    UserError: if the data set has none of the clips, or two ids of the list name one clip.
  """
  position_of = _positions_by_name(dataset.index.ids)
  chosen: dict[int, tuple[int, dict[str, str]]] = {}
  missing = []
  for clip_id, labeled in labels.clips.items():
    position = next(
      (position_of[name] for name in _possible_names(clip_id) if name in position_of), -1
    )
    if position < 0:
      missing.append(clip_id)
    elif position in chosen:
      raise UserError(
        f'{labels.source}: {clip_id!r} is a second name of the clip'
        f' {dataset.index.ids[position]!r}; delete one of the two rows'
      )
    else:
      chosen[position] = labeled
  where = f'{dataset.name}, split {dataset.split!r}'
  if not chosen:
    raise UserError(
      f'{labels.source}: none of its {len(labels.clips)} clips, such as {missing[0]!r}, is in'
      f' {where}, whose clips are named as {dataset.index.ids[0]!r}; name the data set and the'
      " splits that have them, such as 'train+validation'"
    )
  if missing:
    log(
      f'{labels.source}: {len(missing)} of its {len(labels.clips)} clips, such as {missing[0]!r},'
      f' are not in {where}'
    )
  positions = np.array(sorted(chosen), np.int64)
  index = dataset.index.take(positions)
  attributes = [
    json.dumps(json.loads(text) | chosen[position][1], sort_keys=True)
    for text, position in zip(index.attributes, positions.tolist(), strict=True)
  ]
  relabeled = dataclasses.replace(
    index,
    labels=np.array([chosen[position][0] for position in positions.tolist()], np.int32),
    attributes=attributes,
  )
  return dataset.relabeled(
    positions, relabeled, labels.classes, labels.class_texts, labels.class_splits
  )


def _pair_labels(source: str, reference: str, rows: Sequence[LabelRow], field: str) -> ClipLabels:
  """Returns the labels of a list of verbs and objects."""
  pairs, pairs_of_rows = read_verb_objects(reference, rows, field)
  texts = tuple(
    pair_text(pairs.verbs[verb], pairs.objects[thing]) for verb, thing in pairs.classes.tolist()
  )
  classes = tuple(map(_class_name, texts))
  repeated = [name for name, n in collections.Counter(classes).items() if n > 1]
  if repeated:
    raise UserError(
      f'{source}: two pairs of a verb and an object read {repeated[0]!r}; rename one of them'
    )
  seen = pairs.seen
  labels = {tuple(pair): label for label, pair in enumerate(pairs.classes.tolist())}
  row_labels = [labels[pair] for pair in pairs_of_rows]
  clips = [
    _LabeledClip(
      row.where, _clip_id(row), texts[label], {'pair': 'seen' if seen[label] else 'unseen'}
    )
    for row, label in zip(rows, row_labels, strict=True)
  ]
  class_splits = {
    'closed': classes,
    OPEN_WORLD: classes,
    'seen': tuple(name for name, is_seen in zip(classes, seen, strict=True) if is_seen),
    'unseen': tuple(name for name, is_seen in zip(classes, seen, strict=True) if not is_seen),
  }
  return ClipLabels(source, classes, texts, class_splits, _by_id(clips, row_labels), pairs)


def _numbered_labels(
  source: str, clips: Sequence[_LabeledClip], names: str | Sequence[str], field: str
) -> ClipLabels:
  """Returns the labels of a list whose labels are numbers of the classes in a file."""
  if not isinstance(names, str) or not splits.is_class_file(names):
    raise UserError(
      f'{source}: its labels are numbers, such as {clips[0].text}; name the file of id,name that'
      ' they count in classes of the same reference'
    )
  texts = splits.read_classes(names, field, ordered=True)
  for clip in clips:
    if int(clip.text) >= len(texts):
      raise UserError(
        f'{clip.where}: the label {clip.text} is beyond the {len(texts)} classes of {names};'
        ' correct one of them'
      )
  classes = tuple(map(_class_name, texts))
  return ClipLabels(source, classes, texts, {}, _by_id(clips, [int(clip.text) for clip in clips]))


def _plain_clips(rows: Sequence[LabelRow], source: str) -> list[_LabeledClip]:
  columns = rows[0].fields
  label = next((name for name in _LABEL_COLUMNS if name in columns), None)
  if label is None or not any(name in columns for name in _ID_COLUMNS):
    raise UserError(
      f'{source} has the columns {", ".join(columns)}; it needs an id'
      f' ({", ".join(_ID_COLUMNS)}) and a label ({", ".join(_LABEL_COLUMNS)}), or a verb and an'
      ' object'
    )
  others = [name for name in columns if name not in _ID_COLUMNS and name != label]
  kept = [
    name
    for name in others
    if len({row.fields.get(name, '').strip() for row in rows}) <= _MAX_VALUES
  ]
  return [
    _LabeledClip(
      row.where,
      _clip_id(row),
      row.text(label),
      {name: text for name in kept if (text := row.fields.get(name, '').strip())},
    )
    for row in rows
  ]


def _chiral_clips(rows: Sequence[LabelRow]) -> list[_LabeledClip]:
  """Reads a list with one chiral clip in a row."""
  label = next((name for name in _LABEL_COLUMNS if name in rows[0].fields), _LABEL_COLUMNS[0])
  texts: dict[tuple[str, str], str] = {}
  for row in rows:
    if row.text('chiral_label').removesuffix('.0') not in _DIRECTIONS:
      raise UserError(
        f'{row.where}: chiral_label is {row.text("chiral_label")!r}, but must be 1 for forward or 0'
        ' for reverse; correct it'
      )
    texts.setdefault(_chiral_key(row), row.text(label))
  clips = []
  for row in rows:
    group, direction = _chiral_key(row)
    opposite = 'reverse' if direction == 'forward' else 'forward'
    if (group, opposite) not in texts:
      raise UserError(
        f'{row.where}: the list has no {opposite} clip of {group!r}; add one or delete the row'
      )
    attributes = _chiral_attributes(group, texts[group, opposite], direction)
    clips.append(_LabeledClip(row.where, _clip_id(row), texts[group, direction], attributes))
  return clips


def _chiral_key(row: LabelRow) -> tuple[str, str]:
  """Returns the group and the direction of a clip."""
  number = row.text('chiral_label').removesuffix('.0')
  return row.text('chiral_triplet_id'), _DIRECTIONS[number]


def _chiral_pairs(rows: Sequence[LabelRow]) -> list[_LabeledClip]:
  """Reads a list with one chiral pair in a row, and the clips of both directions."""
  clips = []
  for row in rows:
    group = row.text('triplet_id')
    noun = row.fields.get('noun_abstract', '').strip()
    texts = {
      direction: _with_noun(row.text(f'verb_{direction}'), noun)
      for direction in _DIRECTIONS.values()
    }
    for direction, opposite in (('forward', 'reverse'), ('reverse', 'forward')):
      attributes = _chiral_attributes(group, texts[opposite], direction)
      for clip_id in row.text(f'id_{direction}').split(';'):
        if not clip_id.strip():
          raise UserError(f'{row.where}: id_{direction} has an empty id; correct it')
        clips.append(_LabeledClip(row.where, clip_id.strip(), texts[direction], attributes))
  return clips


def _with_noun(verb: str, noun: str) -> str:
  """Returns the text of a chiral action; 'na' stands for no noun."""
  return verb if noun.lower() in ('', 'na', 'nan', 'none') else pair_text(verb, noun)


def _chiral_attributes(group: str, opposite: str, direction: str) -> dict[str, str]:
  return {
    'chiral_group': group,
    'chiral_pair': _class_name(opposite),
    'chiral_direction': direction,
  }


def _clip_id(row: LabelRow) -> str:
  column = next((name for name in _ID_COLUMNS if name in row.fields), 'id')
  return row.text(column)


def _class_name(text: str) -> str:
  """Returns a text without its brackets, as Something-Something v2 names its classes."""
  return text.replace('[', '').replace(']', '')


def _by_id(
  clips: Sequence[_LabeledClip], labels: Sequence[int]
) -> dict[str, tuple[int, dict[str, str]]]:
  """Returns the label and the attributes of each id; an id may be repeated with the same label."""
  labeled: dict[str, tuple[int, dict[str, str]]] = {}
  rows: dict[str, _LabeledClip] = {}
  for clip, label in zip(clips, labels, strict=True):
    earlier = labeled.setdefault(clip.id, (label, clip.attributes))
    first = rows.setdefault(clip.id, clip)
    if earlier[0] != label:
      raise UserError(
        f'{clip.where}: the clip {clip.id!r} has the label {clip.text!r} here and {first.text!r} in'
        ' an earlier row; delete one of the two'
      )
  return labeled


def _positions_by_name(ids: Sequence[str]) -> dict[str, int]:
  """Returns the positions of clips by id, and by the last part of the id where only one has it."""
  last_parts = collections.Counter(clip_id.rpartition('/')[2] for clip_id in ids)
  by_last_part = {
    last: position
    for position, clip_id in enumerate(ids)
    if last_parts[last := clip_id.rpartition('/')[2]] == 1
  }
  return by_last_part | {clip_id: position for position, clip_id in enumerate(ids)}


def _possible_names(clip_id: str) -> list[str]:
  """Returns what a clip may be called in the records: lists name files, or paths of files."""
  path = pathlib.PurePosixPath(clip_id.replace('\\', '/'))
  names = [clip_id, path.name]
  if path.suffix.lower() in _VIDEO_SUFFIXES:
    names += [str(path.with_suffix('')), path.stem]
  return names
