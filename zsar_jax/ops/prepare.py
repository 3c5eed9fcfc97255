"""From a batch of uint8 clips to what the model sees; runs inside the jitted step.

Every clip brings its own random number, so that what happens to it does not depend on its
place in the batch, on the batch's size, or on the number of devices and hosts. Where clips meet
there is an exception: whom a clip meets in training depends on its micro-batch.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from zsar_jax.data.batch import PARTNER
from zsar_jax.ops.geometric import flip
from zsar_jax.ops.mix import mix
from zsar_jax.ops.photometric import jitter, normalize, random_grayscale, to_float
from zsar_jax.ops.transform import Clips, apply_recipe, reverse
from zsar_jax.recipes.language import Recipe
from zsar_jax.runtime.settings import setting

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """What training does to a clip besides painting; the fields of `config.augment`.

  Attributes:
    flip: the probability of a left-right flip.
    mirror_labels: whether the flip exchanges labels that name left and right.
    jitter: the probability of color jitter.
    brightness: see `photometric.jitter`.
    contrast: see `photometric.jitter`.
    saturation: see `photometric.jitter`.
    hue: see `photometric.jitter`.
    greyscale: the probability of losing all color.
    mixup: the alpha of mixup, see `mix`; 0 does not mix clips so.
    cutmix: the alpha of CutMix.
    erasing: the largest share of the still frame in 'be' recipes, see `baselines`.
    still_share: alpha and beta of the clip's own share in StillMix recipes.
  """

  flip: float = setting(0.0, low=0, high=1)
  mirror_labels: bool = True
  jitter: float = setting(0.0, low=0, high=1)
  brightness: float = setting(0.4, low=0, high=1)
  contrast: float = setting(0.4, low=0, high=1)
  saturation: float = setting(0.2, low=0, high=1)
  hue: float = setting(0.1, low=0, high=0.5)
  greyscale: float = setting(0.0, low=0, high=1)
  mixup: float = setting(0.0, low=0, high=100)
  cutmix: float = setting(0.0, low=0, high=100)
  erasing: float = setting(0.3, low=0, high=1)
  still_share: tuple[float, float] = setting((200.0, 200.0), low=0.001, high=10**6)


def training_input(
  key: jax.Array,
  batch: Batch,
  augmentation: Augmentation,
  mirrored: jax.Array,
  recipe: Recipe,
  stills: jax.Array | None = None,
) -> Clips:
  """Augments and paints a training batch.

  Args:
    key: the run's key; each clip folds its own `seed` into it.
    batch: see `data.pipeline`.
    augmentation: which random changes, and how large.
    mirrored: i32[C] from `geometric.mirror_labels`.
    recipe: the mask recipe.
    stills: u8[K, H, W, 3], where the recipe takes frames from a bank.
  """

  def change(clip: Batch) -> tuple[jax.Array, ...]:
    flip_key, jitter_key, greyscale_key, paint_key, mix_key = jax.random.split(
      jax.random.fold_in(key, clip['seed']), 5
    )
    frames, regions, label = clip['frames'], clip['regions'], clip['label']
    if augmentation.flip:
      frames, regions, label = flip(flip_key, frames, regions, label, mirrored, augmentation.flip)
    video = to_float(frames)
    if augmentation.jitter:
      video = jitter(
        jitter_key,
        video,
        augmentation.brightness,
        augmentation.contrast,
        augmentation.saturation,
        augmentation.hue,
        augmentation.jitter,
      )
    if augmentation.greyscale:
      video = random_grayscale(greyscale_key, video, augmentation.greyscale)
    return paint_key, mix_key, normalize(video), regions, jax.nn.one_hot(label, len(mirrored))

  paint_keys, mix_keys, video, regions, targets = jax.vmap(change)(batch)
  annotated = batch['annotated']
  if augmentation.mixup or augmentation.cutmix:
    video, regions, annotated, targets = mix(
      mix_keys, video, regions, annotated, targets, augmentation.mixup, augmentation.cutmix
    )
  clips = Clips(video, regions, annotated, targets)
  partners = reverse(clips) if recipe.needs_partner else clips
  return apply_recipe(
    paint_keys, clips, partners, recipe, augmentation.erasing, augmentation.still_share, stills
  )


@functools.partial(jax.jit, static_argnames='recipe')
def evaluation_input(key: jax.Array, batch: Batch, recipe: Recipe) -> jax.Array:
  """An evaluation batch under a recipe: f32[B, T, H, W, 3], normalized.

  Nothing is random but what the recipe draws, and that depends on the clip alone.
  """
  keys = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(batch['seed'])

  def clips(prefix: str) -> Clips:
    video = normalize(to_float(batch[f'{prefix}frames']))
    regions, annotated = batch[f'{prefix}regions'], batch[f'{prefix}annotated']
    # Effects that change targets are no part of it.
    nothing = jnp.zeros_like(annotated, jnp.float32)
    return Clips(video, regions, annotated, nothing)

  found = clips('')
  partners = clips(PARTNER) if recipe.needs_partner else found
  return apply_recipe(keys, found, partners, recipe).video
