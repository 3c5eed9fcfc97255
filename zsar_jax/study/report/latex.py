"""Writes tables as LaTeX, for the package booktabs."""

import re

from zsar_jax.study.report.foreign_text import clean, undirected
from zsar_jax.study.report.tables import Cell, Table, Value

# All characters that TeX interprets, those that its fonts lack or join, and their spelling.
_SPELLING = {
  '\\': r'\textbackslash{}', '{': r'\{', '}': r'\}', '$': r'\$', '&': r'\&', '#': r'\#', '%': r'\%',
  '_': r'\_', '^': r'\textasciicircum{}', '~': r'\textasciitilde{}', '<': r'\textless{}',
  '>': r'\textgreater{}', '|': r'\textbar{}', '"': r'\symbol{34}', '[': '{[}', ']': '{]}',
  "'": r'\textquotesingle{}', '`': r'\textasciigrave{}', '\u00a0': '~', '\u202f': r'\,',
  '\u2212': '$-$', '\u2013': r'\textendash{}', '\u2014': r'\textemdash{}', '\u2026': r'\ldots{}',
  '\u00b7': r'$\cdot$',
  '\u00d7': r'$\times$', '\u2191': r'$\uparrow$', '\u2193': r'$\downarrow$',
  '\u2192': r'$\rightarrow$', '\u2248': r'$\approx$', '\u2265': r'$\geq$', '\u2264': r'$\leq$',
  '\u0394': r'$\Delta$', '\u2713': r'$+$', '\u2717': r'$-$',
}  # fmt: skip


def tabular(table: Table) -> str:
  """Returns a `tabular`, to be read with \\input in a `table` with a caption of its own.

  A value stands with its interval, as in '83.3 [80.1, 86.0]'.
  """
  lines = [
    f'% {_comment(table.caption)}',
    r'% In the preamble: \usepackage{booktabs} and \usepackage{textcomp}.',
    rf'\begin{{tabular}}{{l{"".join(map(_alignment, _columns(table)))}}}',
    r'\toprule',
    _row([escaped(table.corner), *map(escaped, table.columns)]),
    r'\midrule',
  ]
  for number, (group, rows) in enumerate(table.groups.items()):
    if number:
      lines.append(r'\addlinespace')
    if group:
      width = len(table.columns) + 1
      lines.append(_row([rf'\multicolumn{{{width}}}{{l}}{{\textbf{{{escaped(group)}}}}}']))
    lines += [_row([escaped(name), *map(_cell, cells)]) for name, cells in rows]
  return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}']) + '\n'


def escaped(text: str) -> str:
  """Returns a foreign text on one line, without characters that TeX would interpret."""
  text = re.sub('[^\\S\u00a0\u202f]+', ' ', undirected(clean(text))).strip(' ')
  parts = (_SPELLING.get(character, character) for character in text)
  # TeX joins hyphens that follow each other, and a row that begins with * or [ with the last one.
  return re.sub('-(?=-)', '-{}', ''.join(parts)).replace('*', '{*}')


def _comment(text: str) -> str:
  """A text that ends with its line; TeX's ^^M could end it earlier."""
  return ' '.join(undirected(clean(text)).replace('^', '').split())


def _columns(table: Table) -> list[list[Cell]]:
  """The cells by column."""
  rows = [cells for group in table.groups.values() for _, cells in group]
  return [[cells[index] for cells in rows] for index in range(len(table.columns))]


def _alignment(cells: list[Cell]) -> str:
  """Numbers to the right, texts to the left."""
  return 'l' if any(isinstance(cell, str) and not _is_number(cell) for cell in cells) else 'r'


def _is_number(text: str) -> bool:
  return re.fullmatch(r'[-+\u2212]?[\d.,\s\u2013e-]+', text) is not None


def _row(cells: list[str]) -> str:
  return f'{" & ".join(cells)} \\\\'


def _cell(cell: Cell) -> str:
  if isinstance(cell, Value):
    text = escaped(cell.text)
    text = rf'\textbf{{{text}}}' if cell.bold else text
    return f'{text} [{", ".join(map(escaped, cell.ends))}]' if cell.ends else text
  return '--' if cell is None else escaped(str(cell))
