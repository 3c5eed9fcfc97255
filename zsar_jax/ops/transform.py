"""Applies a mask recipe to a batch of clips: effects, another clip's background, painting, order.

Some parts of a recipe combine a clip with a partner. In training the partner of clip i of B is clip
B - 1 - i of the micro-batch, as in `mix`; in evaluation the batch contains the partners.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zsar_jax.ops import baselines
from zsar_jax.ops.backgrounds import empty_scene, swap_background
from zsar_jax.ops.frame_order import draw_effect, permuted_frames
from zsar_jax.ops.masking import is_known, paint, part_keys
from zsar_jax.ops.photometric import normalize, to_float
from zsar_jax.recipes.language import Recipe
from zsar_jax.recipes.regions import OBJECT, PERSON


class Clips(NamedTuple):
  """B clips on their way to the model; a single clip has no first dimension.

  Attributes:
    video: f32[B, T, H, W, 3], normalized.
    regions: u8[B, T, H, W], region planes.
    annotated: bool[B, T].
    targets: f32[B, C], a distribution over the classes for each clip.
    inpainted: f32[B, T, H, W, 3], the video without its people; as the video in frames that are not
      annotated and in clips whose people are unknown. None if no recipe shows it.
  """

  video: jax.Array
  regions: jax.Array
  annotated: jax.Array
  targets: jax.Array
  inpainted: jax.Array | None = None


def reverse(clips: Clips) -> Clips:
  """Returns the clips in reverse order, which are their partners in training."""
  return jax.tree.map(lambda x: x[::-1], clips)


def apply_recipe(
  keys: jax.Array,
  clips: Clips,
  partners: Clips,
  recipe: Recipe,
  erasing: float = 0.3,
  still_share: tuple[float, float] = (200.0, 200.0),
  stills: jax.Array | None = None,
) -> Clips:
  """Applies a recipe to each clip.

  Args:
    keys: a random key for each clip.
    clips: B clips.
    partners: B clips, the partner of each; unused if the recipe needs none.
    recipe: the recipe.
    erasing: see `baselines.background_erasing`.
    still_share: alpha and beta of `baselines.still_mix`.
    stills: u8[K, H, W, 3], the bank of the effect 'stillmix_bank'.

  Returns:
    The clips. Where a clip got another background, its region planes are moved with its people and
    objects. Where its frames got another order, so did their planes and `annotated`.
  """

  def apply_to_clip(key: jax.Array, clip: Clips, partner: Clips) -> Clips:
    for effect in recipe.early_effects:
      effect_key, applies = draw_effect(key, effect)
      changed = _apply_effect(effect.name, effect_key, clip, partner, erasing, still_share, stills)
      clip = _where(applies, changed, clip)
    if part := recipe.swap_part:
      applies = jax.random.bernoulli(part_keys(key, part)[1], part.probability)
      clip = _where(applies, _swap(clip, partner), clip)
    video = paint(key, clip.video, clip.regions, clip.annotated, recipe, clip.inpainted)
    # Inpainted frames are of no use after painting.
    clip = clip._replace(video=video, inpainted=None)
    if recipe.effect('reverse') or recipe.effect('shuffle'):
      clip = _take_frames(clip, permuted_frames(key, recipe, len(video)))
    if effect := recipe.effect('freeze'):
      # A constant index, so that XLA can paint this frame only.
      still = _take_frames(clip, len(video) // 2)
      clip = _where(draw_effect(key, effect)[1], still, clip)
    return clip

  return jax.vmap(apply_to_clip)(keys, clips, partners)


def _take_frames(clip: Clips, frames: jax.Array | int) -> Clips:
  """Returns a clip of the frames i32[T], or of a single frame that is repeated."""

  def take(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(x[frames], x.shape)

  return clip._replace(
    video=take(clip.video), regions=take(clip.regions), annotated=take(clip.annotated)
  )


def _apply_effect(
  name: str,
  key: jax.Array,
  clip: Clips,
  partner: Clips,
  erasing: float,
  still_share: tuple[float, float],
  stills: jax.Array | None,
) -> Clips:
  """Applies one of the debiasing baselines to a clip."""
  match name:
    case 'actorcutmix':
      actors, partner_actors = _region_mask(clip, PERSON), _region_mask(partner, PERSON)
      video, targets = baselines.actor_cutmix(
        clip.video, actors, clip.targets, partner.video, partner_actors, partner.targets
      )
      regions = jnp.where(actors, clip.regions, partner.regions & ~jnp.uint8(PERSON))
      # People that are unknown would stay visible in another clip's background.
      applies = _all_known(clip, PERSON) & _all_known(partner, PERSON)
      applies &= actors.any() & ~actors.all()
      return _where(applies, clip._replace(video=video, regions=regions, targets=targets), clip)
    case 'be':
      return _blend(clip, lambda video: baselines.background_erasing(key, video, erasing))
    case 'fame':
      return clip._replace(video=baselines.fame(clip.video, partner.video))
    case 'stillmix':
      index_key, key = jax.random.split(key)
      index = jax.random.randint(index_key, (), 0, len(partner.video))
      still = partner.video[index]
    case 'stillmix_bank':
      index_key, key = jax.random.split(key)
      assert stills is not None  # A recipe with this effect comes with a bank.
      index = jax.random.randint(index_key, (), 0, len(stills))
      still = normalize(to_float(stills[index]))
  return _blend(clip, lambda video: baselines.still_mix(key, video, still, *still_share))


def _blend(clip: Clips, change: Callable[[jax.Array], jax.Array]) -> Clips:
  """Changes the video of a clip and, in the same way, its inpainted frames."""
  inpainted = None if clip.inpainted is None else change(clip.inpainted)
  return clip._replace(video=change(clip.video), inpainted=inpainted)


def _swap(clip: Clips, partner: Clips) -> Clips:
  """Puts a clip's people and objects in front of its partner's background.

  The background is that of the partner's inpainted frames, if it has any. Behind the people is then
  this background, which `person=inpaint` shows.
  """
  if partner.inpainted is None:
    scene = empty_scene(partner.video, partner.regions)
  else:
    scene = empty_scene(partner.inpainted, partner.regions, OBJECT)
  video, regions = swap_background(clip.video, clip.regions, scene, partner.regions)
  swapped = clip._replace(video=video, regions=regions)
  if clip.inpainted is not None:
    people = (regions & PERSON) != 0
    swapped = swapped._replace(inpainted=jnp.where(people[..., None], scene, video))
  # The regions of both clips are needed: the clip's own for what to move, the partner's for what to
  # remove from its background.
  applies = _all_known(clip, PERSON | OBJECT) & _all_known(partner, PERSON | OBJECT)
  applies &= _region_mask(clip, PERSON | OBJECT).any()
  return _where(applies, swapped, clip)


def _all_known(clip: Clips, bits: int) -> jax.Array:
  """Returns bool[]: whether all regions of `bits` are known in every frame of a clip."""
  return clip.annotated.all() & is_known(clip.regions, bits).all()


def _region_mask(clip: Clips, bits: int) -> jax.Array:
  """Returns bool[T, H, W]: the pixels of any region of `bits` in annotated frames."""
  return ((clip.regions & bits) != 0) & clip.annotated[:, None, None]


def _where(condition: jax.Array, changed: Clips, clip: Clips) -> Clips:
  """Returns `changed` if the condition holds, otherwise `clip`."""
  return jax.tree.map(lambda new, old: jnp.where(condition, new, old), changed, clip)
