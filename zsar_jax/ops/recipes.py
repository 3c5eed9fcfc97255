r"""Mask recipes: a short text that says which region of a clip gets which colour.

    recipe := 'none' | part (',' part)*
    part   := region '=' colour ['/frame'] ['@' probability] ['!']
    region := background | object | object_box | person | person_box
    colour := normal | uniform | mean | black | white | '#rrggbb'

A colour is drawn once for a clip, or with `/frame` once for each frame; `@0.5` paints
each clip with probability 0.5, drawn for each part on its own. A person comes before an
object and an object before the background: people stay visible under a painted object,
unless the part ends in `!`, and background is only what neither of them covers.
"""

import dataclasses
import re

from zsar_jax.errors import UserError

# From the lowest layer to the highest; a later part paints over an earlier one.
LAYERS = ('background', 'object', 'object_box', 'person', 'person_box')
RANDOM_COLOURS = ('normal', 'uniform')
COLOURS = (*RANDOM_COLOURS, 'mean', 'black', 'white')

_PART = re.compile(
  r'(?P<region>[^=]*)=(?P<colour>[^/@!]*)(?P<frame>/[^@!]*)?(?P<probability>@[^!]*)?(?P<whole>!)?'
)


@dataclasses.dataclass(frozen=True)
class Part:
  """One region of a recipe and how it is painted.

  Attributes:
    region: a name from `LAYERS`.
    colour: a name from `COLOURS`, or '#rrggbb'.
    per_frame: whether a random colour is drawn for each frame instead of each clip.
    probability: the share of clips painted, in (0, 1].
    whole: whether an object is painted also where a person covers it.
  """

  region: str
  colour: str
  per_frame: bool = False
  probability: float = 1.0
  whole: bool = False

  def __str__(self) -> str:
    frame = '/frame' if self.per_frame else ''
    probability = f'@{self.probability:g}' if self.probability < 1 else ''
    return f'{self.region}={self.colour}{frame}{probability}{"!" if self.whole else ""}'


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A parsed recipe: hashable, so that a jitted function can take it as a static argument.

  Attributes:
    parts: in the order of `LAYERS`, each region at most once; empty for 'none'.
  """

  parts: tuple[Part, ...] = ()

  def __str__(self) -> str:
    return ','.join(map(str, self.parts)) or 'none'

  @property
  def regions(self) -> frozenset[str]:
    """The names of the regions that the recipe paints."""
    return frozenset(part.region for part in self.parts)


def parse(text: str, field: str = 'recipe') -> Recipe:
  """Reads a recipe.

  Args:
    text: the recipe, see the head of this file; white space around words is allowed.
    field: where the text comes from, for the error.

  Raises:
    UserError: with the place and what is allowed there, where the text is no recipe.
  """
  if text.strip() == 'none':
    return Recipe()
  parts = {}
  start = 0
  for piece in text.split(','):
    part = _parse_part(piece, start, text, field)
    if part.region in parts:
      raise _error(text, field, start, piece, f'{part.region} is painted twice; keep one of them')
    parts[part.region] = part
    start += len(piece) + 1
  return Recipe(tuple(sorted(parts.values(), key=lambda part: LAYERS.index(part.region))))


def _parse_part(piece: str, start: int, text: str, field: str) -> Part:
  match = _PART.fullmatch(piece)
  if not match:
    raise _error(text, field, start, piece, "write REGION=COLOUR, or 'none' alone")

  def fail(group: str, remedy: str) -> UserError:
    return _error(text, field, start + match.start(group), match[group], remedy)

  region, colour = match['region'].strip(), match['colour'].strip()
  if region not in LAYERS:
    raise fail('region', f'the regions are {", ".join(LAYERS)}')
  if colour not in COLOURS and not re.fullmatch('#[0-9a-fA-F]{6}', colour):
    raise fail('colour', f'the colours are {", ".join(COLOURS)} and #rrggbb')
  per_frame = match['frame'] is not None
  if per_frame and (match['frame'].strip() != '/frame' or colour not in RANDOM_COLOURS):
    raise fail('frame', "only '/frame' can stand here, after normal or uniform")
  probability = 1.0
  if match['probability']:
    try:
      probability = float(match['probability'][1:])
    except ValueError:
      probability = 0.0
    if not 0 < probability <= 1:
      raise fail('probability', 'a probability lies above 0 and at most at 1')
  whole = match['whole'] is not None
  if whole and region not in ('object', 'object_box'):
    raise fail('whole', "only object and object_box can end in '!'")
  return Part(region, colour.lower(), per_frame, probability, whole)


def _error(text: str, field: str, start: int, piece: str, remedy: str) -> UserError:
  return UserError(
    f'{field}: cannot read the recipe {text!r} at character {start + 1}, {piece!r}: {remedy}'
  )
