"""Painting the regions of a clip over with colors, as a mask recipe says.

This is the project's instrument: a model that still names the action when the background
or the objects are painted over has seen the action (arXiv 2501.12681).
"""

import jax
import jax.numpy as jnp

from zsar_jax.ops.backgrounds import draw_stripes
from zsar_jax.ops.photometric import normalize
from zsar_jax.recipes.language import LAYERS, Part, Recipe
from zsar_jax.recipes.regions import OBJECT, PERSON, REGION_BITS, UNKNOWN_SHIFT


def paint(
  key: jax.Array,
  video: jax.Array,
  regions: jax.Array,
  annotated: jax.Array,
  recipe: Recipe,
) -> jax.Array:
  """Paints one clip; `jax.vmap` it over a batch, with a key for each clip.

  Frames that nobody annotated are left as they are: painting the background of a frame
  whose regions are unknown would wipe it whole. So is a part whose region is unknown, and the
  background where people or objects are. What else a recipe does, the background of
  another clip included, is `transform`'s.

  Args:
    key: the clip's random key. A part's color depends on the key and its region alone, so
      that the background of a clip gets the same color under every recipe that draws it alike.
    video: f32[T, H, W, 3], normalized.
    regions: u8[T, H, W], region planes.
    annotated: bool[T].
    recipe: what to paint.

  Returns:
    f32[T, H, W, 3].
  """
  for part in recipe.parts:
    if part.fill == 'swap':
      continue
    fill_key, clip_key = part_keys(key, part)
    area = _area(part, regions) & annotated[:, None, None]  # [T, H, W]
    if part.probability < 1:
      area &= jax.random.bernoulli(clip_key, part.probability)
    if part.fill == 'stripes':
      fill = normalize(draw_stripes(fill_key, *video.shape[1:3]))[None]  # [1, H, W, 3]
    else:
      fill = _color(fill_key, part, video.shape[0])[:, None, None, :]  # [T or 1, 1, 1, 3]
    video = jnp.where(area[..., None], fill.astype(video.dtype), video)
  return video


def part_keys(key: jax.Array, part: Part) -> tuple[jax.Array, jax.Array]:
  """From a clip's key those for a part's fill, and for whether the clip is changed at all."""
  fill_key, clip_key = jax.random.split(jax.random.fold_in(key, LAYERS.index(part.region)))
  return (jax.random.fold_in(fill_key, 1) if part.draw == 'other' else fill_key), clip_key


def is_known(regions: jax.Array, bits: int) -> jax.Array:
  """bool[...]: where of region planes all regions of `bits` are known."""
  return (regions & (bits << UNKNOWN_SHIFT)) == 0


def _area(part: Part, regions: jax.Array) -> jax.Array:
  """bool[T, H, W]: where the part paints; parts of a higher layer then paint over it."""
  if part.region == 'background':
    shapes = PERSON | OBJECT
    return ((regions & shapes) == 0) & is_known(regions, shapes)
  # A region that is unknown is drawn nowhere.
  area = (regions & REGION_BITS[part.region]) != 0
  if part.region in ('object', 'object_box') and not part.over_people:
    area &= (regions & PERSON) == 0
  return area


def _color(key: jax.Array, part: Part, num_frames: int) -> jax.Array:
  """f32[T or 1, 3]: the part's color in normalized space."""
  shape = (num_frames if part.draw == 'frame' else 1, 3)
  match part.fill:
    case 'normal':
      return jax.random.normal(key, shape)
    case 'uniform':
      return normalize(jax.random.uniform(key, shape))
    case 'mean':
      return jnp.zeros(shape)
    case 'black':
      return normalize(jnp.zeros(shape))
    case 'white':
      return normalize(jnp.ones(shape))
    case rgb:
      return normalize(jnp.array([[int(rgb[i : i + 2], 16) / 255 for i in (1, 3, 5)]]))
