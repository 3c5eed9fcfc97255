"""Class names as people would say them, before they are written into prompts."""

import re
from collections.abc import Sequence

from zsar_jax.errors import UserError
from zsar_jax.text.tokenizers import clean

PLACEHOLDERS = ('keep', 'drop')

# Where a word begins in CamelCase: behind a small letter or a digit, and before the last of
# several capitals: 'YoYo', 'BMXRiding'.
_WORD_START = re.compile(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])')
_PLACEHOLDER = re.compile(r'\[([^\[\]]*)\]')


def render(texts: Sequence[str], split_words: bool, placeholders: str) -> list[str]:
  """Makes class texts readable, as `config.text` says.

  Args:
    texts: C class names, or what the data set calls the classes.
    split_words: whether underscores become spaces, and CamelCase words. A text that already
      holds spaces keeps its capitals as they are.
    placeholders: '[something]', which stands for an object, becomes a word ('keep') or goes
      ('drop').

  Returns:
    C texts.

  Raises:
    UserError: two classes end up with the same text, or one with none.
  """
  rendered, seen = [], {}
  for text in texts:
    readable = _placeholders(_split(text) if split_words else text, placeholders)
    if not readable:
      raise UserError(
        f'config.text.placeholders: without placeholders nothing is left of the class {text!r}; set'
        " it to 'keep'"
      )
    other = seen.setdefault(clean(readable), text)
    if other != text:
      raise UserError(
        f'config.text: the classes {other!r} and {text!r} both read {readable!r}; change'
        ' config.text.split_words or config.text.placeholders, or evaluate one of them only'
      )
    rendered.append(readable)
  return rendered


def _split(text: str) -> str:
  words = text.replace('_', ' ')
  return words if ' ' in text else _WORD_START.sub(' ', words)


def _placeholders(text: str, placeholders: str) -> str:
  if '[' not in text:
    return text
  if placeholders == 'keep':
    return _PLACEHOLDER.sub(r'\1', text)
  rest = ' '.join(_PLACEHOLDER.sub('', text).split())
  return re.sub(r' (?=[,.;])', '', rest)
