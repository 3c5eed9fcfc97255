"""Hands that move objects over a table, seen from above at a slant.

What distinguishes the manners is what the hand does with the object:

  nudging   a fist at the object's edge pushes it on in steps, and draws back between them;
  sliding   an open hand lies on the object, which stays on the table;
  carrying  a hand closed over the object lifts it off the table and sets it down again;
  rolling   a flat hand gives the object a start and stays behind; the object tumbles on alone.

The arm comes from the viewer's side wherever the object goes, and what the object is says nothing
about how it is handled: the direction is in the movement alone, and the manner in the hand and in
how it moves.
"""

import dataclasses

import numpy as np

from zsar_jax.pantomime import brush, lexicon
from zsar_jax.recipes import regions

# In the order of the manners that they agree with (`lexicon.MANNERS`).
OBJECTS = ('box', 'cup', 'banana', 'ball')

_HEADINGS = dict(zip(lexicon.DIRECTIONS, ((-1, 0), (1, 0), (0, -1), (0, 1)), strict=True))
# Half the width of a palm; a hand is drawn in these units, its fingers along +x.
_PALM = 0.09
_CURL = {'nudging': 1.0, 'sliding': 0.0, 'carrying': 0.6, 'rolling': 0.0}
_STEPS = 3  # Of nudging.


@dataclasses.dataclass(frozen=True)
class Actor:
  """A hand or an object.

  Attributes:
    bit: `regions.PERSON` or `regions.OBJECT`.
    strokes: of N frames, from the farthest to the nearest.
    height: f64[N], how far it is above the table, as a fraction of the frame's side.
  """

  bit: int
  strokes: list[brush.Stroke]
  height: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Pose:
  """How a thing that is drawn in units of its own lies in the picture, frame by frame.

  Attributes:
    place: f64[N, 2] its origin, as fractions of the frame's side.
    axes: f64[N, 2, 2] its x and y axis, as unit vectors of the picture.
    scale: f64[N] length of its unit.
  """

  place: np.ndarray
  axes: np.ndarray
  scale: np.ndarray

  def hull(self, circles: list[tuple[float, float, float]]) -> brush.Hull:
    """Places a hull of circles (x, y, radius), in the thing's own units."""
    circles = np.array(circles)  # [M, 3]
    centers = self.place[:, None] + self.scale[:, None, None] * (circles[:, :2] @ self.axes)
    return brush.Hull(centers, self.scale[:, None] * circles[:, 2])

  def chain(self, circles: list[tuple[float, float, float]]) -> list[brush.Hull]:
    """Places a bent thing: hulls of each circle and the next."""
    return [self.hull(list(pair)) for pair in zip(circles, circles[1:], strict=False)]


def _pose(
  place: np.ndarray,
  angle: np.ndarray | float,
  unit: np.ndarray | float,
  height: np.ndarray,
  flipped: bool = False,
) -> _Pose:
  """A pose under the table's perspective; `angle` of the x axis in radians, clockwise."""
  angle = np.broadcast_to(angle, height.shape)
  x_axis = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  y_axis = np.stack([-x_axis[:, 1], x_axis[:, 0]], axis=-1) * (-1 if flipped else 1)
  # What is nearer to the viewer, lower in the picture or lifted, looks larger.
  scale = unit * (1 + 0.4 * (place[:, 1] - 0.5)) * (1 + 2.2 * height)
  lifted = place - np.stack([np.zeros_like(height), height], axis=-1)
  return _Pose(lifted, np.stack([x_axis, y_axis], axis=1), scale)


def _box(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  card = brush.color_of(rng.uniform(0.33, 0.43), rng.uniform(0.6, 0.85), rng.uniform(0.55, 0.8))
  ribbon = brush.mix(card, (255, 255, 230), 0.8)
  outer = pose.hull([(-0.8, -0.62, 0.14), (0.8, -0.62, 0.14), (0.8, 0.7, 0.14), (-0.8, 0.7, 0.14)])
  lid = pose.hull([(-0.74, -0.58, 0.1), (0.74, -0.58, 0.1), (0.74, 0.3, 0.1), (-0.74, 0.3, 0.1)])
  return [
    *brush.shaded([outer], brush.mix(card, (0, 0, 0), 0.3))[:2],
    brush.flat(lid, card),
    brush.flat(pose.hull([(0.0, -0.66, 0.13), (0.0, 0.74, 0.13)]), ribbon),
    brush.flat(pose.hull([(-0.8, -0.14, 0.11), (0.8, -0.14, 0.11)]), ribbon),
  ]


def _cup(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  glaze = brush.color_of(rng.uniform(0.55, 0.67), rng.uniform(0.6, 0.9), rng.uniform(0.75, 1.0))
  handle = [(0.6, -0.32, 0.14), (1.04, -0.2, 0.14), (1.02, 0.25, 0.14), (0.55, 0.45, 0.14)]
  body = [(-0.52, -0.52, 0.28), (0.52, -0.52, 0.28), (0.38, 0.65, 0.26), (-0.38, 0.65, 0.26)]
  return [
    *brush.shaded(pose.chain(handle), glaze),
    *brush.shaded([pose.hull(body)], glaze),
    brush.flat(pose.hull([(-0.5, -0.54, 0.27), (0.5, -0.54, 0.27)]), (245, 245, 250)),
    brush.flat(pose.hull([(-0.46, -0.54, 0.17), (0.46, -0.54, 0.17)]), (84, 48, 30)),
  ]


def _banana(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  peel = brush.color_of(rng.uniform(0.13, 0.165), rng.uniform(0.75, 0.95), rng.uniform(0.88, 1.0))
  bend = [
    (-1.12, -0.68, 0.17),
    (-0.7, -0.08, 0.31),
    (0.0, 0.18, 0.37),
    (0.7, -0.08, 0.31),
    (1.1, -0.63, 0.17),
  ]
  tips = [
    pose.hull([(-1.22, -0.86, 0.12), (-1.15, -0.73, 0.13)]),
    pose.hull([(1.16, -0.76, 0.1), (1.14, -0.68, 0.11)]),
  ]
  return brush.shaded(tips, (92, 64, 30)) + brush.shaded(pose.chain(bend), peel)


def _ball(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  hue = rng.uniform(-0.07, 0.03)
  skin = brush.color_of(hue, rng.uniform(0.75, 0.95), rng.uniform(0.85, 1.0))
  stripe = brush.mix(skin, (255, 255, 255), 0.85)
  return [
    *brush.shaded([pose.hull([(0.0, 0.0, 0.92)])], skin),
    brush.flat(pose.hull([(-0.76, -0.1, 0.13), (0.0, 0.12, 0.13)]), stripe),
    brush.flat(pose.hull([(0.76, -0.1, 0.13), (0.0, 0.12, 0.13)]), stripe),
    brush.flat(pose.hull([(0.0, 0.12, 0.13), (0.0, 0.78, 0.12)]), stripe),
  ]


_OBJECT_PAINTERS = {'box': _box, 'cup': _cup, 'banana': _banana, 'ball': _ball}

# Half axes of an ellipse about as large as the object, in its own units: where a hand meets it.
_GIRTHS = {'box': (0.92, 0.8), 'cup': (0.75, 0.85), 'banana': (0.95, 0.35), 'ball': (0.92, 0.92)}


def _girth(kind: str, angle: float) -> float:
  """Distance from the object's middle to its edge, at an angle in radians from its x axis."""
  across, along = _GIRTHS[kind]
  return 1 / np.hypot(np.cos(angle) / across, np.sin(angle) / along)


def _hand(
  pose: _Pose, curl: float, spread: float, skin: brush.Color, sleeve: brush.Color
) -> list[brush.Stroke]:
  """A hand from above: `curl` 0 (open) to 1 (closed), `spread` of the fingers in radians."""
  sleeved = pose.hull([(-2.6, 0.0, 0.95), (-20.0, 0.0, 1.1)])
  wrist = pose.hull([(-0.6, 0.0, 0.62), (-2.6, 0.0, 0.66)])
  palm = pose.hull([(-0.45, -0.4, 0.5), (-0.45, 0.4, 0.5), (0.45, -0.55, 0.45), (0.45, 0.55, 0.45)])
  thumb = pose.chain(
    [(-0.4, 0.6, 0.36), (0.2, 1.15, 0.29), (0.85 - 0.3 * curl, 1.2 - 0.35 * curl, 0.25)]
  )
  strokes = brush.shaded([wrist], skin) + brush.shaded([sleeved], sleeve)
  strokes += brush.shaded([palm, *thumb], skin)
  for position, length in ((-0.75, 1.25), (-0.25, 1.5), (0.25, 1.45), (0.75, 1.15)):
    length *= 1 - 0.62 * curl
    tip = (0.55 + length * np.cos(spread * position), position + length * np.sin(spread * position))
    strokes += brush.shaded([pose.hull([(0.5, position, 0.27), (*tip, 0.24)])], skin, 0.008)
  return strokes


def _ease(time: np.ndarray) -> np.ndarray:
  """0 before time 0, 1 after time 1, a smooth start and stop between."""
  time = np.clip(time, 0, 1)
  return time * time * (3 - 2 * time)


@dataclasses.dataclass(frozen=True)
class _Course:
  """How object and hand move: the object's way as -1 to 1 along the direction, turn in radians.

  Attributes:
    way: f64[N].
    turn: f64[N].
    height: f64[N] of both above the table, as a fraction of the frame's side.
    hand_way: f64[N]; the hand is beside the object wherever it equals `way`.
    gap: f64[N] from the object to the hand, in widths of a palm.
  """

  way: np.ndarray
  turn: np.ndarray
  height: np.ndarray
  hand_way: np.ndarray
  gap: np.ndarray


def _course(rng: np.random.Generator, manner: str, num_frames: int) -> _Course:
  start, end = rng.uniform(-0.05, 0.1), rng.uniform(0.9, 1.05)
  time = (np.arange(num_frames) + 0.5) / num_frames
  time = np.clip((time - start) / (end - start), 0, 1)
  still = np.zeros(num_frames)
  if manner == 'rolling':
    release = rng.uniform(0.14, 0.22)
    given = 0.3 * np.clip(time / release, 0, 1) ** 1.5
    gone = np.clip((time - release) / (1 - release), 0, 1)
    way = given + 1.7 * (1 - (1 - gone) ** 1.5)
    turn = rng.choice([-1, 1]) * rng.uniform(1.2, 1.8) * way
    # After the impulse the hand draws back.
    return _Course(way - 1, turn, still, given - 1, 1.2 * _ease(2 * gone))
  if manner == 'nudging':
    # Each step has a push in its first half; in the second the fist draws back.
    phase = _STEPS * time[:, None] - np.arange(_STEPS)  # [N, steps]
    way = 2 * _ease(2 * phase).mean(axis=1) - 1
    back = np.sin(np.pi * np.clip(2 * phase - 1, 0, 1)).sum(axis=1)
    return _Course(way, rng.uniform(-0.3, 0.3) * way, still, way, rng.uniform(0.9, 1.3) * back)
  way = 2 * _ease(time) - 1
  sway = rng.uniform(-0.3, 0.3) * way
  if manner == 'carrying':
    lift = _ease(np.minimum(time, 1 - time) / 0.3) * rng.uniform(0.12, 0.16)
    return _Course(way, sway, lift, way, still)
  return _Course(way, sway, still, way, still)


def perform(
  rng: np.random.Generator, manner: str, direction: str, kind: str, num_frames: int
) -> list[Actor]:
  """Lays out an object and the hand that moves it, sometimes beside a resting second hand.

  Args:
    rng: source of all variation.
    manner: one of `lexicon.MANNERS`.
    direction: one of `lexicon.DIRECTIONS`.
    kind: one of `OBJECTS`.
    num_frames: N.

  Returns:
    The actors, from the farthest to the nearest.
  """
  heading = np.array(_HEADINGS[direction], float)
  course = _course(rng, manner, num_frames)
  radius = rng.uniform(0.165, 0.195)
  palm = _PALM * rng.uniform(0.92, 1.08)

  # Room for the hand, between the object and the viewer.
  center = np.array([0.5, 0.43]) + rng.uniform(-0.05, 0.05, 2)
  reach = rng.uniform(0.2, 0.25)
  path = center + reach * course.way[:, None] * heading  # [N, 2]
  object_angle = rng.uniform(-0.3, 0.3) + course.turn  # [N]
  object_pose = _pose(path, object_angle, radius, course.height)
  strokes = _OBJECT_PAINTERS[kind](rng, object_pose)

  hand_path = center + reach * course.hand_way[:, None] * heading
  curl, spread = _CURL[manner], rng.uniform(0.1, 0.3)
  # A rolling object does not roll over the hand that it comes closer to.
  aslant = rng.choice([-1, 1]) * rng.uniform(0.8, 1.1)
  arm_angle = -np.pi / 2 + (aslant if manner == 'rolling' else rng.uniform(-0.7, 0.7))
  if manner in ('sliding', 'carrying'):
    distance = 0.65 * radius + 0.5 * palm
  else:
    # From the middle of the palm to the knuckles, or to the finger tips.
    hold = {'nudging': 1.1, 'rolling': 1.9}[manner]
    distance = _girth(kind, arm_angle - object_angle[0]) * radius + hold * palm
  distance = distance + course.gap * palm  # [N]
  hand_path = hand_path - distance[:, None] * np.array([np.cos(arm_angle), np.sin(arm_angle)])
  hand_pose = _pose(hand_path, arm_angle, palm, course.height, bool(rng.integers(2)))

  skin = brush.random_skin(rng)
  sleeve = brush.color_of(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.9))
  hand = Actor(regions.PERSON, _hand(hand_pose, curl, spread, skin, sleeve), course.height + 0.01)
  actors = [Actor(regions.OBJECT, strokes, course.height), hand]
  if rng.random() < 0.25:
    actors.insert(0, _resting_hand(rng, skin, sleeve, num_frames))
  return actors


def _resting_hand(
  rng: np.random.Generator, skin: brush.Color, sleeve: brush.Color, num_frames: int
) -> Actor:
  """The other hand, lying still in one of the nearer corners."""
  side = rng.choice([-1, 1])
  place = np.array([0.5 + side * rng.uniform(0.36, 0.42), rng.uniform(0.9, 0.97)])
  table = np.zeros(num_frames)
  pose = _pose(
    np.broadcast_to(place, (num_frames, 2)),
    -np.pi / 2 - side * rng.uniform(0, 0.4),
    _PALM,
    table,
    side > 0,
  )
  return Actor(regions.PERSON, _hand(pose, rng.uniform(0.2, 0.7), 0.15, skin, sleeve), table)
