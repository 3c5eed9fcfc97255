"""Drawings: one description of a figure for the page, for SVG files and for PDF files.

A drawing is a list of marks at positions in CSS pixels, from the top left; 320 pixels are the width
of a column of a paper. A mark has a look, a name in `LOOKS`, whose colors are variables of
style.css: on the page they are those of the light or of the dark theme, in files those of the light
theme. To add a figure, write a function that returns a `Drawing`. A template shows it and links its
files so:

    {{ drawing.svg() }}{{ paper.files(block.stem ~ '-NAME', drawing) }}
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from zsar_jax.study.report.foreign_text import clean, undirected

# Pixels of a figure that fills the column of a paper, or the width of a phone.
COLUMN = 320

# The mean width of a letter by the font's size, that of wide fonts.
_LETTER_WIDTH = 0.6


class Look(NamedTuple):
  """How a mark looks.

  Attributes:
    fill, stroke: names of color variables of style.css; '' for none.
    width: width of the stroke in pixels.
    dash: lengths of dashes and gaps in pixels.
    size: size of the font in pixels.
  """

  fill: str = ''
  stroke: str = ''
  width: float = 1.0
  dash: tuple[int, ...] = ()
  size: float = 11.0


LOOKS = {
  'text': Look('soft'),
  'label': Look('ink'),
  'value': Look('ink'),
  'small': Look('soft', size=9.5),
  'on-dark': Look('on-dark'),
  'on-person': Look('on-person'),
  'on-part': Look('on-part'),
  'grid': Look(stroke='grid'),
  'zero': Look(stroke='base'),
  'whisker': Look(stroke='whisker', width=1.25),
  'chance': Look(stroke='ink', width=1.25, dash=(3, 3)),
  'threshold': Look(stroke='no', width=1.5, dash=(4, 3)),
  'base': Look('base'),
  'run': Look('accent'),
  'more': Look('accent'),
  'less': Look('less'),
  'unsure': Look('unsure'),
  'dot': Look('paper', 'accent', 2),
  'diamond': Look('ink'),
  'part-person': Look('part-person'),
  'part-object': Look('part-object'),
  'part-background': Look('part-background'),
  'line-base': Look(stroke='base', width=1.75),
  'line-run': Look(stroke='accent', width=1.75),
  'seed0': Look(stroke='seed0', width=1.75),
  'seed1': Look(stroke='seed1', width=1.75, dash=(5, 2)),
  'seed2': Look(stroke='seed2', width=1.75, dash=(2, 2)),
  'seed3': Look(stroke='seed3', width=1.75, dash=(7, 2, 2, 2)),
  # Cells of heat maps, and their text on light colors.
  **{f'h{step}': Look(f'h{step}') for step in range(10)},
  **{f'd{step}': Look(f'd{step}') for step in range(-5, 6) if step},
  'quiet': Look('quiet'),
}


@dataclasses.dataclass(frozen=True)
class Path:
  """Straight lines through points.

  Attributes:
    points: (x, y) of each point.
    look: a name in `LOOKS`.
    closed: whether the last point is joined with the first.
  """

  points: Sequence[tuple[float, float]]
  look: str
  closed: bool = False


@dataclasses.dataclass(frozen=True)
class Rect:
  """A rectangle; its position is that of the top left corner."""

  x: float
  y: float
  width: float
  height: float
  look: str


@dataclasses.dataclass(frozen=True)
class Circle:
  """A circle about a center."""

  x: float
  y: float
  radius: float
  look: str


@dataclasses.dataclass(frozen=True)
class Text:
  """A text on one line.

  Attributes:
    x, y: where the line of the text begins, ends, or has its middle, as `anchor` says.
    text: may be foreign.
    look: a name in `LOOKS`.
    anchor: 'start', 'middle' or 'end'.
    upward: whether the text runs upward instead of to the right.
  """

  x: float
  y: float
  text: str
  look: str = 'text'
  anchor: str = 'start'
  upward: bool = False


@dataclasses.dataclass(frozen=True)
class Group:
  """Marks with a tooltip."""

  title: str
  marks: Sequence['Mark']


Mark = Path | Rect | Circle | Text | Group


@dataclasses.dataclass(frozen=True)
class Drawing:
  """A figure.

  Attributes:
    width, height: in pixels.
    text: what it shows, the text alternative on the page and the description in files.
    marks: later ones lie on top.
  """

  width: float
  height: float
  text: str
  marks: Sequence[Mark]

  def svg(self) -> Markup:
    """Returns the drawing as an element of the page, whose style has the looks."""
    return Markup(
      f'<svg class="figure" viewBox="0 0 {_number(self.width)} {_number(self.height)}"'
      f' width="{_number(self.width)}" height="{_number(self.height)}" role="img"'
      f' aria-label="{_escaped(self.text)}"><title>{_escaped(self.text)}</title>'
      f'{_elements(self.marks, _css_class)}</svg>'
    )

  def svg_file(self, colors: dict[str, str]) -> str:
    """Returns the text of an SVG file, without a style sheet, which not all programs read.

    Args:
      colors: the value of each color variable.
    """
    return (
      '<?xml version="1.0" encoding="UTF-8"?>\n'
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(self.width)}'
      f' {_number(self.height)}" width="{_number(0.75 * self.width)}pt"'
      f' height="{_number(0.75 * self.height)}pt" font-family="Helvetica, Arial, sans-serif">'
      f'<title>{_escaped(self.text)}</title>'
      f'{_elements(self.marks, lambda look: _attributes(LOOKS[look], colors))}</svg>\n'
    )


def css() -> str:
  """Returns the style rules of all looks for the page."""
  rules = []
  for name, look in LOOKS.items():
    values = [
      f'fill: var(--{look.fill})' if look.fill else 'fill: none',
      f'stroke: var(--{look.stroke}); stroke-width: {look.width}' if look.stroke else '',
      f'stroke-dasharray: {" ".join(map(str, look.dash))}' if look.dash else '',
      f'font-size: {look.size}px' if look.size != Look().size else '',
    ]
    rules.append(f'.figure .{name} {{ {"; ".join(filter(None, values))} }}')
  return '\n'.join(rules) + '\n'


def wrapped(text: str, width: float, lines: int = 2, size: float = 11.0) -> list[str]:
  """Breaks a name over lines, after one of the characters = , . / _ or a space where it can.

  Args:
    text: a name; what does not fit ends in an ellipsis.
    width: the width of a line in pixels.
    lines: how many lines there are at most.
    size: the size of the font in pixels.
  """
  room = max(4, int(width / (_LETTER_WIDTH * size)))
  text, result = ' '.join(undirected(clean(text)).split()), []
  while len(text) > room and len(result) < lines - 1:
    end = max((text.rfind(mark, 0, room) for mark in '=,./_ -'), default=-1) + 1
    end = end if end > room // 3 else room
    result.append(text[:end].rstrip())
    text = text[end:].lstrip()
  return [*result, text if len(text) <= room else f'{text[: room - 1]}\u2026']


def label(
  x: float, middle: float, text: str, width: float, look: str = 'label', anchor: str = 'start'
) -> list[Mark]:
  """Returns a name on at most two lines, about a vertical position."""
  size = LOOKS[look].size
  lines = wrapped(text, width, size=size)
  first = middle + 0.36 * size - (len(lines) - 1) * 0.55 * size
  return [
    Text(x, first + number * 1.1 * size, line, look, anchor) for number, line in enumerate(lines)
  ]


def line(x1: float, y1: float, x2: float, y2: float, look: str) -> Path:
  """Returns a line between two points."""
  return Path(((x1, y1), (x2, y2)), look)


def horizontal_whisker(low: float, high: float, y: float) -> list[Mark]:
  """Returns an interval as a line with two ends."""
  return [
    line(low, y, high, y, 'whisker'),
    *(line(end, y - 3, end, y + 3, 'whisker') for end in (low, high)),
  ]


def _elements(marks: Iterable[Mark], style: Callable[[str], str]) -> str:
  return ''.join(_element(mark, style) for mark in marks)


def _element(mark: Mark, style: Callable[[str], str]) -> str:
  if isinstance(mark, Group):
    return f'<g><title>{_escaped(mark.title)}</title>{_elements(mark.marks, style)}</g>'
  look = style(mark.look)
  if isinstance(mark, Rect):
    return (
      f'<rect x="{_number(mark.x)}" y="{_number(mark.y)}" width="{_number(mark.width)}"'
      f' height="{_number(mark.height)}" {look}/>'
    )
  if isinstance(mark, Circle):
    return (
      f'<circle cx="{_number(mark.x)}" cy="{_number(mark.y)}" r="{_number(mark.radius)}" {look}/>'
    )
  if isinstance(mark, Path):
    points = 'L'.join(f'{_number(x)} {_number(y)}' for x, y in mark.points)
    return f'<path d="M{points}{"Z" if mark.closed else ""}" {look}/>'
  x, y = _number(mark.x), _number(mark.y)
  anchor = '' if mark.anchor == 'start' else f' text-anchor="{mark.anchor}"'
  turn = f' transform="rotate(-90 {x} {y})"' if mark.upward else ''
  text = _escaped(undirected(mark.text))
  return f'<text x="{x}" y="{y}"{anchor}{turn} {look}>{text}</text>'


def _css_class(look: str) -> str:
  return f'class="{look}"'


def _attributes(look: Look, colors: dict[str, str]) -> str:
  parts = [f'fill="{colors[look.fill] if look.fill else "none"}"']
  if look.stroke:
    parts.append(f'stroke="{colors[look.stroke]}" stroke-width="{look.width}"')
  if look.dash:
    parts.append(f'stroke-dasharray="{" ".join(map(str, look.dash))}"')
  return ' '.join([*parts, f'font-size="{look.size:g}"'])


def _number(value: float) -> str:
  """A position, to a tenth of a pixel."""
  return f'{value:.1f}'.removesuffix('.0')


def _escaped(text: str) -> str:
  return str(escape(clean(text)))
