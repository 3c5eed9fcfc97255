"""What a recipe does to a batch of clips: effects, the background of another clip, and painting.

Where a clip meets another one, that is in training the clip at its place in the micro-batch
counted from the end, as in `mix`, and in evaluation the partner that the batch brings.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zsar_jax.ops import baselines
from zsar_jax.ops.backgrounds import freeze, swap_background
from zsar_jax.ops.masking import is_known, paint, part_keys
from zsar_jax.ops.photometric import normalize, to_float
from zsar_jax.recipes.language import EFFECTS, LAYERS, Effect, Recipe
from zsar_jax.recipes.regions import OBJECT, PERSON


class Clips(NamedTuple):
  """Clips on their way to the model, B of them, or one without the first dimension.

  Attributes:
    video: f32[B, T, H, W, 3], normalized.
    regions: u8[B, T, H, W], region planes.
    annotated: bool[B, T].
    targets: f32[B, C], a distribution over the classes for each clip.
  """

  video: jax.Array
  regions: jax.Array
  annotated: jax.Array
  targets: jax.Array


def reverse(clips: Clips) -> Clips:
  """The clips in the opposite order: each one's partner in training."""
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
  """Does to each clip what a recipe says.

  Args:
    keys: a random key for each clip.
    clips: B clips.
    partners: the clip that each meets, where the recipe asks for one.
    recipe: what to do.
    erasing: see `baselines.background_erasing`.
    still_share: alpha and beta of `baselines.still_mix`.
    stills: u8[K, H, W, 3], the bank of 'stillmix_bank'.

  Returns:
    The clips; where the background is another clip's, with the region planes of what was moved.
  """

  def one_clip(key: jax.Array, clip: Clips, partner: Clips) -> Clips:
    for effect in recipe.effects:
      if effect.name != 'freeze':
        effect_key, do = _drawn(key, effect)
        changed = _apply(effect.name, effect_key, clip, partner, erasing, still_share, stills)
        clip = _where(do, changed, clip)
    if part := recipe.swap_part:
      do = jax.random.bernoulli(part_keys(key, part)[1], part.probability)
      clip = _where(do, _swap(clip, partner), clip)
    clip = clip._replace(video=paint(key, clip.video, clip.regions, clip.annotated, recipe))
    if effect := recipe.effect('freeze'):
      still = Clips(*freeze(clip.video, clip.regions, clip.annotated), clip.targets)
      clip = _where(_drawn(key, effect)[1], still, clip)
    return clip

  return jax.vmap(one_clip)(keys, clips, partners)


def _drawn(key: jax.Array, effect: Effect) -> tuple[jax.Array, jax.Array]:
  """From a clip's key that of an effect, and whether it happens to the clip."""
  effect_key, clip_key = jax.random.split(
    jax.random.fold_in(key, len(LAYERS) + EFFECTS.index(effect.name))
  )
  return effect_key, jax.random.bernoulli(clip_key, effect.probability)


def _apply(
  name: str,
  key: jax.Array,
  clip: Clips,
  partner: Clips,
  erasing: float,
  still_share: tuple[float, float],
  stills: jax.Array | None,
) -> Clips:
  """One clip under one of the debiasing baselines."""
  match name:
    case 'actorcutmix':
      actor, other = (_where_region(one, PERSON) for one in (clip, partner))
      video, targets = baselines.actor_cutmix(
        clip.video, actor, clip.targets, partner.video, other, partner.targets
      )
      regions = jnp.where(actor, clip.regions, partner.regions & ~jnp.uint8(PERSON))
      # Of a clip whose people are not known, they would stay in the background of another.
      known = _known(clip, PERSON) & _known(partner, PERSON) & actor.any() & ~actor.all()
      return _where(known, Clips(video, regions, clip.annotated, targets), clip)
    case 'be':
      return clip._replace(video=baselines.background_erasing(key, clip.video, erasing))
    case 'fame':
      return clip._replace(video=baselines.fame(clip.video, partner.video))
    case 'stillmix':
      place_key, key = jax.random.split(key)
      place = jax.random.randint(place_key, (), 0, len(partner.video))
      still = partner.video[place]
    case 'stillmix_bank':
      place_key, key = jax.random.split(key)
      place = jax.random.randint(place_key, (), 0, len(stills))
      still = normalize(to_float(stills[place]))
  return clip._replace(video=baselines.still_mix(key, clip.video, still, *still_share))


def _swap(clip: Clips, partner: Clips) -> Clips:
  """A clip's people and objects over the background of its partner."""
  video, regions = swap_background(clip.video, clip.regions, partner.video, partner.regions)
  # Without both clips' regions nothing says what is foreground, and what is to be filled.
  known = _known(clip, PERSON | OBJECT) & _known(partner, PERSON | OBJECT)
  known &= _where_region(clip, PERSON | OBJECT).any()
  return _where(known, clip._replace(video=video, regions=regions), clip)


def _known(clip: Clips, bits: int) -> jax.Array:
  """bool[]: whether all regions of `bits` are known in every frame of a clip."""
  return clip.annotated.all() & is_known(clip.regions, bits).all()


def _where_region(clip: Clips, bits: int) -> jax.Array:
  """bool[T, H, W]."""
  return ((clip.regions & bits) != 0) & clip.annotated[:, None, None]


def _where(condition: jax.Array, changed: Clips, clip: Clips) -> Clips:
  return jax.tree.map(lambda new, old: jnp.where(condition, new, old), changed, clip)
