"""HTML and SVG as escaped text: an element is made by a call, never by gluing text together.

What a study holds (class names, clip ids, settings) is from strangers. Every text that is not
`Markup` is escaped where it enters an element, so nothing can enter unescaped by oversight.
"""

import html
import re
from collections.abc import Iterable

# Elements that have no content; in inline SVG the same way of writing is valid.
_EMPTY = frozenset(('br', 'img', 'input', 'meta', 'wbr', 'circle', 'line', 'path', 'rect'))

# What XML cannot hold, lone surrogates (JSON can spell them, UTF-8 cannot), non-characters.
_UNFIT = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')

Content = 'str | Iterable[Content] | None'


class Markup(str):
  """Text that is markup already and is not escaped again."""

  __slots__ = ()


# Marks that turn or keep the direction of writing, also of what follows them.
_DIRECTION = re.compile('[\u200e\u200f\u202a-\u202e\u2066-\u2069]')


def undirected(text: str) -> str:
  """The text without marks of direction, for where no element keeps it apart."""
  return _DIRECTION.sub('', text)


def clean(text: str) -> str:
  """The text with what no document can hold replaced by the replacement character."""
  return _UNFIT.sub('\ufffd', text)


def join(*content: Content) -> Markup:
  """The content one after the other: `Markup` as it is, text escaped, None left out."""
  return Markup(''.join(_pieces(content)))


def _pieces(content: Iterable[Content]) -> Iterable[str]:
  for piece in content:
    if isinstance(piece, Markup):
      yield piece
    elif isinstance(piece, str):
      yield html.escape(clean(piece))
    elif piece is not None:
      yield from _pieces(piece)


def element(tag: str, *content: Content, **attributes: str | float | bool | None) -> Markup:
  """An element.

  Args:
    tag: its name.
    *content: what is in it, as in `join`.
    **attributes: underscores stand for hyphens, one at the end keeps clear of Python's words
      (`class_`). None and False leave an attribute out, True gives an empty value; numbers are
      written with at most two decimals.
  """
  text = ''.join(
    f' {name.rstrip("_").replace("_", "-")}="{html.escape(clean(_text(value)))}"'
    for name, value in attributes.items()
    if value is not None and value is not False
  )
  if tag in _EMPTY:
    return Markup(f'<{tag}{text}/>')
  return Markup(f'<{tag}{text}>{join(*content)}</{tag}>')


def _text(value: str | float | bool) -> str:
  if value is True:
    return ''
  return value if isinstance(value, str) else f'{value:.2f}'.rstrip('0').rstrip('.')


def breakable(text: str) -> Markup:
  """A recipe or a dotted field, which may be broken after its own signs."""
  parts = re.split(r'(?<=[=,./_])', text)
  return join([part, element('wbr')] if place < len(parts) - 1 else part
              for place, part in enumerate(parts))  # fmt: skip
