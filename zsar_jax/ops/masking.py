"""Paints the regions of a clip with colors, as a mask recipe says.

This is the project's instrument: a model that still names the action when the background or the
objects are painted over has recognized the action itself (arXiv 2501.12681).
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
  inpainted: jax.Array | None = None,
) -> jax.Array:
  """Paints one clip; `jax.vmap` it over a batch, with a key for each clip.

  Frames without annotation stay unchanged: if the regions of a frame are unknown, painting its
  background would erase the entire frame. Likewise a part is not painted where its region is
  unknown, and the background is not painted where people or objects are unknown. All else that a
  recipe does, such as swapping the background, is in `transform`.

  Under `person=inpaint` the inpainted frames replace the frames before anything is painted: an
  inpainter also changes a rim around people, which is part of the background or of an object here.
  Other parts then paint their regions, the rim included.

  Args:
    key: the clip's random key. A part's color depends only on the key and the part's region, so the
      background of a clip gets the same color under all recipes that draw it in the same way.
    video: f32[T, H, W, 3], normalized.
    regions: u8[T, H, W], region planes.
    annotated: bool[T].
    recipe: the recipe; only its parts are used.
    inpainted: f32[T, H, W, 3], the frames without their people, if the recipe shows them.

  Returns:
    f32[T, H, W, 3].
  """
  if part := recipe.inpaint_part:
    assert inpainted is not None, 'a batch for this recipe has inpainted frames'
    replaced = annotated & jax.random.bernoulli(part_keys(key, part)[1], part.probability)
    video = jnp.where(replaced[:, None, None, None], inpainted, video)
  for part in recipe.parts:
    if part.fill == 'swap':
      continue
    fill_key, clip_key = part_keys(key, part)
    area = _area(part, regions) & annotated[:, None, None]  # [T, H, W]
    if part.probability < 1:
      area &= jax.random.bernoulli(clip_key, part.probability)
    if part.fill == 'stripes':
      fill = normalize(draw_stripes(fill_key, *video.shape[1:3]))[None]  # [1, H, W, 3]
    elif part.fill == 'inpaint' and inpainted is not None:
      fill = inpainted  # Over an object that was painted over people.
    else:
      fill = _color(fill_key, part, video.shape[0])[:, None, None, :]  # [T or 1, 1, 1, 3]
    video = jnp.where(area[..., None], fill.astype(video.dtype), video)
  return video


def part_keys(key: jax.Array, part: Part) -> tuple[jax.Array, jax.Array]:
  """Derives from a clip's key the keys of a part: for its fill, and for whether it is painted."""
  fill_key, clip_key = jax.random.split(jax.random.fold_in(key, LAYERS.index(part.region)))
  return (jax.random.fold_in(fill_key, 1) if part.draw == 'other' else fill_key), clip_key


def is_known(regions: jax.Array, bits: int) -> jax.Array:
  """Returns bool[...]: the pixels of region planes u8[...] at which all of `bits` are known."""
  return (regions & (bits << UNKNOWN_SHIFT)) == 0


def _area(part: Part, regions: jax.Array) -> jax.Array:
  """Returns bool[T, H, W]: the pixels that a part paints, before parts of higher layers."""
  if part.region == 'background':
    shapes = PERSON | OBJECT
    return ((regions & shapes) == 0) & is_known(regions, shapes)
  # An unknown region has no bits set, so that nothing is painted.
  area = (regions & REGION_BITS[part.region]) != 0
  if part.region in ('object', 'object_box') and not part.over_people:
    area &= (regions & PERSON) == 0
  return area


def _color(key: jax.Array, part: Part, num_frames: int) -> jax.Array:
  """Returns f32[T or 1, 3], the part's color in normalized space."""
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
