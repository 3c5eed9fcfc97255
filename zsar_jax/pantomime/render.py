"""From a world, a split and an index to a clip with its region planes.

A clip is made in three steps. Its script, the class and the setting, is drawn first and from a
random stream of its own: what a split is made of can be counted without drawing a picture. The
script is staged: a backdrop, and on film before it each person, hand or object. The film is
laid over the backdrop, and its coverage is the region plane.
"""

import dataclasses

import cv2
import numpy as np

from zsar_jax.pantomime import brush, figure, lexicon, scenery, tabletop
from zsar_jax.recipes import regions

# In how many of the clips the scene goes with the leg action (`scenes`, every split), or the
# object with the manner (`tabletop`, training only). In all others it is one of the other three.
SCENE_AGREEMENT = 0.95
OBJECT_AGREEMENT = 0.99

FPS = 8.0

# How far the camera moves from its place at most, as a fraction of the frame's side.
_SHAKE = 0.02
_SHADOW = 0.45


@dataclasses.dataclass(frozen=True)
class Script:
  """What happens in a clip, and where.

  Attributes:
    label: index in `lexicon.class_names`.
    setting: index in `scenery.FAMILIES`, or in `tabletop.OBJECTS`.
  """

  label: int
  setting: int


@dataclasses.dataclass(frozen=True)
class Film:
  """A person, a hand or an object, cut out.

  Attributes:
    bit: `regions.PERSON` or `regions.OBJECT`.
    pixels: u8[N, H, W, 4] as `brush.develop` makes them.
  """

  bit: int
  pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stage:
  """A clip before it is flattened.

  Attributes:
    backdrop: u8[N, H, W, 3] RGB with nobody in it; on a table, with the shadows.
    films: from the farthest to the nearest.
  """

  backdrop: np.ndarray
  films: tuple[Film, ...]


@dataclasses.dataclass(frozen=True)
class RenderedClip:
  """A finished clip.

  Attributes:
    id: as from `clip_ids`.
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
  """Name of one clip, for instance `scenes-train-000123`."""
  return f'{world}-{split}-{index:06d}'


def clip_ids(world: str, split: str, count: int) -> tuple[str, ...]:
  """Names of the first `count` clips of a split."""
  lexicon.index_in(lexicon.WORLDS, world, 'world')
  lexicon.index_in(lexicon.SPLITS, split, 'split')
  return tuple(clip_id(world, split, index) for index in range(count))


def _streams(world: str, split: str, index: int, seed: int) -> list[np.random.Generator]:
  """A clip's two random streams: for its script and for its staging."""
  key = np.random.SeedSequence(
    [
      seed,
      lexicon.index_in(lexicon.WORLDS, world, 'world'),
      lexicon.index_in(lexicon.SPLITS, split, 'split'),
      index,
    ]
  )
  return [np.random.default_rng(child) for child in key.spawn(2)]


def _agreeing(rng: np.random.Generator, partner: int, count: int, agreement: float) -> int:
  """`partner` with probability `agreement`, otherwise any other index below `count`."""
  if rng.random() < agreement:
    return partner
  return (partner + int(rng.integers(1, count))) % count


def write_script(world: str, split: str, index: int, seed: int) -> Script:
  """Draws a clip's class and setting.

  Labels go round in turn: in training over the base classes, elsewhere over all.

  Args:
    world: one of `lexicon.WORLDS`.
    split: one of `lexicon.SPLITS`.
    index: the clip's number in its split, from 0.
    seed: of the whole data set, not negative.

  Returns:
    The script that `render_clip` follows for the same arguments.
  """
  rng, _ = _streams(world, split, index, seed)
  names = lexicon.class_names(world)
  cast = lexicon.class_split(world)['base'] if split == 'train' else names
  label = names.index(cast[index % len(cast)])
  row, column = lexicon.word_pair(label)
  if world == 'scenes':
    setting = _agreeing(rng, column, len(scenery.FAMILIES), SCENE_AGREEMENT)
  elif world == 'tabletop' and split == 'train':
    setting = _agreeing(rng, row, len(tabletop.OBJECTS), OBJECT_AGREEMENT)
  else:
    # There are as many scene families as kinds of objects.
    setting = int(rng.integers(len(scenery.FAMILIES)))
  return Script(label, setting)


def stage_clip(
  world: str, split: str, index: int, seed: int, size: int = 64, num_frames: int = 12
) -> Stage:
  """Draws all that is in a clip, each thing on film of its own.

  Args:
    world: one of `lexicon.WORLDS`.
    split: one of `lexicon.SPLITS`.
    index: the clip's number in its split, from 0.
    seed: of the whole data set, not negative.
    size: H and W in pixels.
    num_frames: N.

  Returns:
    The stage.
  """
  script = write_script(world, split, index, seed)
  _, rng = _streams(world, split, index, seed)
  row, column = lexicon.word_pair(script.label)
  if world == 'tabletop':
    return _stage_tabletop(
      rng,
      lexicon.MANNERS[row],
      lexicon.DIRECTIONS[column],
      tabletop.OBJECTS[script.setting],
      size,
      num_frames,
    )
  return _stage_figure(
    rng, lexicon.ARMS[row], lexicon.LEGS[column], scenery.FAMILIES[script.setting], size, num_frames
  )


def _stage_figure(
  rng: np.random.Generator, arm: str, leg: str, family: str, size: int, num_frames: int
) -> Stage:
  shake = _camera_shake(rng, size, num_frames)
  scene = scenery.paint_scene(rng, family, _scene_side(size))
  person = brush.develop(figure.perform(rng, arm, leg, num_frames), size, shake)
  return Stage(_shoot(scene, shake, size), (Film(regions.PERSON, person),))


def _stage_tabletop(
  rng: np.random.Generator, manner: str, direction: str, kind: str, size: int, num_frames: int
) -> Stage:
  shake = _camera_shake(rng, size, num_frames)
  backdrop = _shoot(scenery.paint_table(rng, _scene_side(size)), shake, size)
  films = []
  for actor in tabletop.perform(rng, manner, direction, kind, num_frames):
    pixels = brush.develop(actor.strokes, size, shake)
    _cast_shadow(backdrop, pixels[..., 3], actor.height)
    films.append(Film(actor.bit, pixels))
  return Stage(backdrop, tuple(films))


def _camera_shake(rng: np.random.Generator, size: int, num_frames: int) -> np.ndarray:
  """How far the picture is shifted, i64[N, 2] (x, y) in pixels of the oversampled frame."""
  time = np.arange(num_frames) / num_frames
  pace, phase = rng.uniform(0.3, 1.2, 2), rng.random(2)
  swing = np.sin(2 * np.pi * (time[:, None] * pace + phase)) * rng.uniform(0, 1, 2)
  return np.rint(swing * _margin(size)).astype(int)


def _margin(size: int) -> int:
  return round(_SHAKE * size * brush.OVERSAMPLING)


def _scene_side(size: int) -> int:
  """Side in pixels of a scene from which every shaken frame can be cut."""
  return size * brush.OVERSAMPLING + 2 * _margin(size)


def _shoot(scene: np.ndarray, shake: np.ndarray, size: int) -> np.ndarray:
  """The bare scene as the shaken camera sees it.

  Args:
    scene: u8[_scene_side(size), _scene_side(size), 3].
    shake: i64[N, 2] as from `_camera_shake`.
    size: H and W in pixels.

  Returns:
    u8[N, H, W, 3].
  """
  extent = size * brush.OVERSAMPLING
  views = np.empty((len(shake), size, size, 3), np.uint8)
  for view, (left, top) in zip(views, _margin(size) - shake, strict=True):
    cut = scene[top : top + extent, left : left + extent]
    cv2.resize(cut, (size, size), dst=view, interpolation=cv2.INTER_AREA)
  return views


def _cast_shadow(backdrop: np.ndarray, coverage: np.ndarray, height: np.ndarray) -> None:
  """Darkens the table, in place, below something and to the right of it.

  Args:
    backdrop: u8[N, H, W, 3].
    coverage: u8[N, H, W] of what is in the light.
    height: f64[N] of it above the table, as a fraction of the frame's side.
  """
  size = coverage.shape[1]
  for view, mask, lift in zip(backdrop, coverage, height, strict=True):
    # The thing itself is drawn higher up by its height: its shadow stays behind on the table.
    shift = size * np.array([0.02 + 0.5 * lift, 0.02 + lift])
    moved = cv2.warpAffine(
      mask,
      np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
      (size, size),
      borderMode=cv2.BORDER_REPLICATE,
    )
    blurred = cv2.GaussianBlur(moved, (0, 0), size * (0.02 + 0.1 * lift))
    light = 1 - _SHADOW / 255 * blurred.astype(np.float32)  # [H, W]
    np.multiply(view, light[..., None], out=view, casting='unsafe')


def flatten(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
  """Lays all film over the backdrop, and notes which pixels each thing covers.

  A pixel belongs to a thing that covers at least half of it, also where something nearer hides
  it: planes of different things overlap. Boxes are the bounding rectangles of these pixels, one
  for each thing and frame.

  Args:
    stage: of N frames.

  Returns:
    frames u8[N, H, W, 3] and region planes u8[N, H, W].
  """
  frames = stage.backdrop
  planes = np.zeros(frames.shape[:3], np.uint8)
  for film in stage.films:
    frames = brush.lay_over(frames, film.pixels)
    covered = film.pixels[..., 3] >= 128  # [N, H, W]
    planes |= film.bit * covered.astype(np.uint8)
    for plane, mask in zip(planes, covered, strict=True):
      left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
      regions.draw_box(plane, film.bit << regions.BOX_SHIFT, left, top, left + width, top + height)
  return frames, planes


def render_clip(
  world: str, split: str, index: int, seed: int, size: int = 64, num_frames: int = 12
) -> RenderedClip:
  """Renders one clip: a pure function, the same bytes for the same arguments in any process.

  Args:
    world: one of `lexicon.WORLDS`.
    split: one of `lexicon.SPLITS`.
    index: the clip's number in its split, from 0.
    seed: of the whole data set, not negative.
    size: H and W in pixels.
    num_frames: N. The movement always fills the clip: more frames show it finer.

  Returns:
    The clip.
  """
  frames, planes = flatten(stage_clip(world, split, index, seed, size, num_frames))
  label = write_script(world, split, index, seed).label
  return RenderedClip(clip_id(world, split, index), label, frames, planes, FPS)
