"""Lists the clips of Kinetics-400, -600 and -700, and of Mimetics, which has the same format.

A list is a csv file with a header. `is_cc` may be missing, and an id may begin with '-':

    label,youtube_id,time_start,time_end,split,is_cc
    archery,01xStFVYC7U,11,21,val,0

If a clip has no split, the name of the file tells it: train.csv, k400_val.csv. The clip's video is
{youtube_id}_{start:06d}_{end:06d}.mp4, in the folder of its label or split, or in the folder of
videos itself. Mimetics has two more files, which say how much objects and scene give away.
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
  read_text,
  relative_path,
)
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path

_COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')

# The three files of Mimetics, whose names include the version.
_MIMETICS_CLIPS = 'mimetics_v1.0.csv'
_MIMETICS_FLAGS = 'mimetics_v1.0_objectsceneannot.txt'
_MIMETICS_CLASSES = 'mimetics_v1.0_clsannot.txt'


def list_kinetics(
  videos: str | os.PathLike[str],
  annotations: Sequence[str | os.PathLike[str]],
  labels: str | None = None,
) -> Listing:
  """Lists the clips of Kinetics.

  Args:
    videos: the folder of the videos.
    annotations: csv files, or folders of them.
    labels: a file of the class names in the order of their labels; by default the sorted names in
      the lists, which is the order in which Kinetics is published.

  Raises:
    UserError: A list is missing or wrong.
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
  collector = _collect(VideoIndex(videos), rows, classes, {})
  return Listing(classes, collector.splits, mimetics_split(classes), remarks=collector.remarks)


def list_mimetics(videos: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> Listing:
  """Lists the clips of Mimetics, with their annotations of objects and scenes.

  Each clip has the attributes 'object', 'scene' and 'mime' (yes, no): whether it shows a fitting
  object, a fitting scene, a mime; and 'class_object' (no, small, medium, large) and 'class_scene'
  (yes, no): whether the action usually has them.

  Args:
    videos: the folder of the videos.
    annotations: the folder of the three files of Mimetics.

  Raises:
    UserError: A file is missing or wrong.
  """
  folder = as_path(annotations, '--annotations')
  rows = [
    (f'{folder / _MIMETICS_CLIPS}, line {number}', row)
    for number, row in _rows(folder / _MIMETICS_CLIPS)
  ]
  flags = _read_columns(folder / _MIMETICS_FLAGS, ('object', 'scene', 'mime'))
  class_flags = _read_columns(folder / _MIMETICS_CLASSES, ('class_object', 'class_scene'))
  attributes = {}
  for where, row in rows:
    stem = _stem(row, where)
    name = row['label'].replace(' ', '_')
    for table, key, file in (
      (flags, f'{stem}.mp4', _MIMETICS_FLAGS),
      (class_flags, name, _MIMETICS_CLASSES),
    ):
      if key not in table:
        raise UserError(f'--annotations: {folder / file} has no line for {key}; copy it again')
    attributes[stem] = flags[f'{stem}.mp4'] | class_flags[name]
  classes = tuple(sorted({row['label'] for _, row in rows}))
  collector = _collect(VideoIndex(videos), rows, classes, attributes)
  return Listing(classes, collector.splits, remarks=collector.remarks)


def _collect(
  videos: VideoIndex,
  rows: list[tuple[str, dict[str, str]]],
  classes: tuple[str, ...],
  attributes: dict[str, dict[str, str]],
) -> ClipCollector:
  """Collects the clips of rows, which come with their file and line for errors."""
  label_of = {name: label for label, name in enumerate(classes)}
  classes_of = match_classes((row['label'] for _, row in rows), classes)
  folders = videos.class_folders(classes)
  collector = ClipCollector()
  for where, row in rows:
    split = row['split'].lower()
    if len(classes_of[row['label']]) != 1:
      raise UserError(
        f'{where}: label {row["label"]!r} is not in the labels file; correct one of them'
      )
    (name,) = classes_of[row['label']]
    if split not in SPLIT_NAMES:
      raise UserError(
        f'{where}: split {row["split"]!r} is none of {", ".join(SPLIT_NAMES)}; correct it'
      )
    split = SPLIT_NAMES[split]
    stem = _stem(row, where)
    expected = f'{row["label"]}/{stem}.mp4'
    copies = videos.find_clip(expected, name, folders, split, anywhere=True)
    clip = videos.listed_clip(stem, label_of[name], copies, expected, attributes.get(stem))
    collector.add(split, clip, where)
  return collector


def _stem(row: dict[str, str], where: str) -> str:
  """Returns the name of a row's video, without its extension."""
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
      ' and the start not after the end; correct them'
    )
  name = f'{row["youtube_id"]}_{times[0]:06d}_{times[1]:06d}'
  if not row['youtube_id'] or len(relative_path(name, where).parts) != 1:
    raise UserError(f'{where}: youtube_id {row["youtube_id"]!r} is no id; correct it')
  return name


def _csv_files(annotations: Sequence[str | os.PathLike[str]]) -> list[pathlib.Path]:
  files = []
  for path in [as_path(text, '--annotations') for text in annotations]:
    # The pattern excludes the companions ._NAME that macOS writes.
    csv_files = sorted(path.glob('[!.]*.csv')) if path.is_dir() else [path]
    if not csv_files:
      raise UserError(f'--annotations: {path} has no csv file; give the files themselves')
    files += csv_files
  return files


def _rows(path: pathlib.Path) -> list[tuple[int, dict[str, str]]]:
  """Reads the rows of a csv file, with their line numbers and splits."""
  lines = csv.DictReader(io.StringIO(read_text(path, '--annotations')))
  try:
    return _check_rows(path, lines)
  except csv.Error as error:
    raise UserError(
      f'--annotations: {path}, line {lines.line_num}: {error}; correct it, such as a quote that'
      ' does not end'
    ) from None


def _check_rows(path: pathlib.Path, lines: csv.DictReader) -> list[tuple[int, dict[str, str]]]:
  """`_rows` for an opened file."""
  fieldnames = lines.fieldnames or ()
  missing = [column for column in _COLUMNS if column not in fieldnames]
  if missing:
    raise UserError(
      f'--annotations: {path} has no column {missing[0]!r}; its header must name'
      f' {", ".join(_COLUMNS)}, and split'
    )
  words = re.findall('[a-z]+', path.stem.lower())
  splits_in_name = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
  rows = []
  for row in lines:
    where = f'--annotations: {path}, line {lines.line_num}'
    if None in row or None in row.values():
      raise UserError(f'{where}: it must have {len(fieldnames)} fields')
    check_label(row['label'], where)
    row = {'split': ''} | {key: value.strip() for key, value in row.items()}
    if not row['split']:
      if len(splits_in_name) != 1:
        raise UserError(
          f"{where}: it has no split, and the file's name has none either; name the file after its"
          ' split, such as train.csv'
        )
      (row['split'],) = splits_in_name
    rows.append((lines.line_num, row))
  return rows


def _read_columns(path: pathlib.Path, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
  """Reads a table of words as {word in the first column: {column: word}}."""
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
