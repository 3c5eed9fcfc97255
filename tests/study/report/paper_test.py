"""Tests of the files for papers: drawings as SVG and PDF, tables as LaTeX and CSV."""

import csv
import io
import re
import xml.etree.ElementTree as ET
import zlib

import matplotlib
import pytest
from fontTools import ttLib

from tests.study.report.random_study import HOSTILE, SMALL, first_dataset, make_report, write_study
from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report import latex, paper, pdf, tables, write_report

SVG = '{http://www.w3.org/2000/svg}'


def value(number, low=None, high=None, unit=tables.PERCENT, bold=False):
  estimate = {'value': number, 'low': low, 'high': high, 'per_seed': [], 'count': 160}
  return tables.Value(estimate, unit, bold)


TABLE = tables.Table(
  'Accuracy, 95 % of it ^^M',
  ['top-1, %', 'gain', 'note'],
  {
    'a group': [
      ('background=mean@0.5', [value(0.833, 0.8, 0.861, bold=True), None, 'x & y']),
      ('[p_1]', [value(None), value(-0.03, -0.051, 0, tables.POINTS), 7]),
    ],
    '50 % {more}': [('* \\end#$', [value(1), value(0.2, 0.1, 0.3, tables.POINTS), '<~'])],
  },
  'run',
)


def test_latex_has_values_with_intervals_between_booktabs_rules():
  assert (
    latex.tabular(TABLE)
    == r"""% Accuracy, 95 % of it M
% In the preamble: \usepackage{booktabs} and \usepackage{textcomp}.
\begin{tabular}{lrrl}
\toprule
run & top-1, \% & gain & note \\
\midrule
\multicolumn{4}{l}{\textbf{a group}} \\
background=mean@0.5 & \textbf{83.3} [80.0, 86.1] & -- & x \& y \\
{[}p\_1{]} & \textendash{} & $-$3.0 [$-$5.1, 0.0] & 7 \\
\addlinespace
\multicolumn{4}{l}{\textbf{50 \% \{more\}}} \\
{*} \textbackslash{}end\#\$ & 100.0 & +20.0 [+10.0, +30.0] & \textless{}\textasciitilde{} \\
\bottomrule
\end{tabular}
"""
  )  # noqa: E501


def test_csv_has_unrounded_values_and_ends_in_columns():
  rows = list(csv.reader(io.StringIO(tables.to_csv(TABLE))))
  head = 'group', 'run', *(f'top-1, %{end}' for end in ('', ': low', ': high'))
  assert rows[0] == [*head, *(f'gain{end}' for end in ('', ': low', ': high')), 'note']
  assert rows[1:] == [
    ['a group', 'background=mean@0.5', '83.3', '80', '86.1', '', '', '', 'x & y'],
    ['a group', '[p_1]', '', '', '', '-3', '-5.1', '0', '7'],
    ['50 % {more}', '* \\end#$', '100', '', '', '20', '10', '30', '<~'],
  ]
  formula = tables.Table('', ['x'], {'': [('=HYPERLINK("x")', ['\u22121.5'])]})
  assert tables.to_csv(formula) == 'row,x\n" =HYPERLINK(""x"")",-1.5\n'


# TeX's special characters, each as it may stand in a text.
SAFE = re.compile(
  r'(?:[^\\{}$&#%_^<>|"\[\]*`\']|\\[{}$&#%_,]|\\(?:text[a-z]+|ldots)\{\}|\\symbol\{34\}'
  r'|\$(?:[-+]|\\[a-z]+)\$|\{[][*]\}|(?<=-)\{\})*'
)


@pytest.mark.parametrize(
  'text', [*HOSTILE, '\\input{/etc/passwd}', '^^5cinput', 'a -- b', '%\n\\x']
)
def test_foreign_names_are_text_in_latex(text):
  escaped = latex.escaped(text)
  assert SAFE.fullmatch(escaped), escaped
  assert '\n' not in escaped
  assert '--' not in escaped


def test_a_report_has_every_figure_and_table_as_files(tmp_path):
  report = make_report(tmp_path, **SMALL)
  pages = [report.html, *(path.read_text() for path in (tmp_path / 'cards').iterdir())]
  links = {link for page in pages for link in re.findall(r'href="(?:\.\./)?(paper/[^"]+)"', page)}
  folder = tmp_path / 'paper'
  assert {f'paper/{path.name}' for path in folder.iterdir()} == {*links, 'paper/index.csv'}
  drawn = re.findall(r'<svg class="figure".*?</svg>', report.html)
  # Each drawing on the page, and each heat map, which is a table on the page.
  kinds = {ending: sorted(folder.glob(f'*{ending}')) for ending in ('.svg', '.pdf', '.tex')}
  assert len(kinds['.svg']) == len(kinds['.pdf']) == len(drawn) + report.html.count('class="heat"')
  assert len(kinds['.tex']) == len(list(folder.glob('*.csv'))) - 1
  on_page = {tuple(re.findall(r'<text[^>]*>([^<]*)', drawing)) for drawing in drawn}
  in_files = set()
  for path in kinds['.svg']:
    tree = ET.parse(path)
    in_files.add(tuple(re.findall(r'<text[^>]*>([^<]*)', path.read_text())))
    for element in tree.iter():
      assert 'class' not in element.attrib
      assert 'var(' not in str(element.attrib)
    assert float(tree.getroot().get('width').removesuffix('pt')) < 345  # A page of text in LaTeX.
  assert on_page <= in_files
  for path in kinds['.tex']:
    body = path.read_text().split('\\midrule\n')[1]
    columns = re.search(r'\\begin\{tabular\}\{(\w+)\}', path.read_text())[1]
    for line in body.splitlines():
      if '&' in line:
        assert len(re.findall(r'(?<!\\)&', line)) == len(columns) - 1
  top1 = first_dataset(report.study)['matrix']['none']['none']['top1']
  rows = list(csv.DictReader((folder / 'matrix-pantomime-scenes-top1.csv').open()))
  assert float(rows[0]['none']) == pytest.approx(100 * top1['value'], rel=1e-6)
  assert float(rows[0]['none: high']) == pytest.approx(100 * top1['high'], rel=1e-6)


def test_files_that_a_report_no_longer_has_are_removed_and_others_kept(tmp_path):
  write_study(tmp_path, **SMALL)
  write_report(tmp_path)
  folder = tmp_path / 'paper'
  before = {path.name for path in folder.iterdir()}
  (folder / 'mine.tex').write_text('kept')
  (tmp_path / 'outside.tex').write_text('kept')
  with (folder / 'index.csv').open('a') as file:
    file.write('../outside.tex,x\n')
  write_study(tmp_path, lambda study: study.update(findings=[]), **SMALL)
  write_report(tmp_path)
  after = {path.name for path in folder.iterdir()}
  assert {name.split('-')[0].split('.')[0] for name in before - after} == {'finding', 'findings'}
  assert after - before == {'mine.tex'}
  assert (tmp_path / 'outside.tex').exists()


def test_names_of_files_differ_also_where_case_does_not_count():
  exhibits, table = paper.Paper(), tables.Table('t', [], {})
  links = [exhibits.files(name, table) for name in ('A/b', 'a b', '../..', 'index', 'x' * 300)]
  names = [re.search(r'paper/([^"]+)\.tex', link)[1] for link in links]
  assert names == ['A-b', 'a-b-2', 'figure', 'index-2', 'x' * 100]


def read_pdf(content: bytes):
  """The operators, the font and the text of a PDF file, by its own cross-reference table."""
  start = int(re.search(rb'startxref\n(\d+)', content)[1])
  offsets = [int(entry) for entry in re.findall(rb'(\d{10}) 00000 n', content[start:])]
  streams = {}
  for number, offset in enumerate(offsets, start=1):
    assert content[offset:].startswith(b'%d 0 obj\n' % number)
    body = content[offset : content.index(b'endobj', offset)]
    if b'stream\n' in body:
      length = int(re.search(rb'/Length (\d+)', body)[1])
      begin = body.index(b'stream\n') + 7
      assert body[begin + length :].startswith(b'\nendstream')
      streams[number] = zlib.decompress(body[begin : begin + length])
  operators = streams[4].decode()
  characters = {
    int(glyph, 16): bytes.fromhex(code).decode('utf-16-be')
    for glyph, code in re.findall(r'<(\w{4})> <(\w+)>', streams[9].decode().split('endcode')[1])
  }
  texts = []
  for glyphs in re.findall(r'<(\w*)> Tj', operators):
    codes = [int(glyphs[at : at + 4], 16) for at in range(0, len(glyphs), 4)]
    texts.append(''.join(characters.get(code, '\ufffd') for code in codes))
  return operators, ttLib.TTFont(io.BytesIO(streams[8])), texts, content


def test_a_pdf_has_text_to_select_and_an_embedded_font():
  figure = draw.Drawing(
    320, 100, 'Acc\u00e9', [
      draw.Rect(10, 20, 30, 40, 'run'),
      draw.Group('tip', [draw.Text(100, 50, '+1.5 \u2212 \u0645 \U0001f939 (x)', anchor='end')]),
      draw.Path([(0, 0), (5, 5)], 'chance'),
      draw.Circle(50, 50, 4, 'dot'),
    ],
  )  # fmt: skip
  operators, font, texts, content = read_pdf(pdf.pdf_files({'f': figure}, paper.palette())['f'])
  assert b'/MediaBox [0 0 240.00 75.00]' in content
  assert texts == ['+1.5 \u2212 \u0645 \ufffd (x)']  # The font has no emoji.
  assert '10.00 20.00 30.00 40.00 re' in operators
  assert '[3 3] 0 d' in operators
  assert len(re.findall(r' c\b(?!m)', operators)) == 4
  # The end of the text is where its glyphs in the full font say.
  full = ttLib.TTFont(matplotlib.get_data_path() + '/fonts/ttf/DejaVuSans.ttf')
  names = [
    full.getBestCmap().get(ord(letter), '.notdef') for letter in '+1.5 \u2212 \u0645 \U0001f939 (x)'
  ]
  width = sum(full['hmtx'][name][0] for name in names) / full['head'].unitsPerEm
  assert float(re.search(r'1 0 0 -1 ([\d.]+) 50.00 Tm', operators)[1]) == pytest.approx(
    100 - 0.9 * 11 * width, abs=0.02
  )
  assert len(font.getGlyphOrder()) < 20


def test_colors_of_looks_are_those_of_the_page():
  colors = paper.palette()
  assert colors['accent'] == '#0a63a8'  # Of the light theme.
  for look in draw.LOOKS.values():
    assert {look.fill, look.stroke} - {''} <= set(colors)


def test_names_are_broken_where_they_can_be():
  assert draw.wrapped('background=normal,object=mean', 125) == ['background=normal,', 'object=mean']
  assert draw.wrapped('none', 110) == ['none']
  lines = draw.wrapped('x' * 100, 110)
  assert len(lines) == 2
  assert lines[1].endswith('\u2026')
