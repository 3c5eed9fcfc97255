"""Kinetics-400, -600 and -700, and Mimetics, whose lists have the same format.

A list is a csv file with a header; `is_cc` may be missing, and the start of an id be a '-':

    label,youtube_id,time_start,time_end,split,is_cc
    archery,01xStFVYC7U,11,21,val,0

Where a clip's split is missing, the name of the file tells: train.csv, k400_val.csv. Its video is
{youtube_id}_{start:06d}_{end:06d}.mp4, in a folder of the label or of the split or of none. Of
Mimetics, two more files say how much objects and scene give away.
"""

import csv
import io
import os
import pathlib
import re
from collections.abc import Sequence

from zsar_jax.data.class_names import match_classes, unique_classes
from zsar_jax.data.splits import mimetics_split, read_classes
from zsar_jax.datasets.sources.listing import (
  SPLIT_NAMES,
  ClipCollector,
  Listing,
  check_label,
  relative_path,
  read_text,
)
from zsar_jax.datasets.sources.video_files import Videos
from zsar_jax.errors import UserError

_COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')

# Of the three files of Mimetics; the version is part of their names.
_MIMETICS_CLIPS = 'mimetics_v1.0.csv'
_MIMETICS_FLAGS = 'mimetics_v1.0_objectsceneannot.txt'
_MIMETICS_CLASSES = 'mimetics_v1.0_clsannot.txt'


def list_kinetics(
  videos: str | os.PathLike[str],
  annotations: Sequence[str | os.PathLike[str]],
  labels: str | None = None,
) -> Listing:
  """The clips of Kinetics.

  Args:
    videos: the folder of the videos.
    annotations: csv files, or folders of them.
    labels: a file of the class names in the order of their labels; by default the names in the
      lists, sorted, which is the order that Kinetics is published in.

  Raises:
    UserError: if a list is missing or wrong.
  """
  files = _csv_files(annotations)
  rows = [(f'{path}, line {number}', row) for path in files for number, row in _rows(path)]
  if not rows:
    raise UserError(f'--annotations: {files[0]} lists no clip; give another file')
  classes = (
    read_classes(labels, '--labels', ordered=True)
    if labels
    else unique_classes(row['label'] for _, row in rows)
  )
  lists = _gather(Videos(videos), rows, classes, {})
  return Listing(classes, lists.splits, mimetics_split(classes), remarks=lists.remarks)


def list_mimetics(videos: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> Listing:
  """The clips of Mimetics, with what is known of their objects and scenes.

  Each clip's attributes are 'object', 'scene' and 'mime', yes or no, whether the clip shows a
  fitting object, a fitting scene, a mime; and 'class_object' (no, small, medium, large) and
  'class_scene' (yes, no), whether the action usually has them.

  Args:
    videos: the folder of the videos.
    annotations: the folder of the three files of Mimetics.

  Raises:
    UserError: if one is missing or wrong.
  """
  folder = pathlib.Path(annotations)
  rows = [
    (f'{folder / _MIMETICS_CLIPS}, line {number}', row)
    for number, row in _rows(folder / _MIMETICS_CLIPS)
  ]
  flags = _read_columns(folder / _MIMETICS_FLAGS, ('object', 'scene', 'mime'))
  of_class = _read_columns(folder / _MIMETICS_CLASSES, ('class_object', 'class_scene'))
  attributes = {}
  for where, row in rows:
    stem = _stem(row, where)
    name = row['label'].replace(' ', '_')
    for table, key, file in (
      (flags, f'{stem}.mp4', _MIMETICS_FLAGS),
      (of_class, name, _MIMETICS_CLASSES),
    ):
      if key not in table:
        raise UserError(f'--annotations: {folder / file} has no line for {key}; copy it again')
    attributes[stem] = flags[f'{stem}.mp4'] | of_class[name]
  classes = tuple(sorted({row['label'] for _, row in rows}))
  lists = _gather(Videos(videos), rows, classes, attributes)
  return Listing(classes, lists.splits, remarks=lists.remarks)


def _gather(
  videos: Videos,
  rows: list[tuple[str, dict[str, str]]],
  classes: tuple[str, ...],
  attributes: dict[str, dict[str, str]],
) -> ClipCollector:
  """The clips of the rows, each row with its place for errors."""
  place = {name: label for label, name in enumerate(classes)}
  meant = match_classes((row['label'] for _, row in rows), classes)
  folders = videos.class_folders(classes)
  lists = ClipCollector()
  for where, row in rows:
    split = row['split'].lower()
    if len(meant[row['label']]) != 1:
      raise UserError(
        f'{where}: label {row["label"]!r} is not in the labels file; correct one of them'
      )
    (label,) = meant[row['label']]
    if split not in SPLIT_NAMES:
      raise UserError(f'{where}: split {row["split"]!r} is none of {", ".join(SPLIT_NAMES)}; correct it')
    stem = _stem(row, where)
    expected = f'{row["label"]}/{stem}.mp4'
    copies = videos.find_clip(expected, label, folders, SPLIT_NAMES[split], anywhere=True)
    clip = videos.clip(stem, place[label], copies, expected, attributes.get(stem))
    lists.add(SPLIT_NAMES[split], clip, where)
  return lists


def _stem(row: dict[str, str], where: str) -> str:
  """The name of a row's video, without extension."""
  times = []
  for column in ('time_start', 'time_end'):
    try:
      times.append(int(float(row[column])))
    except (ValueError, OverflowError):
      raise UserError(
        f'{where}: {column} must be a number of seconds, not {row[column]!r}'
      ) from None
  if not 0 <= times[0] <= times[1]:
    raise UserError(
      f'{where}: time_start {row["time_start"]} and time_end {row["time_end"]} must be 0 or more,'
      ' and the first not after the other; correct them'
    )
  name = f'{row["youtube_id"]}_{times[0]:06d}_{times[1]:06d}'
  if not row['youtube_id'] or len(relative_path(name, where).parts) != 1:
    raise UserError(f'{where}: youtube_id {row["youtube_id"]!r} is no id; correct it')
  return name


def _csv_files(annotations: Sequence[str | os.PathLike[str]]) -> list[pathlib.Path]:
  files = []
  for path in map(pathlib.Path, annotations):
    # Not the companions ._NAME that macOS writes.
    found = sorted(path.glob('[!.]*.csv')) if path.is_dir() else [path]
    if not found:
      raise UserError(f'--annotations: {path} has no csv file; give the files themselves')
    files += found
  return files


def _rows(path: pathlib.Path) -> list[tuple[int, dict[str, str]]]:
  """The rows of a csv file with their line numbers, each with its split."""
  lines = csv.DictReader(io.StringIO(read_text(path, '--annotations')))
  try:
    return _checked(path, lines)
  except csv.Error as error:
    raise UserError(
      f'--annotations: {path}, line {lines.line_num}: {error}; correct it, such as a quote that'
      ' does not end'
    ) from None


def _checked(path: pathlib.Path, lines: csv.DictReader) -> list[tuple[int, dict[str, str]]]:
  """What `_rows` gives, of the opened file."""
  missing = [column for column in _COLUMNS if column not in (lines.fieldnames or ())]
  if missing:
    raise UserError(
      f'--annotations: {path} has no column {missing[0]!r}; its header must name'
      f' {", ".join(_COLUMNS)}, and split'
    )
  in_name = {SPLIT_NAMES[word] for word in re.findall('[a-z]+', path.stem.lower()) if word in SPLIT_NAMES}
  rows = []
  for row in lines:
    where = f'--annotations: {path}, line {lines.line_num}'
    if None in row or None in row.values():
      raise UserError(f'{where}: it must have {len(lines.fieldnames)} fields')
    check_label(row['label'], where)
    row = {'split': ''} | {key: value.strip() for key, value in row.items()}
    if not row['split']:
      if len(in_name) != 1:
        raise UserError(f"{where}: it has no split, and the file's name tells none; write it there")
      (row['split'],) = in_name
    rows.append((lines.line_num, row))
  return rows


def _read_columns(path: pathlib.Path, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
  """A table of words, by the word in its first column."""
  table = {}
  for number, line in enumerate(read_text(path, '--annotations').splitlines(), start=1):
    words = line.split()
    if not words or line.startswith('#'):
      continue
    if len(words) != len(names) + 1:
      raise UserError(
        f'--annotations: {path}, line {number}: {len(words)} words where there must be'
        f' {len(names) + 1}; copy it again'
      )
    table[words[0]] = dict(zip(names, words[1:], strict=True))
  return table
