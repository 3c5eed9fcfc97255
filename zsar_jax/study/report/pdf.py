"""Writes drawings as PDF files: vector graphics, and text that can be selected and searched.

The font is embedded as TrueType, as publishers require: DejaVu Sans, which comes with Matplotlib,
reduced to the characters that the drawings have. Matplotlib itself would reduce it for each file,
which takes a minute for the figures of a large study.
"""

import functools
import io
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
from fontTools import subset, ttLib

from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report.foreign_text import clean, undirected

# DejaVu Sans is wider than the page's fonts.
_FONT_SCALE = 0.9

# Points per pixel.
_SCALE = 0.75

# Control points of a quarter of a circle, as a share of its radius.
_ARC = 0.5523


def pdf_files(drawings: Mapping[str, draw.Drawing], colors: Mapping[str, str]) -> dict[str, bytes]:
  """Returns the PDF file of each drawing.

  Args:
    drawings: the drawings by any name.
    colors: the value of each color variable, such as '#0a63a8'.
  """
  if not drawings:
    return {}
  texts = (text.text for drawing in drawings.values() for text in _texts(drawing.marks))
  font = _Font(set().union(*map(_shown, texts), {' '}))
  return {name: _file(drawing, font, colors) for name, drawing in drawings.items()}


def _texts(marks: Iterable[draw.Mark]) -> Iterable[draw.Text]:
  for mark in marks:
    if isinstance(mark, draw.Group):
      yield from _texts(mark.marks)
    elif isinstance(mark, draw.Text):
      yield mark


def _shown(text: str) -> str:
  return undirected(clean(text)).replace('\u202f', '\u00a0')


class _Font:
  """A part of a font: its glyphs, and the objects of a PDF file that embed it."""

  def __init__(self, characters: Iterable[str]):
    """Reduces the font to some characters."""
    path = pathlib.Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
    options = subset.Options(hinting=False, layout_features=[], notdef_outline=True)
    options.drop_tables += ['FFTM']  # fontTools warns of it.
    font = ttLib.TTFont(path)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[ord(character) for character in characters])
    subsetter.subset(font)
    buffer = io.BytesIO()
    font.save(buffer)
    self._file = buffer.getvalue()
    font = ttLib.TTFont(io.BytesIO(self._file))
    units = font['head'].unitsPerEm
    self._glyphs = {chr(code): font.getGlyphID(name) for code, name in font.getBestCmap().items()}
    self._widths = [round(1000 * font['hmtx'][name][0] / units) for name in font.getGlyphOrder()]
    head, hhea = font['head'], font['hhea']
    self._box = [round(1000 * v / units) for v in (head.xMin, head.yMin, head.xMax, head.yMax)]
    self._lines = [round(1000 * v / units) for v in (hhea.ascent, hhea.descent)]

  def glyphs(self, text: str) -> list[int]:
    """Returns the glyph of each character; that of a missing character is 0, an empty box."""
    return [self._glyphs.get(character, 0) for character in _shown(text)]

  def width(self, text: str) -> float:
    """Returns the width of a text at size 1."""
    return sum(self._widths[glyph] for glyph in self.glyphs(text)) / 1000

  @functools.cached_property
  def objects(self) -> list[bytes]:
    """The PDF objects 5 to 9: the font, its glyphs, their description, its file, its characters."""
    name = '/AAAAAA+DejaVuSans'
    ascent, descent = self._lines
    pairs = [
      f'<{glyph:04x}> <{character.encode("utf-16-be").hex()}>'
      for character, glyph in self._glyphs.items()
    ]
    blocks = [pairs[start : start + 100] for start in range(0, len(pairs), 100)]
    characters = '\n'.join([
      '/CIDInit /ProcSet findresource begin 12 dict begin begincmap',
      '/CMapName /Adobe-Identity-UCS def /CMapType 2 def',
      '1 begincodespacerange <0000> <ffff> endcodespacerange',
      *(f'{len(block)} beginbfchar\n' + '\n'.join(block) + '\nendbfchar' for block in blocks),
      'endcmap CMapName currentdict /CMap defineresource pop end end',
    ])  # fmt: skip
    return [
      f'<< /Type /Font /Subtype /Type0 /BaseFont {name} /Encoding /Identity-H'
      ' /DescendantFonts [6 0 R] /ToUnicode 9 0 R >>'.encode(),
      f'<< /Type /Font /Subtype /CIDFontType2 /BaseFont {name} /CIDToGIDMap /Identity'
      ' /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>'
      f' /FontDescriptor 7 0 R /W [0 [{" ".join(map(str, self._widths))}]] >>'.encode(),
      f'<< /Type /FontDescriptor /FontName {name} /Flags 4 /ItalicAngle 0 /StemV 80'
      f' /FontBBox [{" ".join(map(str, self._box))}] /Ascent {ascent} /Descent {descent}'
      f' /CapHeight 729 /FontFile2 8 0 R >>'.encode(),
      _stream(self._file, f' /Length1 {len(self._file)}'),
      _stream(characters.encode()),
    ]


def _stream(content: bytes, entries: str = '') -> bytes:
  packed = zlib.compress(content, 9)
  head = f'<< /Length {len(packed)} /Filter /FlateDecode{entries} >>\nstream\n'.encode()
  return head + packed + b'\nendstream'


def _file(drawing: draw.Drawing, font: _Font, colors: Mapping[str, str]) -> bytes:
  width, height = _SCALE * drawing.width, _SCALE * drawing.height
  # From here on, a unit is a pixel, and y counts from the top.
  content = [f'{_SCALE} 0 0 {-_SCALE} 0 {height:.2f} cm']
  for mark in drawing.marks:
    content += _operators(mark, font, colors)
  title = clean(drawing.text).encode('utf-16-be', 'replace').hex()
  objects = [
    b'<< /Type /Catalog /Pages 2 0 R >>',
    b'<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    f'<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.2f} {height:.2f}] /Contents 4 0 R'
    ' /Resources << /Font << /F 5 0 R >> >> >>'.encode(),
    _stream('\n'.join(content).encode()),
    *font.objects,
    f'<< /Title <feff{title}> >>'.encode(),
  ]
  file = bytearray(b'%PDF-1.5\n%\xe2\xe3\xcf\xd3\n')
  offsets = []
  for number, entry in enumerate(objects, start=1):
    offsets.append(len(file))
    file += b'%d 0 obj\n' % number + entry + b'\nendobj\n'
  start = len(file)
  file += b'xref\n0 %d\n0000000000 65535 f \n' % (len(objects) + 1)
  file += b''.join(b'%010d 00000 n \n' % offset for offset in offsets)
  file += b'trailer\n<< /Size %d /Root 1 0 R /Info 10 0 R >>\n' % (len(objects) + 1)
  return bytes(file + b'startxref\n%d\n%%%%EOF\n' % start)


def _operators(mark: draw.Mark, font: _Font, colors: Mapping[str, str]) -> list[str]:
  """The operators that draw a mark."""
  if isinstance(mark, draw.Group):
    return [operator for part in mark.marks for operator in _operators(part, font, colors)]
  look = draw.LOOKS[mark.look]
  if isinstance(mark, draw.Text):
    return [_text_operators(mark, look, font, colors)]
  shape = _shape(mark)
  paint = {(True, False): 'f', (False, True): 'S', (True, True): 'B'}
  state = [f'{_rgb(colors[look.fill])} rg'] if look.fill else []
  if look.stroke:
    dash = ' '.join(map(str, look.dash))
    state += [f'{_rgb(colors[look.stroke])} RG', f'{look.width} w [{dash}] 0 d']
  return [*state, shape, paint[bool(look.fill), bool(look.stroke)]]


def _text_operators(
  mark: draw.Text, look: draw.Look, font: _Font, colors: Mapping[str, str]
) -> str:
  size = _FONT_SCALE * look.size
  shift = {'start': 0.0, 'middle': 0.5, 'end': 1.0}[mark.anchor] * size * font.width(mark.text)
  # The second axis is turned around, as that of the page is.
  turn = '0 -1 -1 0' if mark.upward else '1 0 0 -1'
  x, y = (mark.x, mark.y + shift) if mark.upward else (mark.x - shift, mark.y)
  glyphs = ''.join(f'{glyph:04x}' for glyph in font.glyphs(mark.text))
  return (
    f'BT {_rgb(colors[look.fill])} rg /F {size:.2f} Tf {turn} {x:.2f} {y:.2f} Tm <{glyphs}> Tj ET'
  )


def _shape(mark: Any) -> str:
  """The operators of a shape's outline."""
  if isinstance(mark, draw.Rect):
    return f'{mark.x:.2f} {mark.y:.2f} {mark.width:.2f} {mark.height:.2f} re'
  if isinstance(mark, draw.Path):
    lines = [
      f'{x:.2f} {y:.2f} {"l" if number else "m"}' for number, (x, y) in enumerate(mark.points)
    ]
    return ' '.join([*lines, 'h'] if mark.closed else lines)
  x, y, radius, arc = mark.x, mark.y, mark.radius, _ARC * mark.radius
  parts = [f'{x + radius:.2f} {y:.2f} m']
  # A quarter goes from the direction (a, b) to (-b, a).
  for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1)):
    points = (
      (x + radius * a - arc * b, y + radius * b + arc * a),
      (x - radius * b + arc * a, y + radius * a + arc * b),
      (x - radius * b, y + radius * a),
    )
    parts.append(' '.join(f'{px:.2f} {py:.2f}' for px, py in points) + ' c')
  return ' '.join([*parts, 'h'])


def _rgb(color: str) -> str:
  """The parts of a color such as '#0a63a8', in 0 to 1."""
  return ' '.join(f'{int(color[start : start + 2], 16) / 255:.3f}' for start in (1, 3, 5))
