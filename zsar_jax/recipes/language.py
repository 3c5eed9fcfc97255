r"""The language of mask recipes: short texts that say how clips are changed for the model.

    recipe := 'none' | part (',' part)*
    part   := region '=' fill ['/frame' | '/other'] ['@' probability] ['!']
            | effect ['@' probability]
    region := background | object | object_box | person | person_box
    fill   := normal | uniform | mean | black | white | '#rrggbb' | stripes | swap | inpaint
    effect := actorcutmix | be | fame | stillmix | stillmix_bank | reverse | shuffle | freeze

A random color is drawn once per clip, or with `/frame` once per frame; `/other` gives a second,
independent draw. Only the background can have the fills `stripes` and `swap`, the background of
another clip. Only `person` can have the fill `inpaint`, what an inpainter has put in the place of
people. `@0.5` changes each clip with probability 0.5, drawn separately for each part. A
person takes precedence over an object, and an object over the background: people stay visible in
front of a painted object unless the part ends in `!`, and the background is what neither of them
covers. Effects are applied in the order above: `reverse`, `shuffle` and `freeze`, which change the
order of the frames, after painting, the others before it.
"""

import dataclasses
import re
from typing import Any

from zsar_jax.errors import UserError

# Regions from the lowest layer to the highest: a later part paints over an earlier one.
LAYERS = ('background', 'object', 'object_box', 'person', 'person_box')
RANDOM_COLORS = ('normal', 'uniform')
COLORS = (*RANDOM_COLORS, 'mean', 'black', 'white')
# Fills that only the background can have.
BACKGROUND_FILLS = ('stripes', 'swap')
# The fill that only the region `person` can have.
INPAINT = 'inpaint'
FILLS = (*COLORS, *BACKGROUND_FILLS, INPAINT)

# Effects in the order in which they are applied: those of `ops.baselines` before painting, those of
# `ops.frame_order` after it.
ORDER_EFFECTS = ('reverse', 'shuffle', 'freeze')
EFFECTS = ('actorcutmix', 'be', 'fame', 'stillmix', 'stillmix_bank', *ORDER_EFFECTS)
# Effects that combine a clip with another one.
_PARTNER_EFFECTS = ('actorcutmix', 'fame', 'stillmix')
# Effects that paste the people of a clip into another one. What is behind them there, no inpainter
# has seen.
_PASTING_EFFECTS = ('actorcutmix', 'fame')

_PART = re.compile(
  r'(?P<region>[^=@]*)=(?P<fill>[^/@!]*)(?P<draw>/[^@!]*)?(?P<probability>@[^!]*)?(?P<over_people>!)?'
)
_EFFECT = re.compile(r'(?P<effect>[^=@!]+)(?P<probability>@.*)?')


@dataclasses.dataclass(frozen=True)
class Part:
  """A region and how it is painted.

  Attributes:
    region: a name from `LAYERS`.
    fill: a name from `FILLS`, or '#rrggbb'.
    draw: 'clip' for a random fill that is drawn once per clip, 'frame' for a color that is drawn
      per frame, 'other' for a draw that is independent of that of 'clip'.
    probability: the probability that a clip is painted, in (0, 1].
    over_people: whether an object is also painted where a person covers it.
  """

  region: str
  fill: str
  draw: str = 'clip'
  probability: float = 1.0
  over_people: bool = False

  def __str__(self) -> str:
    draw = '' if self.draw == 'clip' else f'/{self.draw}'
    return (
      f'{self.region}={self.fill}{draw}{_probability_suffix(self)}{"!" if self.over_people else ""}'
    )


@dataclasses.dataclass(frozen=True)
class Effect:
  """A change of an entire clip.

  Attributes:
    name: one of `EFFECTS`.
    probability: the probability that a clip is changed, in (0, 1].
  """

  name: str
  probability: float = 1.0

  def __str__(self) -> str:
    return f'{self.name}{_probability_suffix(self)}'


def _probability_suffix(part: Part | Effect) -> str:
  return f'@{part.probability!r}' if part.probability < 1 else ''


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A parsed recipe. It is hashable, so that jitted functions can take it as a static argument.

  Attributes:
    parts: the parts in the order of `LAYERS`, each region at most once.
    effects: the effects in the order of `EFFECTS`, each at most once. The recipe 'none' has neither
      parts nor effects.
  """

  parts: tuple[Part, ...] = ()
  effects: tuple[Effect, ...] = ()

  def __str__(self) -> str:
    # A text has the effects and parts in the order in which they are applied.
    return ','.join(map(str, (*self.early_effects, *self.parts, *self.order_effects))) or 'none'

  @property
  def regions(self) -> frozenset[str]:
    """The names of the regions that must be known to apply the recipe."""
    effect_regions = {'person'} if self.effect('actorcutmix') else set()
    return frozenset({part.region for part in self.parts} | effect_regions)

  @property
  def early_effects(self) -> tuple[Effect, ...]:
    """The effects that are applied before painting."""
    return tuple(effect for effect in self.effects if effect.name not in ORDER_EFFECTS)

  @property
  def order_effects(self) -> tuple[Effect, ...]:
    """The effects that change the order of the frames, after painting."""
    return tuple(effect for effect in self.effects if effect.name in ORDER_EFFECTS)

  @property
  def swap_part(self) -> Part | None:
    """The part that takes another clip's background, or None."""
    return next((part for part in self.parts if part.fill == 'swap'), None)

  @property
  def inpaint_part(self) -> Part | None:
    """The part that replaces people by inpainted frames, or None."""
    return next((part for part in self.parts if part.fill == INPAINT), None)

  @property
  def needs_partner(self) -> bool:
    """Whether the recipe combines each clip with another one."""
    return bool(self.swap_part) or any(self.effect(name) for name in _PARTNER_EFFECTS)

  def effect(self, name: str) -> Effect | None:
    """Returns the effect with a name, or None if the recipe does not have it."""
    return next((effect for effect in self.effects if effect.name == name), None)


def parse(text: str, field: str = 'recipe') -> Recipe:
  """Parses a recipe.

  Args:
    text: the recipe, see the module's docstring; white space around words is allowed.
    field: what errors call the setting that the text comes from.

  Raises:
    UserError: if the text is no recipe; the message says at which character, and what is allowed
      there.
  """
  if text.strip() == 'none':
    return Recipe()
  parsed: dict[str, Any] = {}  # Parts and effects by name.
  start = 0
  for piece in text.split(','):
    part = _parse_piece(piece, start, text, field)
    name = part.region if isinstance(part, Part) else part.name
    if name in parsed:
      raise _error(text, field, start, piece, f'{name} is there twice; keep one of them')
    pasting = [effect for effect in _PASTING_EFFECTS if effect in {*parsed, name}]
    fills = {other.fill for other in (*parsed.values(), part) if isinstance(other, Part)}
    if pasting and INPAINT in fills:
      raise _error(text, field, start, piece, f'inpaint does not go together with {pasting[0]}')
    parsed[name] = part
    start += len(piece) + 1
  return Recipe(
    tuple(parsed[name] for name in LAYERS if name in parsed),
    tuple(parsed[name] for name in EFFECTS if name in parsed),
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
    if fill == INPAINT and region != 'person':
      raise fail(match, 'fill', f'only person can be {fill}')
    if fill not in FILLS and not re.fullmatch('#[0-9a-fA-F]{6}', fill):
      raise fail(match, 'fill', f'the colors are {", ".join(FILLS)} and #rrggbb')
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
