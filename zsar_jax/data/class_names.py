"""Matches class names that data sets, lists and folders spell in different ways.

'ApplyEyeMakeup', 'apply_eye_makeup' and 'Apply eye make-up' are the same class, and so are a name
in Unicode's NFC and the same name in NFD, as macOS writes it into file names and archives. Names
are different classes if they differ in a combining mark, or in a character with a meaning of its
own: 'C++' and 'C#', '+1' and '-1'.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

# Characters with a meaning that Unicode counts as punctuation.
_MEANINGFUL = '#%&@*'

# Apostrophes may be left out. They are deleted before NFKC, which turns some of them into combining
# marks.
_APOSTROPHES = dict.fromkeys(map(ord, '\'"`´‘’‚‛“”„‟′″ʹʼ'))

# Hyphens and dashes, as in a character class of a regular expression.
_DASHES = '\\-\u2010-\u2015\u2212'

# A dash before a number, which follows nothing that the dash could join the number to.
_MINUS = re.compile(rf'(?<![^\s_(\[])[{_DASHES}](?=\d)')

# White space, underscores and dashes are interchangeable.
_SPACES = re.compile(rf'[\s_{_DASHES}]')

# Variation selectors select between pictures of the same character.
_VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))


def to_nfc(text: str) -> str:
  """Returns a text in NFC, the form in which names are stored and compared."""
  return unicodedata.normalize('NFC', text)


def split_words(text: str) -> list[str]:
  """Returns the words of a text: runs of letters, digits and combining marks, and each symbol."""
  spaced = (
    char if _is_word_char(char) else f' {char} ' if _is_symbol(char) else ' '
    for char in _MINUS.sub('\u2212', text)
  )
  return ''.join(spaced).split()


def class_key(name: str) -> str:
  """Returns a class name without case, spaces, underscores and punctuation.

  Letters, digits, combining marks and symbols remain, and so do a minus before a number and the
  characters between two numbers: '1-11' is neither '11-1' nor '111'. Characters that are compatible
  in Unicode (NFKC) are the same, as they are to the tokenizers. A name that consists of punctuation
  is its own key.
  """
  text = _fold(name.translate(_APOSTROPHES))
  text = _MINUS.sub('\u2212', text)
  kept: list[str] = []
  skipped = ''
  for char in text:
    if _is_word_char(char) or _is_symbol(char):
      if skipped and kept and char.isdecimal() and kept[-1].isdecimal():
        kept.append(_SPACES.sub('', skipped) or '_')
      kept.append(char)
      skipped = ''
    else:
      skipped += char
  return ''.join(kept) or _without_spaces(name)


def match_classes(names: Iterable[str], vocabulary: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """Returns the classes of a vocabulary that names refer to.

  A name refers to the class with the same spelling; if there is none, to those that differ only in
  case, spaces and underscores; and if there are none, to those that differ only in punctuation.
  Thus a vocabulary may have classes that differ only in their punctuation.

  Args:
    names: the names in any spelling; repetitions are allowed.
    vocabulary: the class names.

  Returns:
    For each name the classes that it refers to: none, one, or several if the name is ambiguous.
  """
  matches: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
  for normalize in _NORMALIZATIONS:
    classes: dict[str, dict[str, None]] = {}
    for name in vocabulary:
      classes.setdefault(normalize(name), {})[name] = None
    for name, matching in matches.items():
      if not matching:
        matches[name] = tuple(classes.get(normalize(name), ()))
  return matches


def unique_classes(names: Iterable[str]) -> tuple[str, ...]:
  """Returns one name per class, sorted; names of a class differ in case, spaces and underscores."""
  classes: dict[str, str] = {}
  for name in sorted(set(names)):
    classes.setdefault(_without_spaces(name), name)
  return tuple(classes.values())


def _is_word_char(char: str) -> bool:
  return unicodedata.category(char)[0] in 'LMN'


def _is_symbol(char: str) -> bool:
  return char in _MEANINGFUL or unicodedata.category(char)[0] == 'S'


def _fold(text: str) -> str:
  """Returns a text in NFKC without case and invisible characters."""
  # Case folding separates the dot from the Turkish capital I with a dot.
  text = unicodedata.normalize('NFKC', text).casefold().replace('i\u0307', 'i')
  text = ''.join(
    char for char in text if unicodedata.category(char) != 'Cf' and char not in _VARIATION_SELECTORS
  )
  return unicodedata.normalize('NFKC', text)


def _without_spaces(name: str) -> str:
  """Returns a name without case, spaces and underscores, except between two digits."""
  text = re.sub(r'[\s_]+', '_', _fold(name))
  return re.sub(r'(?<!\d)_|_(?!\d)', '', text) or name


# From the strictest to the loosest.
_NORMALIZATIONS: tuple[Callable[[str], str], ...] = (to_nfc, _without_spaces, class_key)
