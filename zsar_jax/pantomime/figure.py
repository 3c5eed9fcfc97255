"""Draws the articulated person: the movements of the actions, and the figure's appearance.

The figure faces the viewer. Its joints are computed in statures (1 is the standing height, x points
to its left, y up from the ground) and then placed in the picture. Every action runs through about
one cycle per clip, so that four evenly sampled frames show all of it.
"""

import dataclasses

import numpy as np

from zsar_jax.pantomime import brush

# Joint angles are in degrees from straight down, outwards on each side of the body: 90 is
# level and outwards, 180 straight up, 270 level and inwards. Arrays are f64[N, 2], one column
# for each side. The second side of a one-sided action is at rest.

_HAIR = ((40, 28, 24), (92, 56, 30), (150, 100, 50), (220, 180, 90), (120, 120, 128))
_TORSO = ((244, 244, 244), (46, 48, 66), (250, 240, 205), (190, 196, 210))
# In turns of the color circle: the hues of one side, and those of the other. Arms are warm and legs
# cool, so that no limb can be mistaken for another one.
_ARM_HUES = ((0.87, 0.99), (0.085, 0.155))
_LEG_HUES = ((0.35, 0.5), (0.62, 0.76))


@dataclasses.dataclass(frozen=True)
class Body:
  """Lengths and radii in statures."""

  thigh: float
  shin: float
  trunk: float
  upper_arm: float
  forearm: float
  shoulder: float
  hip: float
  head: float
  arm_radius: float
  leg_radius: float


def _angles(left: np.ndarray | float, right: np.ndarray | float, like: np.ndarray) -> np.ndarray:
  """Returns f64[N, 2] from f64[N], or a constant, for each side; `like` is f64[N]."""
  return np.stack([np.broadcast_to(left, like.shape), np.broadcast_to(right, like.shape)], axis=-1)


def _swell(turns: np.ndarray) -> np.ndarray:
  """Returns a course from 0 to 1 and back, once per turn."""
  return 0.5 - 0.5 * np.cos(2 * np.pi * turns)


def _arm_angles(action: str, turns: np.ndarray, vigor: float) -> tuple[np.ndarray, np.ndarray]:
  """Returns the angles of upper arms and forearms, f64[N, 2] each; `turns` is f64[N]."""
  swell = _swell(turns)
  if action == 'waving':
    swing = np.sin(2 * np.pi * turns) * vigor
    return _angles(140 + 8 * swing, 14, turns), _angles(178 - 52 * swing, 6, turns)
  if action == 'punching':
    reach = np.stack([swell, 1 - swell], axis=-1) ** 0.8 * vigor  # [N, 2]
    return 26 + 64 * reach, 212 - 121 * reach
  if action == 'clapping':
    upper, fore = 22 + 46 * swell * vigor, 246 - 112 * swell * vigor
    return _angles(upper, upper, turns), _angles(fore, fore, turns)
  if action == 'flapping':
    upper = 94 + 46 * np.sin(2 * np.pi * turns) * vigor
    # The forearm follows the upper arm with a delay, like the tip of a wing.
    fore = 94 + 50 * np.sin(2 * np.pi * (turns - 0.07)) * vigor
    return _angles(upper, upper, turns), _angles(fore, fore, turns)
  raise ValueError(f'no arm action {action!r}')


@dataclasses.dataclass(frozen=True)
class _Stance:
  """The pose of the legs.

  Attributes:
    thigh: f64[N, 2] angles.
    shin: f64[N, 2] angles.
    lift: f64[N], the height of the lower foot above the ground.
    lean: f64[N], the angle of the trunk.
  """

  thigh: np.ndarray
  shin: np.ndarray
  lift: np.ndarray
  lean: np.ndarray


def _leg_stance(action: str, turns: np.ndarray, vigor: float) -> _Stance:
  """Returns the movement of the legs; `turns` is f64[N]."""
  swell = _swell(turns) * vigor
  ground = np.zeros_like(turns)
  if action == 'squatting':
    thigh, shin = 14 + 68 * swell, 14 - 48 * swell
    return _Stance(_angles(thigh, thigh, turns), _angles(shin, shin, turns), ground, ground)
  if action == 'kicking':
    kick = _angles(6 + 80 * swell, 5, turns)
    return _Stance(kick, kick, ground, -13 * swell)
  if action == 'jumping':
    spread = 4 + 30 * swell
    both = _angles(spread, spread, turns)
    return _Stance(both, both, 0.11 * swell, ground)
  if action == 'marching':
    step = np.sin(2 * np.pi * turns)
    # The square root keeps a knee high for longer, so that there is hardly a pause between knees.
    knee = np.sqrt(np.maximum(np.stack([step, -step], axis=-1), 0)) * vigor  # [N, 2]
    return _Stance(5 + 78 * knee, 5 - 8 * knee, ground, 5 * step)
  raise ValueError(f'no leg action {action!r}')


def _towards(angle: np.ndarray, side: np.ndarray) -> np.ndarray:
  """Returns unit vectors [..., 2], y up, of angles in degrees on a side (+1 or -1) of the body."""
  radians = np.deg2rad(angle)
  return np.stack([side * np.sin(radians), -np.cos(radians)], axis=-1)


def _joints(
  body: Body,
  arm: str,
  leg: str,
  turns: np.ndarray,
  leg_turns: np.ndarray,
  vigor: tuple[float, float],
) -> dict[str, np.ndarray]:
  """Returns the joints in statures: of limbs f64[N, 2, J, 2], of trunk and head f64[N, J, 2]."""
  side = np.array([1.0, -1.0])
  upper, fore = _arm_angles(arm, turns, vigor[0])
  stance = _leg_stance(leg, leg_turns, vigor[1])

  thigh = body.thigh * _towards(stance.thigh, side)  # [N, 2, 2]
  shin = body.shin * _towards(stance.shin, side)
  # The lower foot determines the height of the pelvis, so that no foot is below the ground.
  height = stance.lift - (thigh + shin)[..., 1].min(axis=1)  # [N]
  pelvis = np.stack([np.zeros_like(height), height + 0.5 * body.leg_radius], axis=-1)  # [N, 2]
  up = -_towards(stance.lean, np.ones(1))  # [N, 2]
  across = np.stack([up[:, 1], -up[:, 0]], axis=-1)  # [N, 2]

  hips = pelvis[:, None] + side[:, None] * body.hip * across[:, None]  # [N, 2, 2]
  neck = pelvis + body.trunk * up
  shoulders = neck[:, None] + side[:, None] * body.shoulder * across[:, None]
  elbows = shoulders + body.upper_arm * _towards(upper, side)
  hands = elbows + body.forearm * _towards(fore, side)
  knees = hips + thigh
  ankles = knees + shin
  return {
    'arms': np.stack([shoulders, elbows, hands], axis=2),
    'legs': np.stack([hips, knees, ankles], axis=2),
    'trunk': np.concatenate([shoulders, hips], axis=1),
    'head': np.stack([neck, neck + (0.035 + body.head) * up], axis=1),
  }


def _random_body(rng: np.random.Generator) -> Body:
  leg = rng.uniform(0.425, 0.475)
  head = rng.uniform(0.082, 0.098)
  arm = rng.uniform(0.345, 0.39)
  build = rng.uniform(0.9, 1.15)
  return Body(
    thigh=0.51 * leg,
    shin=0.49 * leg,
    # The rest of one stature.
    trunk=1 - leg - 2 * head - 0.065,
    upper_arm=0.5 * arm,
    forearm=0.5 * arm,
    shoulder=0.118 * rng.uniform(0.92, 1.12),
    hip=0.062,
    head=head,
    arm_radius=0.04 * build,
    leg_radius=0.05 * build,
  )


def _bright(rng: np.random.Generator, hue: float) -> brush.Color:
  return brush.color_of(
    hue + rng.uniform(-0.025, 0.025), rng.uniform(0.72, 0.95), rng.uniform(0.86, 1.0)
  )


def draw_person(
  rng: np.random.Generator, arm: str, leg: str, num_frames: int
) -> list[brush.Stroke]:
  """Draws a person acting, with random body, colors, position and tempo.

  Args:
    rng: source of all variation.
    arm: one of `lexicon.ARMS`.
    leg: one of `lexicon.LEGS`.
    num_frames: N.

  Returns:
    The strokes of N frames, from the farthest to the nearest.
  """
  body = _random_body(rng)
  tempo = rng.uniform(0.85, 1.15)
  time = tempo * np.arange(num_frames) / num_frames
  joints = _joints(
    body,
    arm,
    leg,
    time + rng.random(),
    time + rng.random(),
    (rng.uniform(0.88, 1.06), rng.uniform(0.88, 1.06)),
  )

  scale = rng.uniform(0.76, 0.85)
  foot = np.array([rng.uniform(0.44, 0.56), rng.uniform(0.94, 0.97)])
  # No action's name mentions a side, so the mirrored clip has the same name.
  axes = scale * np.array([rng.choice([-1.0, 1.0]), -1.0])
  joints = {part: foot + axes * position for part, position in joints.items()}

  arm_colors = [_bright(rng, rng.choice(hues)) for hues in _ARM_HUES]
  leg_colors = [_bright(rng, rng.choice(hues)) for hues in _LEG_HUES]
  torso_color = _TORSO[rng.integers(len(_TORSO))]
  skin = brush.random_skin(rng)
  hair = _HAIR[rng.integers(len(_HAIR))]

  arm_radii = scale * body.arm_radius * np.array([1.05, 0.95, 0.8])
  leg_radii = scale * body.leg_radius * np.array([1.1, 0.95, 0.75])
  strokes = []
  for s, color in enumerate(leg_colors):
    strokes += _shoe(joints['legs'][:, s], foot, leg_radii[2], color)
    strokes += brush.shaded_strokes(brush.limb_hulls(joints['legs'][:, s], leg_radii), color)
  strokes += _head_and_trunk(joints, body, scale, skin, hair, torso_color)
  for s, color in enumerate(arm_colors):
    arm_joints = joints['arms'][:, s]
    fist = brush.Hull(arm_joints[:, 2:], np.array([1.2 * arm_radii[2]]))
    strokes += brush.shaded_strokes(brush.limb_hulls(arm_joints, arm_radii), color)
    strokes += brush.shaded_strokes([fist], skin)
  return strokes


def _shoe(
  joints: np.ndarray, foot: np.ndarray, radius: float, color: brush.Color
) -> list[brush.Stroke]:
  """Draws a shoe at the end of a leg, f64[N, 3, 2], pointing away from the body's center."""
  shin = joints[:, 2] - joints[:, 1]  # [N, 2]
  shin = shin / np.linalg.norm(shin, axis=-1, keepdims=True)
  outward = np.sign(joints[:, :1, 0] - foot[0])  # [N, 1]
  toe = outward * np.stack([shin[:, 1], -shin[:, 0]], axis=-1)
  heel = joints[:, 2] + 0.25 * radius * shin
  sole = np.stack([heel, heel + 1.3 * radius * toe], axis=1)  # [N, 2, 2]
  dark = brush.mix_colors(color, (20, 20, 30), 0.6)
  return brush.shaded_strokes([brush.Hull(sole, np.array([radius, 0.8 * radius]))], dark)


def _head_and_trunk(
  joints: dict[str, np.ndarray],
  body: Body,
  scale: float,
  skin: brush.Color,
  hair: brush.Color,
  shirt: brush.Color,
) -> list[brush.Stroke]:
  neck, head = joints['head'][:, :1], joints['head'][:, 1:]  # [N, 1, 2] each
  radius = scale * body.head
  up = (head - neck) / np.linalg.norm(head - neck, axis=-1, keepdims=True)
  across = np.stack([-up[..., 1], up[..., 0]], axis=-1)
  cap = np.concatenate(
    [
      head + radius * (0.42 * up - 0.5 * across),
      head + radius * (0.42 * up + 0.5 * across),
      head + 0.55 * radius * up,
    ],
    axis=1,
  )  # [N, 3, 2]
  trunk_radii = scale * np.array([0.038, 0.038, 0.045, 0.045])
  throat = brush.Hull(joints['head'], np.full(2, 0.45 * radius))
  strokes = brush.shaded_strokes([throat], skin)
  strokes += brush.shaded_strokes([brush.Hull(joints['trunk'], trunk_radii)], shirt)
  strokes += brush.shaded_strokes([brush.Hull(head, np.array([radius]))], skin)
  strokes.append(brush.flat_stroke(brush.Hull(cap, radius * np.array([0.46, 0.46, 0.5])), hair))
  for s in (-1, 1):
    eye = head + radius * (0.36 * s * across - 0.18 * up)
    strokes.append(brush.flat_stroke(brush.Hull(eye, np.array([0.13 * radius])), (30, 22, 30)))
  return strokes
