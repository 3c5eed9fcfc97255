"""Draws animated convex shapes, anti-aliased, on transparent layers.

Everything that moves in Pantomime consists of convex hulls of circles: a limb is the hull of two
circles, a torso the hull of four. Positions and radii are fractions of the frame's side, x to the
right and y down, so that the same movement can be drawn at any size.
"""

import dataclasses

import cv2
import numpy as np

# Shapes are drawn this many times larger and averaged: a pixel has 9 levels of coverage.
OVERSAMPLING = 3
# OpenCV takes vertices as fixed-point numbers with this many fractional bits.
_FRACTION_BITS = 4

_CORNERS = 28
_ANGLES = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)  # [K, 2]

# Shading by a lamp at the upper left. The rim's width is a fraction of the frame's side; the radius
# and the offset of the glint are relative to a shape's radius.
_RIM_WIDTH = 0.012
_GLINT_RADIUS = 0.42
_GLINT_OFFSET = np.array([-0.26, -0.3])

Color = tuple[int, int, int]

_SKIN = ((255, 219, 182), (241, 194, 150), (214, 158, 110), (165, 112, 74), (112, 74, 50))


@dataclasses.dataclass(frozen=True)
class Stroke:
  """A convex shape of one color, moving through a clip.

  Attributes:
    outline: f64[N, K, 2] vertices (x, y) in each frame, as fractions of the frame's side.
    color: RGB, 0 to 255.
  """

  outline: np.ndarray
  color: Color


@dataclasses.dataclass(frozen=True)
class Hull:
  """The convex hull of some circles, moving through a clip.

  Attributes:
    centers: f64[N, M, 2] as fractions of the frame's side.
    radii: f64[M] or f64[N, M] as fractions of the frame's side.
  """

  centers: np.ndarray
  radii: np.ndarray

  def outline(self) -> np.ndarray:
    """Returns f64[N, K, 2]: for each of K directions, the hull's farthest point."""
    radii = np.broadcast_to(self.radii, self.centers.shape[:2])  # [N, M]
    reach = self.centers @ _DIRECTIONS.T + radii[..., None]  # [N, M, K]
    farthest = reach.argmax(axis=1)  # [N, K]
    frame = np.arange(len(radii))[:, None]  # [N, 1]
    return self.centers[frame, farthest] + radii[frame, farthest][..., None] * _DIRECTIONS


def color_of(hue: float, saturation: float, value: float) -> Color:
  """Returns the RGB of a hue in turns (any real number), a saturation and a value in 0..1."""
  ramp = np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1.0 * 6 - 3) - 1
  rgb = value * (1 - saturation + saturation * np.clip(ramp, 0, 1))
  red, green, blue = (int(c) for c in np.rint(255 * np.clip(rgb, 0, 1)))
  return red, green, blue


def random_skin(rng: np.random.Generator) -> Color:
  """Returns one of five tones of human skin."""
  return _SKIN[rng.integers(len(_SKIN))]


def mix_colors(color: Color, other: Color, share: float) -> Color:
  """Returns `color` mixed with a share (0..1) of `other`."""
  red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(color, other, strict=True))
  return red, green, blue


def flat_stroke(hull: Hull, color: Color) -> Stroke:
  """Returns a shape without shading."""
  return Stroke(hull.outline(), color)


def shaded_strokes(hulls: list[Hull], color: Color, rim_width: float = _RIM_WIDTH) -> list[Stroke]:
  """Returns a body of several shapes, with a dark rim around all and a glint on each.

  Args:
    hulls: the shapes.
    color: RGB of the body.
    rim_width: the width of the rim around the shapes, as a fraction of the frame's side.

  Returns:
    The strokes, in the order of drawing.
  """
  dark = mix_colors(color, (16, 12, 24), 0.68)
  light = mix_colors(color, (255, 255, 255), 0.38)
  rims = [flat_stroke(Hull(hull.centers, hull.radii + rim_width), dark) for hull in hulls]
  bodies = [flat_stroke(hull, color) for hull in hulls]
  glints = [
    flat_stroke(
      Hull(hull.centers + hull.radii[..., None] * _GLINT_OFFSET, hull.radii * _GLINT_RADIUS),
      light,
    )
    for hull in hulls
  ]
  return rims + bodies + glints


def limb_hulls(joints: np.ndarray, radii: np.ndarray) -> list[Hull]:
  """Returns the hulls of each joint of a limb and the next.

  Args:
    joints: f64[N, J, 2].
    radii: f64[J] or f64[N, J].

  Returns:
    J - 1 hulls.
  """
  return [Hull(joints[:, j : j + 2], radii[..., j : j + 2]) for j in range(joints.shape[1] - 1)]


def rasterize(strokes: list[Stroke], size: int, shift: np.ndarray) -> np.ndarray:
  """Draws strokes over each other on a transparent layer.

  Args:
    strokes: the strokes of N frames, from the farthest to the nearest.
    size: side of the layer in pixels.
    shift: i64[N, 2] (x, y), added to all positions of a frame, in pixels of the oversampled frame.

  Returns:
    u8[N, size, size, 4]: RGB multiplied by the coverage, and the coverage as 0 to 255.
  """
  unit = size * OVERSAMPLING << _FRACTION_BITS
  # For OpenCV, integer coordinates are pixel centers, hence the half pixel.
  half = 1 << (_FRACTION_BITS - 1)
  offset = (shift[:, None] << _FRACTION_BITS) - half  # [N, 1, 2]
  vertices = [
    np.rint(stroke.outline * unit + offset).astype(np.int32) for stroke in strokes
  ]  # of [N, K, 2] each
  layer = np.empty((len(shift), size, size, 4), np.uint8)
  canvas = np.empty((size * OVERSAMPLING, size * OVERSAMPLING, 4), np.uint8)
  for frame in range(len(shift)):
    canvas[:] = 0
    for stroke, polygon in zip(strokes, vertices, strict=True):
      cv2.fillConvexPoly(canvas, polygon[frame], (*stroke.color, 255), shift=_FRACTION_BITS)
    cv2.resize(canvas, (size, size), dst=layer[frame], interpolation=cv2.INTER_AREA)
  return layer


def composite(pictures: np.ndarray, layer: np.ndarray) -> np.ndarray:
  """Draws a layer over pictures, by its coverage.

  Args:
    pictures: u8[N, H, W, 3].
    layer: u8[N, H, W, 4] as from `rasterize`.

  Returns:
    u8[N, H, W, 3], unchanged where the layer is transparent.
  """
  transparency = 255 - layer[..., 3:].astype(np.uint16)  # [N, H, W, 1]
  # Cannot overflow: the layer's RGB never exceeds its coverage.
  return ((pictures * transparency + 127) // 255 + layer[..., :3]).astype(np.uint8)
