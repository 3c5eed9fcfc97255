"""Fonts for pictures whose texts have letters that matplotlib's own font lacks."""

import contextlib
import logging
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import font_manager

# Comes with matplotlib and is used for every letter that it has.
_DEFAULT = 'DejaVu Sans'

# Says of each font that it has no bold.
logging.getLogger('matplotlib.font_manager').setLevel(logging.ERROR)

# Fonts that have a box or nothing for every letter there is.
_PLACEHOLDERS = ('Last Resort', 'Adobe Blank')

# Categories of the Unicode standard that have no glyph: control, format and space.
_WITHOUT_GLYPH = ('Cc', 'Cf', 'Zs', 'Zl', 'Zp')


@contextlib.contextmanager
def fonts_for(texts: Iterable[str], picture: str) -> Iterator[None]:
  """Draws text inside the block with fonts of this system that have its letters.

  Where there are none, one sentence on stderr asks for them, and boxes stand for the letters.

  Args:
    texts: all that will be drawn.
    picture: the file, for the sentence.
  """
  families, missing = choose_fonts(set(''.join(texts)))
  if missing:
    letters = ' '.join(sorted(missing)[:5]) + (' ...' if len(missing) > 5 else '')
    print(
      f'{picture}: no font on this system has {letters}, so boxes stand for them; install a font'
      ' that has them, such as one of Noto (packages fonts-noto, fonts-noto-cjk), and draw again',
      file=sys.stderr,
    )
  with matplotlib.rc_context({'font.family': families}), warnings.catch_warnings():
    warnings.filterwarnings('ignore', r'Glyph \d+ ')  # One for each letter, see above.
    yield


def choose_fonts(letters: set[str]) -> tuple[list[str], set[str]]:
  """The families to draw letters with, in order, and the letters that no font has."""
  families = [_DEFAULT]
  left = {x for x in letters if unicodedata.category(x) not in _WITHOUT_GLYPH}
  left -= _letters(font_manager.findfont(_DEFAULT), left)
  if not left:
    return families, left
  having: dict[str, set[str]] = {}
  for font in _fonts():
    having.setdefault(font.name, set()).update(_letters(font.fname, left))
  while left and having:
    # Of fonts that have as many, the first by name, so that a picture is the same again.
    best = min(having, key=lambda name: (-len(having[name] & left), name))
    if not having[best] & left:
      break
    families.append(best)
    left -= having.pop(best)
  return families, left


def _fonts() -> list[font_manager.FontEntry]:
  """The upright fonts of this system, those installed since matplotlib last looked included."""
  manager = font_manager.fontManager
  known = {font.fname for font in manager.ttflist}
  for path in font_manager.findSystemFonts():
    if path not in known:
      with contextlib.suppress(Exception):  # FreeType raises many kinds for a file it cannot read.
        manager.addfont(path)
  return [
    font
    for font in manager.ttflist
    if font.style == 'normal' and not font.name.startswith(_PLACEHOLDERS)
  ]


def _letters(path: str, letters: set[str]) -> set[str]:
  """Those of the letters that a font file has."""
  try:
    has = font_manager.get_font(path).get_charmap()
  except (OSError, RuntimeError):
    return set()
  return {letter for letter in letters if ord(letter) in has}
