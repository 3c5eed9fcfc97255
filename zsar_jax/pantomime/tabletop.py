"""Draws hands that move objects over a table, seen from above at a slant.

The manners differ in what the hand does with the object:

  nudging   a fist at the object's edge pushes it in steps, and draws back between them;
  sliding   an open hand lies on the object, which stays on the table;
  carrying  a hand closed over the object lifts it off the table and sets it down again;
  rolling   a flat hand pushes the object once and stays behind; the object tumbles on alone.

The arm always comes from the viewer's side, and every object can be handled in every manner. So
only the movement shows the direction, and only the hand and its movement show the manner.
"""

import dataclasses

import numpy as np

from zsar_jax.pantomime import brush, lexicon
from zsar_jax.recipes import regions

# In the order of the manners that they agree with (`lexicon.MANNERS`).
OBJECTS = ('box', 'cup', 'banana', 'ball')

_HEADINGS = dict(zip(lexicon.DIRECTIONS, ((-1, 0), (1, 0), (0, -1), (0, 1)), strict=True))
# Half the width of a palm, the unit in which a hand is drawn, with its fingers along +x.
_PALM = 0.09
_CURL = {'nudging': 1.0, 'sliding': 0.0, 'carrying': 0.6, 'rolling': 0.0}
_STEPS = 3  # The number of nudges.


@dataclasses.dataclass(frozen=True)
class Actor:
  """A hand or an object.

  Attributes:
    bit: `regions.PERSON` or `regions.OBJECT`.
    strokes: the strokes of N frames, from the farthest to the nearest.
    height: f64[N] above the table, as a fraction of the frame's side.
  """

  bit: int
  strokes: list[brush.Stroke]
  height: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Pose:
  """A coordinate system in the picture, frame by frame, in which an actor is drawn.

  Attributes:
    origin: f64[N, 2] as fractions of the frame's side.
    axes: f64[N, 2, 2] its x and y axis, as unit vectors of the picture.
    scale: f64[N] length of its unit.
  """

  origin: np.ndarray
  axes: np.ndarray
  scale: np.ndarray

  def hull(self, circles: list[tuple[float, float, float]]) -> brush.Hull:
    """Returns the hull of circles (x, y, radius) that are given in these coordinates."""
    values = np.array(circles)  # [M, 3]
    centers = self.origin[:, None] + self.scale[:, None, None] * (values[:, :2] @ self.axes)
    return brush.Hull(centers, self.scale[:, None] * values[:, 2])

  def chain(self, circles: list[tuple[float, float, float]]) -> list[brush.Hull]:
    """Returns the hulls of each circle and the next, as of a bent object."""
    return [self.hull(list(pair)) for pair in zip(circles, circles[1:], strict=False)]


def _pose(
  position: np.ndarray,
  angle: np.ndarray | float,
  unit: np.ndarray | float,
  height: np.ndarray,
  flipped: bool = False,
) -> _Pose:
  """Returns a pose in the table's perspective; `angle` of the x axis in radians, clockwise."""
  angle = np.broadcast_to(angle, height.shape)
  x_axis = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  y_axis = np.stack([-x_axis[:, 1], x_axis[:, 0]], axis=-1) * (-1 if flipped else 1)
  # Actors nearer to the viewer, lower in the picture or lifted, look larger.
  scale = unit * (1 + 0.4 * (position[:, 1] - 0.5)) * (1 + 2.2 * height)
  lifted = position - np.stack([np.zeros_like(height), height], axis=-1)
  return _Pose(lifted, np.stack([x_axis, y_axis], axis=1), scale)


def _box(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  card = brush.color_of(rng.uniform(0.33, 0.43), rng.uniform(0.6, 0.85), rng.uniform(0.55, 0.8))
  ribbon = brush.mix_colors(card, (255, 255, 230), 0.8)
  outer = pose.hull([(-0.8, -0.62, 0.14), (0.8, -0.62, 0.14), (0.8, 0.7, 0.14), (-0.8, 0.7, 0.14)])
  lid = pose.hull([(-0.74, -0.58, 0.1), (0.74, -0.58, 0.1), (0.74, 0.3, 0.1), (-0.74, 0.3, 0.1)])
  return [
    *brush.shaded_strokes([outer], brush.mix_colors(card, (0, 0, 0), 0.3))[:2],
    brush.flat_stroke(lid, card),
    brush.flat_stroke(pose.hull([(0.0, -0.66, 0.13), (0.0, 0.74, 0.13)]), ribbon),
    brush.flat_stroke(pose.hull([(-0.8, -0.14, 0.11), (0.8, -0.14, 0.11)]), ribbon),
  ]


def _cup(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  glaze = brush.color_of(rng.uniform(0.55, 0.67), rng.uniform(0.6, 0.9), rng.uniform(0.75, 1.0))
  handle = [(0.6, -0.32, 0.14), (1.04, -0.2, 0.14), (1.02, 0.25, 0.14), (0.55, 0.45, 0.14)]
  body = [(-0.52, -0.52, 0.28), (0.52, -0.52, 0.28), (0.38, 0.65, 0.26), (-0.38, 0.65, 0.26)]
  return [
    *brush.shaded_strokes(pose.chain(handle), glaze),
    *brush.shaded_strokes([pose.hull(body)], glaze),
    brush.flat_stroke(pose.hull([(-0.5, -0.54, 0.27), (0.5, -0.54, 0.27)]), (245, 245, 250)),
    brush.flat_stroke(pose.hull([(-0.46, -0.54, 0.17), (0.46, -0.54, 0.17)]), (84, 48, 30)),
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
  return brush.shaded_strokes(tips, (92, 64, 30)) + brush.shaded_strokes(pose.chain(bend), peel)


def _ball(rng: np.random.Generator, pose: _Pose) -> list[brush.Stroke]:
  hue = rng.uniform(-0.07, 0.03)
  skin = brush.color_of(hue, rng.uniform(0.75, 0.95), rng.uniform(0.85, 1.0))
  stripe = brush.mix_colors(skin, (255, 255, 255), 0.85)
  return [
    *brush.shaded_strokes([pose.hull([(0.0, 0.0, 0.92)])], skin),
    brush.flat_stroke(pose.hull([(-0.76, -0.1, 0.13), (0.0, 0.12, 0.13)]), stripe),
    brush.flat_stroke(pose.hull([(0.76, -0.1, 0.13), (0.0, 0.12, 0.13)]), stripe),
    brush.flat_stroke(pose.hull([(0.0, 0.12, 0.13), (0.0, 0.78, 0.12)]), stripe),
  ]


_OBJECT_PAINTERS = {'box': _box, 'cup': _cup, 'banana': _banana, 'ball': _ball}

# Half axes of an ellipse about as large as the object, in its units; a hand touches the ellipse.
_ELLIPSES = {'box': (0.92, 0.8), 'cup': (0.75, 0.85), 'banana': (0.95, 0.35), 'ball': (0.92, 0.92)}


def _radius_at(kind: str, angle: float) -> float:
  """Returns the distance from an object's center to its edge, at an angle in radians."""
  across, along = _ELLIPSES[kind]
  return 1 / np.hypot(np.cos(angle) / across, np.sin(angle) / along)


def _hand(
  pose: _Pose, curl: float, spread: float, skin: brush.Color, sleeve: brush.Color
) -> list[brush.Stroke]:
  """Draws a hand from above: `curl` 0 (open) to 1 (closed), `spread` of the fingers in radians."""
  sleeved = pose.hull([(-2.6, 0.0, 0.95), (-20.0, 0.0, 1.1)])
  wrist = pose.hull([(-0.6, 0.0, 0.62), (-2.6, 0.0, 0.66)])
  palm = pose.hull([(-0.45, -0.4, 0.5), (-0.45, 0.4, 0.5), (0.45, -0.55, 0.45), (0.45, 0.55, 0.45)])
  thumb = pose.chain(
    [(-0.4, 0.6, 0.36), (0.2, 1.15, 0.29), (0.85 - 0.3 * curl, 1.2 - 0.35 * curl, 0.25)]
  )
  strokes = brush.shaded_strokes([wrist], skin) + brush.shaded_strokes([sleeved], sleeve)
  strokes += brush.shaded_strokes([palm, *thumb], skin)
  for position, length in ((-0.75, 1.25), (-0.25, 1.5), (0.25, 1.45), (0.75, 1.15)):
    length *= 1 - 0.62 * curl
    tip = (0.55 + length * np.cos(spread * position), position + length * np.sin(spread * position))
    strokes += brush.shaded_strokes([pose.hull([(0.5, position, 0.27), (*tip, 0.24)])], skin, 0.008)
  return strokes


def _ease(time: np.ndarray) -> np.ndarray:
  """Returns 0 before time 0, 1 after time 1, and a smooth course between."""
  time = np.clip(time, 0, 1)
  return time * time * (3 - 2 * time)


@dataclasses.dataclass(frozen=True)
class _Course:
  """The movement of object and hand.

  Attributes:
    progress: f64[N] of the object along the direction, from -1 to 1.
    turn: f64[N] of the object in radians.
    height: f64[N] of both above the table, as a fraction of the frame's side.
    hand_progress: f64[N]; the hand is beside the object when it equals `progress`.
    gap: f64[N] between object and hand, in the unit of the hand.
  """

  progress: np.ndarray
  turn: np.ndarray
  height: np.ndarray
  hand_progress: np.ndarray
  gap: np.ndarray


def _course(rng: np.random.Generator, manner: str, num_frames: int) -> _Course:
  start, end = rng.uniform(-0.05, 0.1), rng.uniform(0.9, 1.05)
  time = (np.arange(num_frames) + 0.5) / num_frames
  time = np.clip((time - start) / (end - start), 0, 1)
  still = np.zeros(num_frames)
  if manner == 'rolling':
    release = rng.uniform(0.14, 0.22)
    pushed = 0.3 * np.clip(time / release, 0, 1) ** 1.5
    rolled = np.clip((time - release) / (1 - release), 0, 1)
    progress = pushed + 1.7 * (1 - (1 - rolled) ** 1.5)
    turn = rng.choice([-1, 1]) * rng.uniform(1.2, 1.8) * progress
    # After the push the hand draws back.
    return _Course(progress - 1, turn, still, pushed - 1, 1.2 * _ease(2 * rolled))
  if manner == 'nudging':
    # The fist pushes in the first half of each step, and draws back in the second.
    phase = _STEPS * time[:, None] - np.arange(_STEPS)  # [N, steps]
    progress = 2 * _ease(2 * phase).mean(axis=1) - 1
    back = np.sin(np.pi * np.clip(2 * phase - 1, 0, 1)).sum(axis=1)
    sway = rng.uniform(-0.3, 0.3) * progress
    return _Course(progress, sway, still, progress, rng.uniform(0.9, 1.3) * back)
  progress = 2 * _ease(time) - 1
  sway = rng.uniform(-0.3, 0.3) * progress
  if manner == 'carrying':
    lift = _ease(np.minimum(time, 1 - time) / 0.3) * rng.uniform(0.12, 0.16)
    return _Course(progress, sway, lift, progress, still)
  return _Course(progress, sway, still, progress, still)


def draw_actors(
  rng: np.random.Generator, manner: str, direction: str, kind: str, num_frames: int
) -> list[Actor]:
  """Draws an object and the hand that moves it, and sometimes a second hand that rests.

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

  # Above the center, so that there is room for the hand between the object and the viewer.
  center = np.array([0.5, 0.43]) + rng.uniform(-0.05, 0.05, 2)
  reach = rng.uniform(0.2, 0.25)
  path = center + reach * course.progress[:, None] * heading  # [N, 2]
  object_angle = rng.uniform(-0.3, 0.3) + course.turn  # [N]
  object_pose = _pose(path, object_angle, radius, course.height)
  strokes = _OBJECT_PAINTERS[kind](rng, object_pose)

  hand_path = center + reach * course.hand_progress[:, None] * heading
  curl, spread = _CURL[manner], rng.uniform(0.1, 0.3)
  # A slanted arm, so that an object that rolls towards the viewer does not roll over the hand.
  aslant = rng.choice([-1, 1]) * rng.uniform(0.8, 1.1)
  arm_angle = -np.pi / 2 + (aslant if manner == 'rolling' else rng.uniform(-0.7, 0.7))
  if manner in ('sliding', 'carrying'):
    distance = 0.65 * radius + 0.5 * palm
  else:
    # From the center of the palm to the knuckles, or to the finger tips.
    hand_length = {'nudging': 1.1, 'rolling': 1.9}[manner]
    distance = _radius_at(kind, arm_angle - object_angle[0]) * radius + hand_length * palm
  distances = distance + course.gap * palm  # [N]
  hand_path = hand_path - distances[:, None] * np.array([np.cos(arm_angle), np.sin(arm_angle)])
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
  """Draws the other hand, which lies still in one of the nearer corners."""
  side = rng.choice([-1, 1])
  position = np.array([0.5 + side * rng.uniform(0.36, 0.42), rng.uniform(0.9, 0.97)])
  table = np.zeros(num_frames)
  pose = _pose(
    np.broadcast_to(position, (num_frames, 2)),
    -np.pi / 2 - side * rng.uniform(0, 0.4),
    _PALM,
    table,
    side > 0,
  )
  return Actor(regions.PERSON, _hand(pose, rng.uniform(0.2, 0.7), 0.15, skin, sleeve), table)
