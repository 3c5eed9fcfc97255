"""Rewrites class names as people would say them, before they are written into templates."""

import re
from collections.abc import Sequence

from zsar_jax.errors import UserError
from zsar_jax.text.tokenizers import clean

PLACEHOLDERS = ('keep', 'drop')

# Where a word begins in CamelCase: at a capital after a lower-case letter or a digit ('YoYo'), and
# at the last of several capitals ('BMXRiding').
_WORD_START = re.compile(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])')
_PLACEHOLDER = re.compile(r'\[([^\[\]]*)\]')


def render(
  texts: Sequence[str], split_words: bool, placeholders: str, field: str = 'classes'
) -> list[str]:
  """Makes class texts readable.

  Args:
    texts: C class names, or the data set's texts for the classes.
    split_words: whether to turn underscores into spaces and to split CamelCase into words. A text
      that has spaces already is not split at capitals.
    placeholders: what to do with '[something]', which stands for an object: replace it by the word
      ('keep') or remove it ('drop').
    field: what errors call the setting that the texts come from.

  Returns:
    C texts.

  Raises:
    UserError: if two classes get the same text, or a class an empty one.
  """
  rendered, class_of_text = [], {}
  for text in texts:
    readable = _render_placeholders(_split(text) if split_words else text, placeholders)
    if not readable:
      raise UserError(
        f'{field}: nothing is left of the class {text!r} without its placeholders; set placeholders'
        " to 'keep'"
      )
    other = class_of_text.setdefault(clean(readable), text)
    if other != text:
      raise UserError(
        f'{field}: the classes {other!r} and {text!r} both read {readable!r}; change split_words or'
        ' placeholders, or take only one of the classes'
      )
    rendered.append(readable)
  return rendered


def _split(text: str) -> str:
  words = text.replace('_', ' ')
  return words if ' ' in text else _WORD_START.sub(' ', words)


def _render_placeholders(text: str, placeholders: str) -> str:
  if '[' not in text:
    return text
  if placeholders == 'keep':
    return _PLACEHOLDER.sub(r'\1', text)
  remaining = ' '.join(_PLACEHOLDER.sub('', text).split())
  return re.sub(r' (?=[,.;])', '', remaining)
