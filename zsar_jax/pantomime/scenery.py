"""Paints textured backgrounds: four families of scenes, and table tops.

All are procedural and painted once per clip, as u8[side, side, 3], for a slightly moving camera.
Lengths are fractions of the side.
"""

import cv2
import numpy as np

from zsar_jax.pantomime import brush

# In the order of the leg actions that they agree with (`lexicon.LEGS`).
FAMILIES = ('gym', 'meadow', 'pool', 'street')


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns x f32[1, side] and y f32[side, 1], from 0 to 1."""
  line = ((np.arange(side) + 0.5) / side).astype(np.float32)
  return line[None], line[:, None]


def _noise(rng: np.random.Generator, side: int, rows: int, columns: int) -> np.ndarray:
  """Returns smooth noise f32[side, side] from -1 to 1, interpolated from `rows` x `columns`."""
  seeds = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
  return cv2.resize(seeds, (side, side), interpolation=cv2.INTER_LINEAR)


def _paint(shade: np.ndarray, color: brush.Color) -> np.ndarray:
  """Returns a color multiplied by `shade`, f32[side, side], as f32[side, side, 3]."""
  return cv2.merge([shade * np.float32(channel) for channel in color])


def _jittered(rng: np.random.Generator, hue: float, saturation: float, value: float) -> brush.Color:
  return brush.color_of(
    hue + rng.uniform(-0.02, 0.02),
    np.clip(saturation + rng.uniform(-0.08, 0.08), 0, 1),
    np.clip(value + rng.uniform(-0.08, 0.08), 0, 1),
  )


def _tiles(
  rng: np.random.Generator, side: int, rows: float, columns: float, joint: float, bond: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a wall of tiles.

  Args:
    rng: source of the tiles' shades and of the wall's offset.
    side: pixels.
    rows: number of rows in the picture.
    columns: number of columns in the picture.
    joint: width of the joints, as a share of a tile's height.
    bond: shift of every other row, as a share of a tile's width.

  Returns:
    The shade of each pixel's tile, f32[side, side] from -1 to 1, and whether the pixel is on a
    joint, bool[side, side].
  """
  x, y = _grid(side)
  down = y * rows + rng.random()  # [side, 1]
  row = down.astype(np.int32)
  along = x * columns + rng.random() + bond * (row % 2)  # [side, side]
  column = along.astype(np.int32)
  shades = rng.uniform(-1, 1, (int(rows) + 3, int(columns) + 3)).astype(np.float32)
  joints = (down - row < joint) | (along - column < joint * columns / rows)
  return shades[row, column], joints


def _gym(rng: np.random.Generator, side: int) -> np.ndarray:
  x, y = _grid(side)
  horizon = rng.uniform(0.6, 0.7)
  wall = _paint(1 + 0.04 * _noise(rng, side, 6, 6), _jittered(rng, 0.12, 0.14, 0.94))
  pitch, offset = rng.uniform(0.075, 0.095), rng.random()
  rung = (y / pitch + offset) % 1  # [side, 1]
  post = (x / rng.uniform(0.3, 0.36) + rng.random()) % 1  # [1, side]
  wood = np.array(_jittered(rng, 0.085, 0.66, 0.7), np.float32)
  wall = np.where((rung < 0.28)[..., None], wood * (1.25 - rung)[..., None], wall)
  wall = np.where((post < 0.1)[..., None], 0.8 * wood, wall)
  # Floor boards run towards the viewer; their lines meet far behind the wall.
  board = (x - rng.uniform(0.3, 0.7)) / (y - horizon + 0.35) * rng.uniform(3, 4) + 20
  shades = rng.uniform(0.88, 1.08, 64).astype(np.float32)
  floor = _paint(shades[np.clip(board.astype(np.int32), 0, 63)], _jittered(rng, 0.105, 0.5, 0.9))
  floor = np.where((board % 1 < 0.08)[..., None], 0.75 * floor, floor)
  line = np.abs(y - horizon - rng.uniform(0.1, 0.2)) < 0.012
  floor = np.where(line[..., None], np.float32(240), floor)
  return np.where((y > horizon)[..., None], floor, wall)


def _meadow(rng: np.random.Generator, side: int) -> np.ndarray:
  x, y = _grid(side)
  hill = rng.uniform(0.32, 0.44) + 0.04 * np.sin(
    2 * np.pi * (x * rng.uniform(0.6, 1.3) + rng.random())
  )  # [1, side]
  cloud = np.clip(1.6 * _noise(rng, side, 7, 4), 0, 1)[..., None]
  sky = _paint(0.85 + 0.4 * np.broadcast_to(y, (side, side)), _jittered(rng, 0.56, 0.32, 0.9))
  sky = (1 - cloud) * sky + cloud * 250
  blades = 0.75 * _noise(rng, side, 22, 60) + 0.5 * _noise(rng, side, 5, 5)
  grass = _paint(0.8 + 0.3 * y + 0.22 * blades, _jittered(rng, 0.29, 0.68, 0.56))
  for _ in range(14):
    center = (int(rng.uniform(0, side)), int(rng.uniform(0.5, 1) * side))
    flower = brush.color_of(rng.choice([0.0, 0.14, 0.85]), rng.uniform(0.1, 0.6), 1.0)
    cv2.circle(grass, center, max(1, side // 70), flower, -1)
  return np.where((y > hill)[..., None], grass, sky)


def _pool(rng: np.random.Generator, side: int) -> np.ndarray:
  x, y = _grid(side)
  warp = 0.05 * _noise(rng, side, 5, 5)
  ripples = np.zeros((side, side), np.float32)
  for _ in range(3):
    slant = rng.uniform(-0.5, 0.5)
    wave = (y + warp + slant * x * 0.5) * rng.uniform(6, 10) + rng.random()
    ripples += 1 - np.abs(np.sin(np.pi * wave))  # sharp crests
  water = _paint(0.7 + 0.25 * y + 0.06 * ripples, _jittered(rng, 0.53, 0.8, 0.8))
  crest = np.clip(1.6 * (ripples - 1.5), 0, 1)[..., None]
  water = (1 - 0.7 * crest) * water + 0.7 * crest * np.array([215, 250, 255], np.float32)
  for height in (rng.uniform(0.08, 0.2), rng.uniform(0.5, 0.62)):
    rope = height + 0.012 * np.sin(2 * np.pi * (2 * x + rng.random()))
    bead = np.where(
      ((x * 11 + rng.random()) % 1 < 0.5)[..., None],
      np.array(_jittered(rng, 0.99, 0.8, 0.85), np.float32),
      np.float32(245),
    )
    water = np.where((np.abs(y - rope) < 0.02)[..., None], bead, water)
  return water


def _street(rng: np.random.Generator, side: int) -> np.ndarray:
  _, y = _grid(side)
  shade, joints = _tiles(rng, side, rng.uniform(12, 15), rng.uniform(5, 6.5), 0.16, 0.5)
  grain = 0.06 * _noise(rng, side, 50, 50)
  bricks = _paint(1 + 0.2 * shade + grain, _jittered(rng, 0.02, 0.58, 0.57))
  mortar = _paint(1 + grain, _jittered(rng, 0.08, 0.1, 0.68))
  wall = np.where(joints[..., None], mortar, bricks)
  shade, joints = _tiles(rng, side, rng.uniform(9, 11), rng.uniform(3, 4), 0.1, 0.5)
  slabs = _paint(1 + 0.08 * shade + grain - 0.3 * joints, _jittered(rng, 0.6, 0.08, 0.5))
  kerb = rng.uniform(0.78, 0.86)
  ground = np.where((y > kerb + 0.03)[..., None], slabs, 0.5 * slabs)
  return np.where((y > kerb)[..., None], ground, wall)


_PAINTERS = {'gym': _gym, 'meadow': _meadow, 'pool': _pool, 'street': _street}


def paint_scene(rng: np.random.Generator, family: str, side: int) -> np.ndarray:
  """Paints a scene with random details and colors.

  Args:
    rng: source of all variation.
    family: one of `FAMILIES`.
    side: pixels.

  Returns:
    u8[side, side, 3] RGB.
  """
  scene = _PAINTERS[family](rng, side) * rng.uniform(0.9, 1.05)
  return np.clip(scene, 0, 255).astype(np.uint8)


def paint_table(rng: np.random.Generator, side: int) -> np.ndarray:
  """Paints a table top of boards, tiles, cloth or stone, in a random unsaturated color.

  Args:
    rng: source of all variation.
    side: pixels.

  Returns:
    u8[side, side, 3] RGB.
  """
  x, y = _grid(side)
  material = rng.integers(4)
  if material == 0:
    shade, joints = _tiles(rng, side, rng.uniform(3, 6), rng.uniform(1, 2), 0.06, 0.37)
    texture = 0.1 * shade + 0.08 * _noise(rng, side, 60, 6) - 0.25 * joints
  elif material == 1:
    count = rng.uniform(3, 5)
    shade, joints = _tiles(rng, side, count, count, 0.05, 0.0)
    texture = 0.06 * shade + 0.15 * joints
  elif material == 2:
    count = rng.uniform(4, 8)
    weave = ((x * count + rng.random()) % 1 < 0.5) * 1.0 + ((y * count + rng.random()) % 1 < 0.5)
    texture = 0.12 * (weave - 1) + 0.05 * _noise(rng, side, 80, 80)
  else:
    veins = 1 - np.abs(_noise(rng, side, 5, 5) + 0.5 * _noise(rng, side, 11, 11))
    texture = 0.35 * (np.clip(veins, 0, 1) ** 3 - 0.5)
  # There is less light farther away, which is higher in the picture.
  shade = (1 + texture) * (0.88 + 0.2 * y)
  color = brush.color_of(rng.random(), rng.uniform(0.05, 0.3), rng.uniform(0.5, 0.85))
  return np.clip(_paint(shade.astype(np.float32), color), 0, 255).astype(np.uint8)
