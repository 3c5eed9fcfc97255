"""Chooses fonts for pictures with letters that matplotlib's own font lacks."""

import contextlib
import logging
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import font_manager

# The font that comes with matplotlib; it is used for every letter that it has.
_DEFAULT = 'DejaVu Sans'

# This logger warns about each font that has no bold face.
logging.getLogger('matplotlib.font_manager').setLevel(logging.ERROR)

# Fonts that draw every letter as a box, or as nothing.
_PLACEHOLDERS = ('Last Resort', 'Adobe Blank')

# Categories of the Unicode standard without glyphs: control, format and space.
_WITHOUT_GLYPH = ('Cc', 'Cf', 'Zs', 'Zl', 'Zp')


@contextlib.contextmanager
def fonts_for(texts: Iterable[str], picture: str) -> Iterator[None]:
  """Makes matplotlib use fonts of this system that have the letters of some texts.

  Letters without a font are drawn as boxes, and a message on stderr asks for a font.

  Args:
    texts: all texts that will be drawn.
    picture: the file, for the message.
  """
  families, missing = choose_fonts(set(''.join(texts)))
  if missing:
    letters = ' '.join(sorted(missing)[:5]) + (' ...' if len(missing) > 5 else '')
    print(
      f'{picture}: no font on this system has {letters}, so boxes replace them; install a font'
      ' that has them, such as one of Noto (packages fonts-noto, fonts-noto-cjk), and draw again',
      file=sys.stderr,
    )
  with matplotlib.rc_context({'font.family': families}), warnings.catch_warnings():
    warnings.filterwarnings('ignore', r'Glyph \d+ ')  # The message above replaces these.
    yield


def choose_fonts(letters: set[str]) -> tuple[list[str], set[str]]:
  """Chooses fonts for letters.

  Returns:
    families: the fonts, in order of preference.
    missing: the letters that no font has.
  """
  families = [_DEFAULT]
  missing = {x for x in letters if unicodedata.category(x) not in _WITHOUT_GLYPH}
  missing -= _supported(font_manager.findfont(_DEFAULT), missing)
  if not missing:
    return families, missing
  letters_of: dict[str, set[str]] = {}
  for font in _system_fonts():
    letters_of.setdefault(font.name, set()).update(_supported(font.fname, missing))
  while missing and letters_of:
    # Ties are broken by name, so that a picture looks the same each time.
    best = min(letters_of, key=lambda name: (-len(letters_of[name] & missing), name))
    if not letters_of[best] & missing:
      break
    families.append(best)
    missing -= letters_of.pop(best)
  return families, missing


def _system_fonts() -> list[font_manager.FontEntry]:
  """Returns the upright fonts of this system, including any that matplotlib's cache lacks."""
  manager = font_manager.fontManager
  cached = {font.fname for font in manager.ttflist}
  for path in font_manager.findSystemFonts():
    if path not in cached:
      with contextlib.suppress(Exception):  # FreeType raises many types for unreadable files.
        manager.addfont(path)
  return [
    font
    for font in manager.ttflist
    if font.style == 'normal' and not font.name.startswith(_PLACEHOLDERS)
  ]


def _supported(path: str, letters: set[str]) -> set[str]:
  """Returns the letters that a font file has."""
  try:
    glyphs = font_manager.get_font(path).get_charmap()
  except (OSError, RuntimeError):
    return set()
  return {letter for letter in letters if ord(letter) in glyphs}
