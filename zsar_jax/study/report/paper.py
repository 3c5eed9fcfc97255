"""Files for papers: every figure of the page as SVG and PDF, every table as LaTeX and CSV.

They lie in the folder paper/ beside report.html, with index.csv, which says what each shows.
"""

import csv
import io
import pathlib
import re
from collections.abc import Collection

from markupsafe import Markup, escape

from zsar_jax.storage import files
from zsar_jax.study.report import latex, pdf, tables
from zsar_jax.study.report.drawing import Drawing
from zsar_jax.study.report.foreign_text import clean, undirected
from zsar_jax.study.report.tables import Table

FOLDER = 'paper'
_INDEX = 'index.csv'

# A name of a file that an earlier report may have written.
_FILE = re.compile(r'[A-Za-z0-9][\w.+-]{0,120}\.(svg|pdf|tex|csv)', re.ASCII)


class Paper:
  """The figures and tables that a page has shown, by the names of their files."""

  def __init__(self):
    """A page without figures and tables."""
    self._drawings: dict[str, Drawing] = {}
    self._tables: dict[str, Table] = {}

  def files(self, name: str, *exhibits: Drawing | Table | None) -> Markup:
    """Keeps figures and tables for `write`, and returns links to their files for the page.

    Args:
      name: the name of the files, without the ending; foreign characters are replaced.
      *exhibits: figures and tables that show the same; None is left out.
    """
    links = []
    for exhibit in exhibits:
      if isinstance(exhibit, Drawing):
        file = free_name(name, self._drawings)
        self._drawings[file] = exhibit
        links += [_link(file, kind, exhibit.text) for kind in ('SVG', 'PDF')]
      elif isinstance(exhibit, Table):
        file = free_name(name, {**self._tables, 'index': None})
        self._tables[file] = exhibit
        links += [_link(file, kind, exhibit.caption) for kind in ('LaTeX', 'CSV')]
    return Markup(f'<p class="files">{" ".join(links)}</p>\n' if links else '')

  def write(self, folder: pathlib.Path) -> None:
    """Writes the files, and removes those of an earlier report that this one does not have.

    Args:
      folder: the folder of the study; the files are written to its folder paper/.
    """
    folder = folder / FOLDER
    old = _indexed(folder / _INDEX)
    folder.mkdir(exist_ok=True)
    colors = palette()
    contents: dict[str, bytes] = {}
    index = io.StringIO()
    rows = csv.writer(index, lineterminator='\n')
    rows.writerow(('file', 'shows'))
    for name, document in pdf.pdf_files(self._drawings, colors).items():
      drawing = self._drawings[name]
      contents |= {f'{name}.svg': drawing.svg_file(colors).encode(), f'{name}.pdf': document}
      rows.writerows((f'{name}.{ending}', _plain(drawing.text)) for ending in ('svg', 'pdf'))
    for name, table in self._tables.items():
      contents[f'{name}.tex'] = latex.tabular(table).encode()
      contents[f'{name}.csv'] = tables.to_csv(table).encode()
      rows.writerows((f'{name}.{ending}', _plain(table.caption)) for ending in ('tex', 'csv'))
    for name, content in contents.items():
      with files.open_atomically(folder / name) as file:
        file.write(content)
    files.write_file(folder / _INDEX, index.getvalue())
    for name in old - set(contents):
      (folder / name).unlink(missing_ok=True)


def slug(name: str) -> str:
  """A name for files: ASCII letters, digits, _ and -, at most 100 characters."""
  return re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-_')[:100] or 'figure'


def free_name(name: str, used: Collection[str]) -> str:
  """A name for files that differs from those used, also where case does not count."""
  name = slug(name)
  lower = {other.lower() for other in used}
  number, free = 1, name
  while free.lower() in lower:
    number += 1
    free = f'{name}-{number}'
  return free


def _link(name: str, kind: str, title: str) -> str:
  ending = {'LaTeX': 'tex'}.get(kind, kind.lower())
  return (
    f'<a href="{FOLDER}/{name}.{ending}" aria-label="{kind}: {escape(clean(title))}">{kind}</a>'
  )


def _plain(text: str) -> str:
  return ' '.join(undirected(clean(text)).split())


def _indexed(path: pathlib.Path) -> set[str]:
  """The files that an index names; names that no report writes are left out."""
  try:
    with path.open(encoding='utf-8', newline='') as file:
      names = {row[0] for row in csv.reader(file) if row}
  except (OSError, ValueError, csv.Error):
    return set()
  return {name for name in names if _FILE.fullmatch(name) and name != _INDEX}


def palette() -> dict[str, str]:
  """Returns the colors of style.css, those of the light theme: {variable: '#rrggbb'}."""
  style = (pathlib.Path(__file__).parent / 'style.css').read_text(encoding='utf-8')
  light = style.partition('@media')[0]
  colors = dict(re.findall(r'--([\w-]+): (#[0-9a-f]{6})', light))
  # Paper is white.
  return colors | {'paper': '#ffffff'}
