"""Turns another program's logits of exported clips into the predictions of an evaluation.

The logits are in a file for each data set. A CSV file has the columns

    version,clip,recipe,view,CLASS,CLASS,...

and an .npz file the arrays

    version  integer    the scalar 1
    clips    str[M]
    recipes  str[M]
    views    integer[M]
    classes  str[C]
    logits   f16, f32 or f64[M, C]

with a row for each row of files.csv, in any order. `views` may be left out if each clip has a
single view. The classes are those of clips.json, in any order. A row with a value that is not
finite counts as wrong. Both files come from programs of others: nothing in them is executed, and
what they state is compared with the list before memory is taken for it.
"""

import contextlib
import csv
import dataclasses
import pathlib
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from zsar_jax.errors import UserError, error_reason, first_line
from zsar_jax.evaluation.clip_list import FILES, ClipList, Row
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.untrusted_npz import ArrayHeader, NpzReader
from zsar_jax.evaluation.view_average import ViewAverage

VERSION = 1
SUFFIXES = ('.csv', '.npz')

_COLUMNS = ('version', 'clip', 'recipe', 'view')

# The most characters of a number in a CSV file, and of all else in a line.
_MAX_CELL, _MAX_TEXTS = 64, 1 << 16


def score(clips: ClipList, path: pathlib.Path) -> Predictions:
  """Reads the logits of a data set.

  Args:
    clips: the list of the exported clips.
    path: a file with one of `SUFFIXES`.

  Returns:
    What an evaluation of the program would have written.

  Raises:
    UserError: the file cannot be read, has another version, or its rows or classes are not those
      of the list.
  """
  rows = clips.rows()
  read = _read_npz if path.suffix == '.npz' else _read_csv
  try:
    logits = read(clips, rows, path)
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error_reason(error)}); name another file') from None
  blank = clips.blank
  averages = {
    recipe: ViewAverage(len(blank.ids), len(blank.classes), clips.views, clips.view_mean)
    for recipe in blank.recipes
  }
  positions = {clip: n for n, clip in enumerate(blank.ids)}
  for (clip, recipe, _), row_logits in zip(rows, logits, strict=True):
    averages[recipe].add(np.array([positions[clip]]), row_logits[None])
  by_recipe = {recipe: average.logits for recipe, average in averages.items()}
  for recipe, recipe_logits in by_recipe.items():
    recipe_logits[~blank.counted(recipe)] = np.nan
  return dataclasses.replace(blank, logits=by_recipe)


class _Table:
  """The logits of the rows of a list, which arrive in any order."""

  def __init__(self, clips: ClipList, rows: Sequence[Row], path: pathlib.Path):
    self._path, self._rows = path, rows
    self._numbers = {row: number for number, row in enumerate(rows)}
    self._seen = np.zeros(len(rows), bool)
    self._clips = set(clips.blank.ids)
    self._recipes = clips.blank.recipes
    self.logits = np.empty((len(rows), len(clips.blank.classes)), np.float32)

  def add(self, row: Row, logits: np.ndarray, where: str) -> None:
    """Adds a row.

    Args:
      row: the clip, the recipe and the view that the file states.
      logits: f64[C] or f32[C], in the order of the list's classes.
      where: such as 'line 3', for errors.
    """
    number = self._numbers.get(row)
    if number is None:
      raise UserError(f'{self._path}, {where}: {self._describe_unknown(row)}')
    if self._seen[number]:
      raise UserError(f'{self._path}, {where}: there already is a row of {_name(row)}; remove one')
    self._seen[number] = True
    with np.errstate(over='ignore'):
      self.logits[number] = logits

  def check_complete(self) -> None:
    """Raises a `UserError` if rows are missing."""
    missing = np.flatnonzero(~self._seen)
    if len(missing):
      raise UserError(
        f'{self._path}: {len(missing)} of {len(self._rows)} rows are missing, such as that of'
        f' {_name(self._rows[missing[0]])}; give a row for each row of {FILES}'
      )

  def _describe_unknown(self, row: Row) -> str:
    clip, recipe, _ = row
    if clip not in self._clips:
      return f'the clip {clip!r} is not among those exported; take the ids from {FILES}'
    if recipe not in self._recipes:
      return (
        f'the recipe {recipe!r} is none of {", ".join(map(repr, self._recipes))}; take the texts'
        f' from {FILES}'
      )
    return f'{_name(row)} was not exported; give a row for each row of {FILES}'


def _name(row: Row) -> str:
  clip, recipe, view = row
  return f'clip {clip!r}, recipe {recipe!r}, view {view}'


def _order(path: pathlib.Path, actual: Sequence[str], classes: Sequence[str]) -> np.ndarray:
  """Returns i64[C], for each class of the list its position among those of a file."""
  positions = {name: n for n, name in enumerate(actual)}
  for name in classes:
    if name not in positions:
      raise UserError(f'{path}: the class {name!r} is missing; give all {len(classes)} classes')
  known = set(classes)
  for n, name in enumerate(actual):
    if name not in known:
      raise UserError(f'{path}: {name!r} is no class of the exported clips; leave it out')
    if positions[name] != n:
      raise UserError(f'{path}: the class {name!r} occurs twice; give each class once')
  return np.array([positions[name] for name in classes])


def _check_version(path: pathlib.Path, where: str, version: str) -> None:
  if version.strip() != str(VERSION):
    raise UserError(
      f'{path}, {where}: version {version.strip()[:40]!r}, but this program reads {VERSION}; see'
      ' docs/external_models.md'
    )


def _read_csv(clips: ClipList, rows: Sequence[Row], path: pathlib.Path) -> np.ndarray:
  """Reads a CSV file, f32[M, C], in the order of `rows`."""
  classes = clips.blank.classes
  size = path.stat().st_size
  # Before any memory is taken: a cell has at least a digit and a separator.
  if size < 2 * len(rows) * len(classes):
    raise UserError(
      f'{path}: {size} bytes cannot hold {len(rows)} rows of {len(classes)} classes; give a row for'
      f' each row of {FILES}'
    )
  texts = _MAX_TEXTS + sum(map(len, classes))
  if size > (len(rows) + 1) * (len(classes) * _MAX_CELL + texts):
    raise UserError(f'{path}: it is too large for {len(rows)} rows; give numbers with 17 digits')
  with contextlib.closing(_csv_lines(path)) as lines:
    _, header = next(lines, (1, []))
    columns = _COLUMNS[: 4 if 'view' in header[:4] else 3]
    if tuple(header[: len(columns)]) != columns or (clips.views > 1 and len(columns) < 4):
      needed = ','.join(_COLUMNS if clips.views > 1 else _COLUMNS[:3])
      raise UserError(f"{path}, line 1: it does not begin with '{needed},'; write such a header")
    order = _order(path, header[len(columns) :], classes)
    table = _Table(clips, rows, path)
    for number, cells in lines:
      where = f'line {number}'
      if len(cells) != len(header):
        raise UserError(
          f'{path}, {where}: {len(cells)} values, but the header has {len(header)}; correct it'
        )
      _check_version(path, where, cells[0])
      view = cells[3] if len(columns) > 3 else '0'
      if not view.isdecimal() or len(view) > 4:
        raise UserError(f'{path}, {where}: the view {view[:40]!r} is no number from 0; correct it')
      logits = _numbers(path, where, cells[len(columns) :], header[len(columns) :])
      table.add((cells[1], cells[2], int(view)), logits[order], where)
  table.check_complete()
  return table.logits


def _csv_lines(path: pathlib.Path) -> Generator[tuple[int, list[str]]]:
  """Yields the lines of a CSV file that are not empty, with their numbers."""
  with path.open(encoding='utf-8-sig', newline='') as file:
    reader = csv.reader(file, strict=True)
    try:
      for cells in reader:
        if cells:
          yield reader.line_num, cells
    except (csv.Error, UnicodeDecodeError) as error:
      raise UserError(
        f'{path}, line {reader.line_num + 1}: no CSV in UTF-8 ({first_line(error)}); correct it'
      ) from None


def _numbers(
  path: pathlib.Path, where: str, cells: Sequence[str], names: Sequence[str]
) -> np.ndarray:
  """Returns the numbers of a line, f64[C]."""
  try:
    return np.array([float(cell) for cell in cells])
  except ValueError:
    for cell, name in zip(cells, names, strict=True):
      try:
        float(cell)
      except ValueError:
        raise UserError(
          f'{path}, {where}: {cell[:40]!r} of the class {name!r} is no number; write a number, or'
          ' nan for a clip without scores, which counts as wrong'
        ) from None
    raise


def _read_npz(clips: ClipList, rows: Sequence[Row], path: pathlib.Path) -> np.ndarray:
  """Reads an .npz file, f32[M, C], in the order of `rows`."""
  classes = clips.blank.classes
  must: dict[str, tuple[str, tuple[int, ...]]] = {
    'version': ('iu', ()),
    'clips': ('U', (len(rows),)),
    'recipes': ('U', (len(rows),)),
    'views': ('iu', (len(rows),)),
    'classes': ('U', (len(classes),)),
    'logits': ('f', (len(rows), len(classes))),
  }
  try:
    with NpzReader(path) as reader:
      headers = reader.headers(must)
      if clips.views == 1 and 'views' not in headers:
        must.pop('views')
      problem = _find_problem(headers, must)
      # Arrays are inflated only if their headers agree with the list.
      arrays = {} if problem else {name: reader.array(name) for name in must}
  except OSError:
    raise
  except Exception as error:  # For damaged files, NumPy and zipfile raise almost any exception.
    raise UserError(f'{path}: damaged, or no .npz ({first_line(error)}); write it again') from None
  if problem:
    raise UserError(f'{path}: {problem}; see docs/external_models.md')
  _check_version(path, 'version', str(arrays['version']))
  order = _order(path, arrays['classes'].tolist(), classes)
  table = _Table(clips, rows, path)
  views = arrays.get('views', np.zeros(len(rows), np.int64)).tolist()
  names = zip(arrays['clips'].tolist(), arrays['recipes'].tolist(), views, strict=True)
  for n, row in enumerate(names):
    table.add(row, arrays['logits'][n, order], f'row {n}')
  table.check_complete()
  return table.logits


def _find_problem(
  headers: Mapping[str, ArrayHeader], must: Mapping[str, tuple[str, tuple[int, ...]]]
) -> str | None:
  """Describes an array that is missing or of a wrong kind or shape; None if there is none."""
  for name, (kinds, shape) in must.items():
    header = headers.get(name)
    actual = f'{header.dtype}{list(header.shape)}' if header else 'missing'
    if not header or header.dtype.kind not in kinds or header.shape != shape:
      kind = {'iu': 'integers', 'U': 'texts', 'f': 'floats'}[kinds]
      return f'{name}: {actual}, but it must be {kind} of shape {list(shape)}'
  return None
