"""Files for papers: every figure of the page as SVG and PDF, every table as LaTeX and CSV.

They lie in the folder paper/ beside report.html, with index.csv, which says what each shows.
"""

import csv
import io
import pathlib
import re
import urllib.parse

from markupsafe import Markup, escape

from zsar_jax.runtime import files
from zsar_jax.study.report import latex, pdf, tables
from zsar_jax.study.report.drawing import Drawing
from zsar_jax.study.report.foreign_text import clean
from zsar_jax.study.report.tables import Table

FOLDER = 'paper'
_INDEX = 'index.csv'

# A name of a file that an earlier report may have written.
_FILE = re.compile(r'[A-Za-z0-9][\w.+-]{0,120}\.(svg|pdf|tex|csv)', re.ASCII)


class Paper:
  """The figures and tables that a page has shown, by the names of their files."""

  def __init__(self):
    """A page without figures and tables."""
    self._exhibits: dict[str, Drawing | Table] = {}

  def files(self, name: str, *exhibits: Drawing | Table | None) -> Markup:
    """Keeps figures and tables for `write`, and returns links to their files for the page.

    Args:
      name: the name of the files, without the ending; foreign characters are replaced.
      *exhibits: figures and tables that show the same; None is left out.
    """
    links = []
    for exhibit in exhibits:
      if exhibit is None:
        continue
      free = self._free_name(name)
      self._exhibits[free] = exhibit
      kinds = {'SVG': '.svg', 'PDF': '.pdf'}
      if isinstance(exhibit, Table):
        kinds = {'LaTeX': '.tex', 'CSV': '.csv'}
      title = escape(clean(_title(exhibit)))
      links += [
        f'<a href="{urllib.parse.quote(f"{FOLDER}/{free}{ending}")}"'
        f' aria-label="{kind}: {title}">{kind}</a>'
        for kind, ending in kinds.items()
      ]
    return Markup(f'<p class="files">{" ".join(links)}</p>\n' if links else '')

  def _free_name(self, name: str) -> str:
    """A name for files that no other exhibit has, also where case does not count."""
    name = slug(name)
    used = {'index', *(other.lower() for other in self._exhibits)}
    number, free = 1, name
    while free.lower() in used:
      number += 1
      free = f'{name}-{number}'
    return free

  def write(self, folder: pathlib.Path) -> None:
    """Writes the files, and removes those of an earlier report that this one does not have.

    Args:
      folder: the folder of the study; the files are written to its folder paper/.
    """
    folder = folder / FOLDER
    old = _indexed(folder / _INDEX)
    folder.mkdir(exist_ok=True)
    colors = palette()
    drawings = {name: item for name, item in self._exhibits.items() if isinstance(item, Drawing)}
    contents: dict[str, bytes] = {}
    for name, document in pdf.pdf_files(drawings, colors).items():
      contents[f'{name}.pdf'] = document
      contents[f'{name}.svg'] = drawings[name].svg_file(colors).encode()
    for name, item in self._exhibits.items():
      if isinstance(item, Table):
        contents[f'{name}.tex'] = latex.tabular(item).encode()
        contents[f'{name}.csv'] = tables.to_csv(item).encode()
    for name, content in contents.items():
      with files.open_atomically(folder / name) as file:
        file.write(content)
    index = io.StringIO()
    writer = csv.writer(index, lineterminator='\n')
    writer.writerow(('file', 'shows'))
    for name in contents:
      writer.writerow((name, ' '.join(clean(_title(self._exhibits[name[:-4]])).split())))
    files.write_file(folder / _INDEX, index.getvalue())
    for name in old - set(contents):
      (folder / name).unlink(missing_ok=True)


def _title(exhibit: Drawing | Table) -> str:
  return exhibit.caption if isinstance(exhibit, Table) else exhibit.text


def slug(name: str) -> str:
  """A name for a file: letters, digits and -, at most 100 characters."""
  return re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-_')[:100] or 'figure'


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
