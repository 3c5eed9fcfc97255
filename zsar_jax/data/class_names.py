"""Comparing class names that data sets, lists and folders write in different ways.

'ApplyEyeMakeup', 'apply_eye_makeup' and 'Apply eye make-up' are one class, and so are a name in
NFC and the same name in NFD, as macOS writes it into file names and archives. Names that differ in
a combining mark, or in a sign with a meaning of its own ('C++' and 'C#', '+1' and '-1'), are two.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

# Signs with a meaning that Unicode counts as punctuation.
_MEANINGFUL = '#%&@*'

# Written or left out at will, before NFKC makes combining marks of some of them.
_APOSTROPHES = dict.fromkeys(map(ord, '\'"`´‘’‚‛“”„‟′″ʹʼ'))

# Hyphens and dashes, as regular expressions write them between brackets.
_DASHES = '\\-\u2010-\u2015\u2212'

# A dash in front of a number, behind nothing that it could join the number to.
_MINUS = re.compile(rf'(?<![^\s_(\[])[{_DASHES}](?=\d)')

# White space, underscores and dashes, which stand for each other.
_SPACES = re.compile(rf'[\s_{_DASHES}]')

# They choose between pictures of the same sign.
_VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))


def to_nfc(text: str) -> str:
  """A text in NFC: names are kept and compared in this form."""
  return unicodedata.normalize('NFC', text)


def split_words(text: str) -> list[str]:
  """The words of a text: runs of letters, digits and combining marks, and each symbol."""
  spaced = (
    sign if _is_of_word(sign) else f' {sign} ' if _is_symbol(sign) else ' '
    for sign in _MINUS.sub('\u2212', text)
  )
  return ''.join(spaced).split()


def class_key(name: str) -> str:
  """A class name without case, spaces, underscores and punctuation.

  Letters, digits, combining marks and symbols remain, a minus before a number, and what parts two
  numbers: '1-11' is neither '11-1' nor '111'. Characters that are compatible in Unicode (NFKC)
  are the same, as they are to the tokenizers. A name of punctuation alone is its own key.
  """
  text = _folded(name.translate(_APOSTROPHES))
  text = _MINUS.sub('\u2212', text)
  kept, between = [], ''
  for sign in text:
    if _is_of_word(sign) or _is_symbol(sign):
      if between and kept and sign.isdecimal() and kept[-1].isdecimal():
        kept.append(_SPACES.sub('', between) or '_')
      kept.append(sign)
      between = ''
    else:
      between += sign
  return ''.join(kept) or _spelling(name)


def match_classes(names: Iterable[str], vocabulary: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """Finds the classes of a vocabulary that names mean.

  A name means the class that is written as it is; or else those that differ in case, spaces and
  underscores only; or else those that differ in punctuation only. So a vocabulary may have classes
  that are told apart by their punctuation alone.

  Args:
    names: in any spelling, each maybe more than once.
    vocabulary: the class names.

  Returns:
    For each name the classes that it means: none, one, or several where the name does not say
    which.
  """
  meant: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
  for spell in _SPELLINGS:
    classes: dict[str, dict[str, None]] = {}
    for name in vocabulary:
      classes.setdefault(spell(name), {})[name] = None
    for name, others in meant.items():
      if not others:
        meant[name] = tuple(classes.get(spell(name), ()))
  return meant


def unique_classes(names: Iterable[str]) -> tuple[str, ...]:
  """The different classes among names, sorted; names may differ in case, spaces and underscores."""
  classes: dict[str, str] = {}
  for name in sorted(set(names)):
    classes.setdefault(_spelling(name), name)
  return tuple(classes.values())


def _is_of_word(sign: str) -> bool:
  return unicodedata.category(sign)[0] in 'LMN'


def _is_symbol(sign: str) -> bool:
  return sign in _MEANINGFUL or unicodedata.category(sign)[0] == 'S'


def _folded(text: str) -> str:
  """A text in NFKC without case and without what is not seen."""
  # Case folding parts the dot from the capital that Turkish writes it on.
  text = unicodedata.normalize('NFKC', text).casefold().replace('i\u0307', 'i')
  text = ''.join(
    sign for sign in text if unicodedata.category(sign) != 'Cf' and sign not in _VARIATION_SELECTORS
  )
  return unicodedata.normalize('NFKC', text)


def _spelling(name: str) -> str:
  """A name without case, spaces and underscores, with its punctuation; '1 11' is not '11 1'."""
  text = re.sub(r'[\s_]+', '_', _folded(name))
  return re.sub(r'(?<!\d)_|_(?!\d)', '', text) or name


# From the strictest to the loosest.
_SPELLINGS: tuple[Callable[[str], str], ...] = (to_nfc, _spelling, class_key)
