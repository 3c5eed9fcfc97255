"""Measures the masks of clips, and tells which clips look wrong.

A `MaskMeter` gets the planes of a clip one after another. Its measures are numbers by name; those
beyond the limit of a gate (`GATES`) are what looks wrong with the clip. No clip is left out for it:
an actor may leave the picture, and a mime has no object. The gates rank the clips to look at.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from zsar_jax.datasets.masks.made_files import MadeFrame
from zsar_jax.recipes.regions import BOX_SHIFT, REGION_BITS, UNKNOWN_SHIFT

SHAPES = ('person', 'object')

# A share of the frame. Smaller areas count as this large where areas are compared, since the area
# of a few pixels easily triples. A shape that appears jumps if it covers three times as much.
_SMALL_AREA = 0.01

# Digits after the point of scores and shares in the files of made masks, and of measures.
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Gate:
  """A limit for a measure.

  Attributes:
    name: what looks wrong, for reports.
    measure: the name of the measure.
    limit: the largest value that looks right; the smallest if it is above `worst`.
    worst: a value that could hardly be worse.
    unit: '%' for shares, 'x' for ratios, '' for other numbers.
    weight: the importance of the gate when clips are ranked.
    reason: why masks beyond the limit may be wrong.
  """

  name: str
  measure: str
  limit: float
  worst: float
  unit: str
  weight: float
  reason: str

  def fails(self, value: float) -> bool:
    """Returns whether a measure is beyond the limit; NaN, which is unknown, is not."""
    return value > self.limit if self.worst > self.limit else value < self.limit

  def severity(self, value: float) -> float:
    """Returns `weight` for a measure at the limit, and up to twice as much beyond it."""
    limit, worst = self.limit, self.worst
    if self.unit == 'x':
      value, limit, worst = math.log(max(value, 1e-9)), math.log(limit), math.log(worst)
    return self.weight * (1 + min(1.0, max(0.0, (value - limit) / (worst - limit))))

  def format(self, value: float) -> str:
    """Returns a measure as text, such as '50 %', '6.2x' or '0.31'."""
    return f'{100 * value:.3g} %' if self.unit == '%' else f'{value:.3g}{self.unit}'


# A jump of 3 is the limit of section 1 of the survey of mask makers; the other limits are choices.
_GATES = (
  Gate(
    'person empty', 'person empty', 0.3, 1, '%', 4,
    'where an actor is missed, "background" recipes show the actor',
  ),
  Gate(
    'object empty', 'object empty', 0.9, 1, '%', 0.25,
    'the object may be missed; a mime rightly has none',
  ),
  Gate(
    'person large', 'person area', 0.7, 1, '%', 2,
    'hardly any background is left; the masks may be inverted',
  ),
  Gate(
    'object large', 'object area', 0.7, 1, '%', 2,
    'hardly any background is left; the masks may show the table or the wall',
  ),
  Gate(
    'person small', 'person area', 0.002, 0, '%', 1,
    'as good as nothing is painted; the masks may be specks',
  ),
  Gate(
    'person jump', 'person jump', 3, 30, 'x', 1,
    'between neighboring frames a person is lost or found, or the scene is cut',
  ),
  Gate(
    'object jump', 'object jump', 3, 30, 'x', 0.5,
    'between neighboring frames an object is lost or found, or the mask leaks',
  ),
  Gate(
    'person outside boxes', 'person outside', 0.3, 1, '%', 3,
    'the shapes and the boxes disagree about where the people are',
  ),
  Gate(
    'object outside boxes', 'object outside', 0.3, 1, '%', 3,
    'the shapes and the boxes disagree about where the objects are',
  ),
  Gate(
    'removed outside boxes', 'removed', 0.5, 1, '%', 1.5,
    'the segmenter drew more outside of its boxes than inside, so it drew something else',
  ),
  Gate(
    'low scores', 'median score', 0.35, 0, '', 1,
    'in half of the frames, the model is unsure of a shape that it drew',
  ),
  Gate(
    'lowest score', 'lowest score', 0.2, 0, '', 0.5,
    'in some frame, the model takes a shape that it drew for wrong',
  ),
  Gate(
    'many people', 'people', 20, 100, '', 0.5,
    'the masks may show spectators, whom the action does not need',
  ),
  Gate(
    'people vary', 'people change', 1, 5, '', 1,
    'on average, more than one person is lost or found from frame to frame',
  ),
)  # fmt: skip
GATES = {gate.name: gate for gate in _GATES}


class MaskMeter:
  """Measures the masks of a clip from its planes, which it gets one after another.

  The measures, of which a clip has those that are known:

      person empty    the share of the annotated frames without the shape, except those that lack
                      it according to given boxes; this measure and the next ones also of 'object'
      person area     the mean share of the frame that the shape covers, over the frames with it
      person jump     the largest ratio of its areas in annotated frames that follow each other
      person outside  the share of its pixels outside of the boxes of the same region
      removed         the share of the shapes that the maker removed outside of its boxes, as a mean
      lowest score, median score  over frames, of the lowest score of what was drawn in the frame
      people          the largest number of people in a frame
      people change   how much this number changes from frame to frame, as a mean
  """

  def __init__(self, regions: Collection[str]):
    """Creates a meter.

    Args:
      regions: the names in `regions.REGION_BITS` that are drawn.
    """
    self._shapes = {
      shape: _ShapeMeter(REGION_BITS[shape], f'{shape}_box' in regions)
      for shape in SHAPES
      if shape in regions
    }
    self._scores: list[float] = []
    self._removed: list[float] = []
    self._people: list[int] = []

  def watch(
    self, planes: Iterable[np.ndarray | None], made: Iterable[MadeFrame | None]
  ) -> Iterator[np.ndarray | None]:
    """Yields planes, and adds each before it does.

    Args:
      planes: the planes of a clip.
      made: what is known about the same frames, see `add`; may be endless.
    """
    made_frames = iter(made)
    for plane in planes:
      self.add(plane, next(made_frames, None))
      yield plane

  def add(self, plane: np.ndarray | None, made: MadeFrame | None = None) -> None:
    """Adds a frame.

    Args:
      plane: u8[H, W], region plane; None for a frame that is not annotated.
      made: the scores and the number of people of this frame, if they are known; its own plane is
        ignored.
    """
    if plane is None:
      return
    present = int(np.bitwise_or.reduce(plane, axis=None))
    absent = made.absent if made else 0
    for shape in self._shapes.values():
      shape.add(plane, present, absent)
    if made is None:
      return
    # As files have them, so that the measures do not depend on whether the masks were read.
    if not math.isnan(made.score):
      self._scores.append(round(float(made.score), _DIGITS))
    if not math.isnan(made.outside):
      self._removed.append(round(float(made.outside), _DIGITS))
    if made.people >= 0:
      self._people.append(made.people)

  def measures(self) -> dict[str, float]:
    """Returns the measures of the frames so far that are known, by name."""
    measures = {
      f'{name} {key}': value
      for name, shape in self._shapes.items()
      for key, value in shape.measures().items()
    }
    if self._removed:
      measures['removed'] = float(np.mean(self._removed))
    if self._scores:
      measures['lowest score'] = min(self._scores)
      measures['median score'] = float(np.median(self._scores))
    if self._people:
      measures['people'] = float(max(self._people))
    if len(self._people) > 1:
      measures['people change'] = float(np.abs(np.diff(self._people)).mean())
    return {name: round(value, _DIGITS) for name, value in measures.items()}


class _ShapeMeter:
  """Measures one shape."""

  def __init__(self, bit: int, boxed: bool):
    self._bit = bit
    self._box = bit << BOX_SHIFT
    self._boxed = boxed
    self._areas: list[float] = []
    self._pixels = self._outside = 0
    self._has_box = False

  def add(self, plane: np.ndarray, present: int, absent: int) -> None:
    """Adds a plane.

    Args:
      plane: u8[H, W], region plane.
      present: the bits that any of its pixels has.
      absent: the bits of the shapes that the frame rightly lacks.
    """
    if present & self._bit << UNKNOWN_SHIFT:
      return
    pixels = int(np.count_nonzero(plane & self._bit))
    self._areas.append(pixels / plane.size if pixels or not absent & self._bit else np.nan)
    if self._boxed and not present & self._box << UNKNOWN_SHIFT:
      self._pixels += pixels
      self._outside += int(np.count_nonzero(plane & (self._bit | self._box) == self._bit))
      self._has_box = self._has_box or bool(present & self._box)

  def measures(self) -> dict[str, float]:
    areas = np.array(self._areas)
    expected = areas[np.isfinite(areas)]
    if not len(expected):
      return {}
    visible = expected[expected > 0]
    measures = {'empty': float((expected == 0).mean())}
    if len(visible):
      measures['area'] = float(visible.mean())
    steps = np.diff(np.log(np.maximum(areas, _SMALL_AREA)))
    steps = steps[np.isfinite(steps)]
    if len(steps):
      measures['jump'] = float(np.exp(np.abs(steps).max()))
    if self._has_box and self._pixels:
      measures['outside'] = self._outside / self._pixels
    return measures


def failed_gates(measures: Mapping[str, float]) -> dict[str, float]:
  """Returns the measures that are beyond the limit of a gate, by the gate's name."""
  return {
    gate.name: measures[gate.measure]
    for gate in _GATES
    if gate.measure in measures and gate.fails(measures[gate.measure])
  }


def severity(failed: Mapping[str, float]) -> float:
  """Returns a number by which clips can be ranked; more is worse, and 0 is nothing wrong.

  Args:
    failed: the result of `failed_gates`; gates of other versions count 0.
  """
  return sum(GATES[name].severity(value) for name, value in failed.items() if name in GATES)


def describe_failed(failed: Mapping[str, float]) -> str:
  """Returns failed gates as text, the worst first: 'person empty 50 %, person jump 6.2x'."""
  known = {name: value for name, value in failed.items() if name in GATES}
  ranked = sorted(known, key=lambda name: -GATES[name].severity(known[name]))
  return ', '.join(f'{name} {GATES[name].format(known[name])}' for name in ranked)
