r"""Mask recipes: a short text that says what happens to a clip before the model sees it.

    recipe := 'none' | part (',' part)*
    part   := region '=' fill ['/frame' | '/other'] ['@' probability] ['!']
            | effect ['@' probability]
    region := background | object | object_box | person | person_box
    fill   := normal | uniform | mean | black | white | '#rrggbb' | stripes | swap
    effect := actorcutmix | be | fame | stillmix | stillmix_bank | freeze

A color is drawn once for a clip, or with `/frame` once for each frame; `/other` takes another draw
than the recipe without it. `stripes` and `swap`, the background of another clip, only the
background can have. `@0.5` changes each clip with probability 0.5, drawn for each part on its
own. A person comes before an object and an object before the background: people stay visible
under a painted object, unless the part ends in `!`, and background is only what neither of them
covers. Effects come before the painting, in the order above; `freeze`, which repeats one
frame, comes after it.
"""

import dataclasses
import re

from zsar_jax.errors import UserError

# From the lowest layer to the highest; a later part paints over an earlier one.
LAYERS = ('background', 'object', 'object_box', 'person', 'person_box')
RANDOM_COLORS = ('normal', 'uniform')
COLORS = (*RANDOM_COLORS, 'mean', 'black', 'white')
# What else the background can be.
BACKGROUND_FILLS = ('stripes', 'swap')

# In the order in which they are applied; what they do is in `ops.baselines`.
EFFECTS = ('actorcutmix', 'be', 'fame', 'stillmix', 'stillmix_bank', 'freeze')
# Those that take something from another clip.
_PARTNER_EFFECTS = ('actorcutmix', 'fame', 'stillmix')

_PART = re.compile(
  r'(?P<region>[^=@]*)=(?P<fill>[^/@!]*)(?P<draw>/[^@!]*)?(?P<probability>@[^!]*)?(?P<over_people>!)?'
)
_EFFECT = re.compile(r'(?P<effect>[^=@!]+)(?P<probability>@.*)?')


@dataclasses.dataclass(frozen=True)
class Part:
  """One region of a recipe and how it is painted.

  Attributes:
    region: a name from `LAYERS`.
    fill: a name from `COLORS` or `BACKGROUND_FILLS`, or '#rrggbb'.
    draw: 'clip' for a random fill that is drawn once for a clip, 'frame' for a color that is
      drawn for each frame, 'other' for another draw than that of 'clip'.
    probability: the share of clips painted, in (0, 1].
    over_people: whether an object is also painted where a person covers it.
  """

  region: str
  fill: str
  draw: str = 'clip'
  probability: float = 1.0
  over_people: bool = False

  def __str__(self) -> str:
    draw = '' if self.draw == 'clip' else f'/{self.draw}'
    return f'{self.region}={self.fill}{draw}{_share(self)}{"!" if self.over_people else ""}'


@dataclasses.dataclass(frozen=True)
class Effect:
  """Something that happens to a whole clip.

  Attributes:
    name: one of `EFFECTS`.
    probability: the share of clips that it happens to, in (0, 1].
  """

  name: str
  probability: float = 1.0

  def __str__(self) -> str:
    return f'{self.name}{_share(self)}'


def _share(part: Part | Effect) -> str:
  return f'@{part.probability!r}' if part.probability < 1 else ''


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A parsed recipe: hashable, so that a jitted function can take it as a static argument.

  Attributes:
    parts: in the order of `LAYERS`, each region at most once.
    effects: in the order of `EFFECTS`, each at most once. 'none' has neither.
  """

  parts: tuple[Part, ...] = ()
  effects: tuple[Effect, ...] = ()

  def __str__(self) -> str:
    # `freeze` stands where it is applied, at the end.
    first = [effect for effect in self.effects if effect.name != 'freeze']
    return ','.join(map(str, (*first, *self.parts, *self.effects[len(first) :]))) or 'none'

  @property
  def regions(self) -> frozenset[str]:
    """The names of the regions that the recipe needs to know."""
    actors = {'person'} if self.effect('actorcutmix') else set()
    return frozenset({part.region for part in self.parts} | actors)

  @property
  def swap_part(self) -> Part | None:
    """The part that takes the background of another clip."""
    return next((part for part in self.parts if part.fill == 'swap'), None)

  @property
  def needs_partner(self) -> bool:
    """Whether a clip meets another one."""
    return bool(self.swap_part) or any(self.effect(name) for name in _PARTNER_EFFECTS)

  def effect(self, name: str) -> Effect | None:
    """The effect of that name, if the recipe has it."""
    return next((effect for effect in self.effects if effect.name == name), None)


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
  found: dict[str, Part | Effect] = {}
  start = 0
  for piece in text.split(','):
    part = _parse_piece(piece, start, text, field)
    name = part.region if isinstance(part, Part) else part.name
    if name in found:
      raise _error(text, field, start, piece, f'{name} is there twice; keep one of them')
    found[name] = part
    start += len(piece) + 1
  return Recipe(
    tuple(found[name] for name in LAYERS if name in found),
    tuple(found[name] for name in EFFECTS if name in found),
  )


def _parse_piece(piece: str, start: int, text: str, field: str) -> Part | Effect:
  def fail(match: re.Match[str], group: str, remedy: str) -> UserError:
    return _error(text, field, start + match.start(group), match[group], remedy)

  def probability(match: re.Match[str]) -> float:
    if not match['probability']:
      return 1.0
    try:
      share = float(match['probability'][1:])
    except ValueError:
      share = 0.0
    if not 0 < share <= 1:
      raise fail(match, 'probability', 'a probability lies above 0 and at most at 1')
    return share

  if match := _PART.fullmatch(piece):
    region, fill = match['region'].strip(), match['fill'].strip()
    if region not in LAYERS:
      raise fail(match, 'region', f'the regions are {", ".join(LAYERS)}')
    if fill in BACKGROUND_FILLS and region != 'background':
      raise fail(match, 'fill', f'only the background can be {fill}')
    if fill not in (*COLORS, *BACKGROUND_FILLS) and not re.fullmatch('#[0-9a-fA-F]{6}', fill):
      fills = ', '.join((*COLORS, *BACKGROUND_FILLS))
      raise fail(match, 'fill', f'the colors are {fills} and #rrggbb')
    draw = match['draw'].strip().removeprefix('/') if match['draw'] is not None else 'clip'
    draws = {'frame': RANDOM_COLORS, 'other': (*RANDOM_COLORS, 'stripes')}
    if match['draw'] is not None and fill not in draws.get(draw, ()):
      remedy = "only '/frame' and '/other' can stand here, after normal or uniform"
      raise fail(match, 'draw', remedy)
    over_people = match['over_people'] is not None
    if over_people and region not in ('object', 'object_box'):
      raise fail(match, 'over_people', "only object and object_box can end in '!'")
    return Part(region, fill.lower(), draw, probability(match), over_people)
  match = _EFFECT.fullmatch(piece)
  if match and match['effect'].strip() in EFFECTS:
    return Effect(match['effect'].strip(), probability(match))
  effects = ', '.join(EFFECTS)
  raise _error(
    text, field, start, piece, f"write REGION=COLOR or one of {effects}, or 'none' alone"
  )


def _error(text: str, field: str, start: int, piece: str, remedy: str) -> UserError:
  return UserError(
    f'{field}: cannot read the recipe {text!r} at character {start + 1}, {piece!r}: {remedy}'
  )
