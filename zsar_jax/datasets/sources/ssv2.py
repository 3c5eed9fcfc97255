"""Lists the clips of Something-Something v2.

The annotations are three JSON files. `train` and `validation` list the clips:

    {"id": "2", "template": "Pretending to pick [something] up", "placeholders": ["a pillow"], ...}

`placeholders` are the texts that replace the template's brackets. `labels` is an object from each
template without its brackets to its label, a string.
"""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from zsar_jax.data.class_names import match_classes, to_nfc
from zsar_jax.data.splits import base_to_novel
from zsar_jax.datasets.sources.listing import (
  ClipCollector,
  Listing,
  check_label,
  read_text,
  relative_path,
)
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path

_SPLITS = ('train', 'validation')

# The names of the annotation files in the different packagings of the download.
_FILE_NAMES = ('something-something-v2-{}.json', '{}.json', 'labels/{}.json')


def list_ssv2(videos: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> Listing:
  """Lists the clips of Something-Something v2.

  Args:
    videos: the folder of {id}.webm.
    annotations: the folder of the three JSON files.

  Raises:
    UserError: A file is missing or wrong.
  """
  classes = _read_classes(_find(annotations, 'labels'))
  label_of = {name: label for label, name in enumerate(classes)}
  texts = dict(zip(classes, classes, strict=True))
  index = VideoIndex(videos)
  folders = index.class_folders(classes)
  collector = ClipCollector()
  for split in _SPLITS:
    path = _find(annotations, split)
    entries = _read_clips(path)
    names = [template.replace('[', '').replace(']', '') for _, _, template in entries]
    classes_of = match_classes(names, classes)
    for (where, clip_id, template), listed_name in zip(entries, names, strict=True):
      if len(classes_of[listed_name]) != 1:
        raise UserError(
          f'{where}, clip {clip_id}: template {listed_name!r} is not in the labels file; correct'
          ' one of them'
        )
      (name,) = classes_of[listed_name]
      texts[name] = template
      expected = f'{relative_path(clip_id, where)}.webm'
      copies = index.find_clip(expected, name, folders, split, anywhere=True)
      collector.add(split, index.listed_clip(clip_id, label_of[name], copies, expected), where)
    if split not in collector.splits:
      raise UserError(f'{path} lists no clip; copy it again')
  labels = [clip.label for clip in collector.splits['train']]
  return Listing(
    classes,
    collector.splits,
    base_to_novel(classes, labels),
    class_texts=tuple(texts.values()),
    remarks=collector.remarks,
  )


def read_placeholders(annotations: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
  """Reads the placeholders of the clips of Something-Something v2.

  Args:
    annotations: the folder of the three JSON files.

  Returns:
    {clip id: its placeholders as the file has them}, of all clips that are listed.

  Raises:
    UserError: A file is missing or wrong.
  """
  placeholders = {}
  for split in _SPLITS:
    for where, entry in _entries(_find(annotations, split)):
      texts = entry.get('placeholders') or []
      if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: field 'placeholders' must be a list of strings")
      placeholders[to_nfc(entry['id'])] = tuple(to_nfc(text) for text in texts)
  return placeholders


def _read_clips(path: pathlib.Path) -> list[tuple[str, str, str]]:
  """Reads a list as (position in the file for errors, clip id, template) for each clip."""
  return [
    (where, to_nfc(entry['id']), to_nfc(entry['template'])) for where, entry in _entries(path)
  ]


def _entries(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (position in the file for errors, entry with an id and a template) for each clip."""
  for number, entry in enumerate(_read_json(path, list)):
    where = f'{path}: entry {number}'
    for field in ('id', 'template'):
      if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
        raise UserError(f'{where}: field {field!r} must be a string')
    yield where, entry


def _find(folder: str | os.PathLike[str], name: str) -> pathlib.Path:
  """Finds the annotation file of a split, or of the labels."""
  files = [pattern.format(name) for pattern in _FILE_NAMES]
  for file in files:
    if (path := as_path(folder, '--annotations') / file).is_file():
      return path
  raise UserError(f'--annotations: {folder} has none of {", ".join(files)}; copy one there')


def _read_json(path: pathlib.Path, kind: type) -> Any:
  try:
    content = json.loads(read_text(path, '--annotations'))
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path} is not JSON: {error}; copy it again') from None
  if not isinstance(content, kind):
    raise UserError(f'{path} must be a {kind.__name__}, not a {type(content).__name__}')
  return content


def _read_classes(path: pathlib.Path) -> tuple[str, ...]:
  """Reads the class names in the order of their labels."""
  labels = _read_json(path, dict)
  by_label = {}
  for name, label in labels.items():
    check_label(name, str(path))
    if not str(label).isdecimal():
      raise UserError(f'{path}: the label of {name!r} must be a whole number, not {label!r}')
    by_label[int(label)] = to_nfc(name)
  if sorted(by_label) != list(range(len(labels))):
    raise UserError(
      f'{path}: {len(labels)} classes must have the labels 0 to {len(labels) - 1}, each once'
    )
  return tuple(by_label[label] for label in range(len(labels)))
