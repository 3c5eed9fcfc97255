"""Makes foreign texts, such as class names and clip ids, safe to show in a document."""

import re

from markupsafe import Markup, escape

# Characters that XML excludes, and lone surrogates, which JSON can spell and UTF-8 cannot.
_UNFIT = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')

# Characters that set the direction of writing, also of the text that follows them.
_DIRECTION = re.compile('[\u200e\u200f\u202a-\u202e\u2066-\u2069]')


def clean(text: str) -> str:
  """Replaces characters that no document can hold by the replacement character."""
  return _UNFIT.sub('\ufffd', text)


def undirected(text: str) -> str:
  """Removes characters that set the direction of writing, for places without an element."""
  return _DIRECTION.sub('', text)


def isolated(text: str) -> str:
  """A foreign text for a tooltip, which cannot turn the direction of the text around it."""
  return f'\u2068{undirected(text)}\u2069'


def breakable(text: str) -> Markup:
  """HTML of a recipe or a dotted field, with a possible line break after its separators."""
  return Markup(re.sub(r'(?<=[=,./_])(?=.)', '<wbr/>', str(escape(clean(text)))))


def shortened(text: str, length: int) -> str:
  """The text, or its beginning and an ellipsis if it is longer than `length`."""
  return text if len(text) <= length else f'{text[: length - 1]}\u2026'
