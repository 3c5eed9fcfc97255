"""Renders a clip and its region planes, given a world, a split and an index.

A clip is rendered in three steps:

1. Its script (class and setting) is sampled from a separate random stream, so that the statistics
   of a split can be computed without rendering.
2. Its layers are drawn: a backdrop, and a transparent layer for each person, hand or object.
3. The layers are composited over the backdrop; their coverage gives the region planes.
"""

import dataclasses

import cv2
import numpy as np

from zsar_jax.pantomime import brush, figure, lexicon, scenery, tabletop
from zsar_jax.recipes import regions

# The share of clips in which the scene agrees with the leg action (`scenes`, every split), or the
# object with the manner (`tabletop`, training only). The remaining clips have one of the three
# other settings.
SCENE_AGREEMENT = 0.95
OBJECT_AGREEMENT = 0.99

FPS = 8.0

# The maximum camera movement, as a fraction of the frame's side.
_SHAKE = 0.02
# The fraction of the light that the darkest shadow removes.
_SHADOW = 0.45


@dataclasses.dataclass(frozen=True)
class Script:
  """The action of a clip and its setting.

  Attributes:
    label: index in `lexicon.class_names`.
    setting: index in `scenery.FAMILIES`, or in `tabletop.OBJECTS`.
  """

  label: int
  setting: int


@dataclasses.dataclass(frozen=True)
class Layer:
  """A person, a hand or an object on a transparent background.

  Attributes:
    bit: `regions.PERSON` or `regions.OBJECT`.
    pixels: u8[N, H, W, 4] as from `brush.rasterize`.
  """

  bit: int
  pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class LayeredClip:
  """A clip before its layers are composited.

  Attributes:
    backdrop: u8[N, H, W, 3] RGB, the empty scene, or the table with the shadows.
    layers: the layers, from the farthest to the nearest.
  """

  backdrop: np.ndarray
  layers: tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class RenderedClip:
  """A rendered clip.

  Attributes:
    id: the id, as from `clip_ids`.
    label: index in `lexicon.class_names`.
    frames: u8[N, H, W, 3] RGB.
    regions: u8[N, H, W] region planes, with the bits of `zsar_jax.recipes.regions`.
    fps: frames per second.
  """

  id: str
  label: int
  frames: np.ndarray
  regions: np.ndarray
  fps: float


def clip_id(world: str, split: str, index: int) -> str:
  """Returns the id of a clip, such as `scenes-train-000123`."""
  return f'{world}-{split}-{index:06d}'


def clip_ids(world: str, split: str, count: int) -> tuple[str, ...]:
  """Returns the ids of the first `count` clips of a split."""
  lexicon.index_in(lexicon.WORLDS, world, 'world')
  lexicon.index_in(lexicon.SPLITS, split, 'split')
  return tuple(clip_id(world, split, index) for index in range(count))


def _streams(world: str, split: str, index: int, seed: int) -> list[np.random.Generator]:
  """Returns the two random streams of a clip, for its script and for its layers."""
  sequence = np.random.SeedSequence(
    [
      seed,
      lexicon.index_in(lexicon.WORLDS, world, 'world'),
      lexicon.index_in(lexicon.SPLITS, split, 'split'),
      index,
    ]
  )
  return [np.random.default_rng(child) for child in sequence.spawn(2)]


def _sample_setting(rng: np.random.Generator, typical: int, count: int, agreement: float) -> int:
  """Returns `typical` with probability `agreement`, otherwise another index below `count`."""
  if rng.random() < agreement:
    return typical
  return (typical + int(rng.integers(1, count))) % count


def write_script(world: str, split: str, index: int, seed: int) -> Script:
  """Samples a clip's class and setting.

  Labels cycle through the base classes in training, and through all classes in other splits.

  Args:
    world: one of `lexicon.WORLDS`.
    split: one of `lexicon.SPLITS`.
    index: the clip's number in its split, from 0.
    seed: the seed of the data set, not negative.

  Returns:
    The script that `render_clip` follows for the same arguments.
  """
  rng, _ = _streams(world, split, index, seed)
  names = lexicon.class_names(world)
  classes = lexicon.class_split(world)['base'] if split == 'train' else names
  label = names.index(classes[index % len(classes)])
  row, column = lexicon.word_pair(label)
  if world == 'scenes':
    setting = _sample_setting(rng, column, len(scenery.FAMILIES), SCENE_AGREEMENT)
  elif world == 'tabletop' and split == 'train':
    setting = _sample_setting(rng, row, len(tabletop.OBJECTS), OBJECT_AGREEMENT)
  else:
    # There are as many scene families as kinds of objects.
    setting = int(rng.integers(len(scenery.FAMILIES)))
  return Script(label, setting)


def draw_layers(
  world: str, split: str, index: int, seed: int, size: int = 64, num_frames: int = 12
) -> LayeredClip:
  """Draws the backdrop of a clip and each person, hand and object on a layer of its own.

  Args:
    world: one of `lexicon.WORLDS`.
    split: one of `lexicon.SPLITS`.
    index: the clip's number in its split, from 0.
    seed: the seed of the data set, not negative.
    size: H and W in pixels.
    num_frames: the number of frames, N.

  Returns:
    The layers.
  """
  script = write_script(world, split, index, seed)
  _, rng = _streams(world, split, index, seed)
  row, column = lexicon.word_pair(script.label)
  if world == 'tabletop':
    return _draw_tabletop(
      rng,
      lexicon.MANNERS[row],
      lexicon.DIRECTIONS[column],
      tabletop.OBJECTS[script.setting],
      size,
      num_frames,
    )
  return _draw_figure(
    rng, lexicon.ARMS[row], lexicon.LEGS[column], scenery.FAMILIES[script.setting], size, num_frames
  )


def _draw_figure(
  rng: np.random.Generator, arm: str, leg: str, family: str, size: int, num_frames: int
) -> LayeredClip:
  shake = _camera_shake(rng, size, num_frames)
  scene = scenery.paint_scene(rng, family, _scene_side(size))
  person = brush.rasterize(figure.draw_person(rng, arm, leg, num_frames), size, shake)
  return LayeredClip(_film_scene(scene, shake, size), (Layer(regions.PERSON, person),))


def _draw_tabletop(
  rng: np.random.Generator, manner: str, direction: str, kind: str, size: int, num_frames: int
) -> LayeredClip:
  shake = _camera_shake(rng, size, num_frames)
  backdrop = _film_scene(scenery.paint_table(rng, _scene_side(size)), shake, size)
  layers = []
  for actor in tabletop.draw_actors(rng, manner, direction, kind, num_frames):
    pixels = brush.rasterize(actor.strokes, size, shake)
    _cast_shadow(backdrop, pixels[..., 3], actor.height)
    layers.append(Layer(actor.bit, pixels))
  return LayeredClip(backdrop, tuple(layers))


def _camera_shake(rng: np.random.Generator, size: int, num_frames: int) -> np.ndarray:
  """Returns the shift of each frame, i64[N, 2] (x, y) in pixels of the oversampled frame."""
  time = np.arange(num_frames) / num_frames
  pace, phase = rng.uniform(0.3, 1.2, 2), rng.random(2)
  swing = np.sin(2 * np.pi * (time[:, None] * pace + phase)) * rng.uniform(0, 1, 2)
  return np.rint(swing * _margin(size)).astype(int)


def _margin(size: int) -> int:
  """Returns the maximum camera shift in pixels of the oversampled frame."""
  return round(_SHAKE * size * brush.OVERSAMPLING)


def _scene_side(size: int) -> int:
  """Returns the side in pixels of a scene that contains every shifted frame."""
  return size * brush.OVERSAMPLING + 2 * _margin(size)


def _film_scene(scene: np.ndarray, shake: np.ndarray, size: int) -> np.ndarray:
  """Returns the empty scene as the moving camera sees it.

  Args:
    scene: u8[_scene_side(size), _scene_side(size), 3].
    shake: i64[N, 2] as from `_camera_shake`.
    size: H and W in pixels.

  Returns:
    u8[N, H, W, 3].
  """
  extent = size * brush.OVERSAMPLING
  frames = np.empty((len(shake), size, size, 3), np.uint8)
  for frame, (left, top) in zip(frames, _margin(size) - shake, strict=True):
    cut = scene[top : top + extent, left : left + extent]
    cv2.resize(cut, (size, size), dst=frame, interpolation=cv2.INTER_AREA)
  return frames


def _cast_shadow(backdrop: np.ndarray, coverage: np.ndarray, height: np.ndarray) -> None:
  """Darkens the table, in place, below an object and to the right of it.

  Args:
    backdrop: u8[N, H, W, 3].
    coverage: u8[N, H, W] of the object.
    height: f64[N] of the object above the table, as a fraction of the frame's side.
  """
  size = coverage.shape[1]
  for frame, mask, lift in zip(backdrop, coverage, height, strict=True):
    # The object is drawn higher up by its height, while its shadow stays on the table.
    shift = size * np.array([0.02 + 0.5 * lift, 0.02 + lift])
    shadow = cv2.warpAffine(
      mask,
      np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
      (size, size),
      borderMode=cv2.BORDER_REPLICATE,
    )
    blurred = cv2.GaussianBlur(shadow, (0, 0), size * (0.02 + 0.1 * lift))
    light = 1 - _SHADOW / 255 * blurred.astype(np.float32)  # [H, W]
    np.multiply(frame, light[..., None], out=frame, casting='unsafe')


def flatten(clip: LayeredClip) -> tuple[np.ndarray, np.ndarray]:
  """Composites all layers over the backdrop, and draws the region planes.

  A pixel belongs to the region of a layer that covers at least half of it, even if a nearer layer
  hides it: regions may overlap. Boxes are the bounding rectangles of these pixels, one for each
  layer and frame.

  Args:
    clip: a clip of N frames.

  Returns:
    frames u8[N, H, W, 3] and region planes u8[N, H, W].
  """
  frames = clip.backdrop
  planes = np.zeros(frames.shape[:3], np.uint8)
  for layer in clip.layers:
    frames = brush.composite(frames, layer.pixels)
    covered = layer.pixels[..., 3] >= 128  # [N, H, W]
    planes |= layer.bit * covered.astype(np.uint8)
    for plane, mask in zip(planes, covered, strict=True):
      left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
      regions.draw_box(plane, layer.bit << regions.BOX_SHIFT, left, top, left + width, top + height)
  return frames, planes


def render_clip(
  world: str, split: str, index: int, seed: int, size: int = 64, num_frames: int = 12
) -> RenderedClip:
  """Renders a clip; returns the same bytes for the same arguments in any process.

  Args:
    world: one of `lexicon.WORLDS`.
    split: one of `lexicon.SPLITS`.
    index: the clip's number in its split, from 0.
    seed: the seed of the data set, not negative.
    size: H and W in pixels.
    num_frames: the number of frames, N. The movement always fills the clip; more frames sample it
      more densely.

  Returns:
    The clip.
  """
  frames, planes = flatten(draw_layers(world, split, index, seed, size, num_frames))
  label = write_script(world, split, index, seed).label
  return RenderedClip(clip_id(world, split, index), label, frames, planes, FPS)
