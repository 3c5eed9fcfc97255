"""Reads the rows of a list of clips: JSON, a csv file with a header, or lines of id and label."""

import csv
import dataclasses
import io
import json
import pathlib
from typing import Any

from zsar_jax.data.class_names import to_nfc
from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage.paths import as_path

# The largest list that is read, in bytes. The longest published one has 13 MB.
_MAX_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class LabelRow:
  """A row of a list.

  Attributes:
    where: the file and the row, for errors.
    fields: the texts of the row by column. Numbers of a JSON list are texts; its nested values are
      left out.
  """

  where: str
  fields: dict[str, str]

  def text(self, column: str) -> str:
    """Returns the text in a column, without white space around it.

    Raises:
      UserError: if the row has no such column, or nothing in it.
    """
    text = self.fields.get(column, '').strip()
    if not text:
      raise UserError(f'{self.where}: it has no {column!r}; add it, or delete the row')
    return text


def read_rows(reference: str, field: str) -> list[LabelRow]:
  """Reads a list.

  Args:
    reference: a JSON list of objects ('.json'), a csv file whose header names its columns ('.csv'),
      or lines of an id and a label with white space between them, which become the columns 'id' and
      'label'.
    field: where `reference` comes from, for errors.

  Returns:
    The rows in order, at least one.

  Raises:
    UserError: if the file cannot be read, or a row is malformed.
  """
  path = as_path(reference, field)
  source = f'{field}: {path}'
  text = read_text(path, source)
  suffix = path.suffix.lower()
  if suffix == '.json':
    rows = _json_rows(text, source)
  elif suffix == '.csv':
    rows = _csv_rows(text, source)
  else:
    rows = _line_rows(text, source)
  if not rows:
    raise UserError(f'{source} lists no clip; name another file')
  return rows


def read_text(path: pathlib.Path, source: str) -> str:
  """Reads a list in UTF-8.

  Args:
    path: the file.
    source: the field and the file, for errors.

  Raises:
    UserError: if the file cannot be read, or has more than 256 MiB.
  """
  try:
    if path.stat().st_size > _MAX_BYTES:
      raise UserError(
        f'{source} has more than {_MAX_BYTES} bytes, so it is no list of clips; name another file'
      )
    return path.read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    reason = error_reason(error) if isinstance(error, OSError) else 'it is not UTF-8'
    raise UserError(f'{source} cannot be read ({reason}); name a list of clips') from None


def _json_rows(text: str, source: str) -> list[LabelRow]:
  try:
    entries = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f'{source} is not JSON ({error}); copy it again') from None
  if not isinstance(entries, list):
    raise UserError(f'{source} is no list of clips, such as [{{"id": "1", "label": "a"}}]')
  rows = []
  for number, entry in enumerate(entries):
    where = f'{source}, entry {number}'
    if not isinstance(entry, dict):
      raise UserError(f'{where}: {str(entry)[:60]!r} is no object; correct or delete it')
    rows.append(LabelRow(where, _texts(entry)))
  return rows


def _texts(entry: dict[str, Any]) -> dict[str, str]:
  return {
    name: to_nfc(str(value))
    for name, value in entry.items()
    if isinstance(value, str | int) and not isinstance(value, bool)
  }


def _csv_rows(text: str, source: str) -> list[LabelRow]:
  reader = csv.DictReader(io.StringIO(text))
  rows = []
  try:
    for fields in reader:
      where = f'{source}, line {reader.line_num}'
      if None in fields or None in fields.values():
        raise UserError(
          f'{where}: it must have {len(reader.fieldnames or ())} fields, as the header; correct it,'
          ' with quotes around a text that has commas'
        )
      rows.append(LabelRow(where, {name.strip(): to_nfc(item) for name, item in fields.items()}))
  except csv.Error as error:
    raise UserError(f'{source}, line {reader.line_num}: {error}; correct it') from None
  return rows


def _line_rows(text: str, source: str) -> list[LabelRow]:
  rows = []
  for number, line in enumerate(text.splitlines(), start=1):
    if not line.strip():
      continue
    where = f'{source}, line {number}'
    # The ids of lists with numbers are paths, which may contain spaces.
    words = line.strip().rsplit(maxsplit=1)
    if len(words) == 2 and not words[1].isdecimal():
      words = line.strip().split(maxsplit=1)
    if len(words) != 2:
      raise UserError(f'{where}: {line[:60]!r} is no id with a label; correct or delete it')
    rows.append(LabelRow(where, {'id': to_nfc(words[0]), 'label': to_nfc(words[1])}))
  return rows
