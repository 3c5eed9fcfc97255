"""Turns a batch of uint8 clips into the model's input, inside the jitted step.

Each clip has its own random seed, so its augmentation does not depend on its position in the
batch, on the size of the batch, or on the number of devices and hosts. Augmentation that combines
two clips is the exception: in training, a clip's partner depends on the micro-batch.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.data.batch import PARTNER
from zsar_jax.ops.frame_order import frame_order
from zsar_jax.ops.geometric import flip
from zsar_jax.ops.mix import mix
from zsar_jax.ops.photometric import jitter, normalize, random_grayscale, to_float, to_uint8
from zsar_jax.ops.transform import Clips, apply_recipe, reverse
from zsar_jax.recipes.language import Recipe
from zsar_jax.runtime.settings import setting

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Random changes of training clips besides the recipe; mirrors the fields of `config.augment`.

  Attributes:
    flip: the probability of a left-right flip.
    mirror_labels: whether a flip exchanges labels that name left and right.
    jitter: the probability of color jitter.
    brightness: see `photometric.jitter`.
    contrast: see `photometric.jitter`.
    saturation: see `photometric.jitter`.
    hue: see `photometric.jitter`.
    greyscale: the probability of losing all color.
    mixup: alpha of mixup, see `mix`; 0 turns it off.
    cutmix: alpha of CutMix, see `mix`; 0 turns it off.
    erasing: the greatest weight of the still frame in the effect 'be', see `baselines`.
    still_share: alpha and beta of the clip's own weight in the effects 'stillmix' and
      'stillmix_bank'.
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
  """Augments a training batch and applies the mask recipe.

  Args:
    key: the run's key; each clip's `seed` is folded into it.
    batch: u8 clips, see `data.batch`, with inpainted frames if the recipe shows them.
    augmentation: the random changes and their strength.
    mirrored: i32[C] from `geometric.mirror_labels`.
    recipe: the mask recipe.
    stills: u8[K, H, W, 3], the bank of frames, if the recipe needs one.

  Returns:
    The clips as the model gets them.
  """

  def augment(clip: Batch) -> tuple[Any, ...]:
    flip_key, jitter_key, grayscale_key, paint_key, mix_key = jax.random.split(
      jax.random.fold_in(key, clip['seed']), 5
    )
    # The frames and, if the recipe shows them, the inpainted ones, which change with the same keys.
    versions = [clip[name] for name in ('frames', 'inpainted') if name in clip]
    regions, label = clip['regions'], clip['label']
    if augmentation.flip:
      flipped = [
        flip(flip_key, frames, regions, label, mirrored, augmentation.flip) for frames in versions
      ]
      versions = [frames for frames, _, _ in flipped]
      _, regions, label = flipped[0]
    versions = [to_float(frames) for frames in versions]
    if augmentation.jitter:
      versions = [
        jitter(
          jitter_key,
          video,
          augmentation.brightness,
          augmentation.contrast,
          augmentation.saturation,
          augmentation.hue,
          augmentation.jitter,
          reference=versions[0],
        )
        for video in versions
      ]
    if augmentation.greyscale:
      versions = [
        random_grayscale(grayscale_key, video, augmentation.greyscale) for video in versions
      ]
    target = jax.nn.one_hot(label, len(mirrored))
    return paint_key, mix_key, [normalize(video) for video in versions], regions, target

  paint_keys, mix_keys, versions, regions, targets = jax.vmap(augment)(batch)
  annotated = batch['annotated']
  if augmentation.mixup or augmentation.cutmix:
    alphas = augmentation.mixup, augmentation.cutmix
    mixed = [mix(mix_keys, video, regions, annotated, targets, *alphas) for video in versions]
    versions = [video for video, *_ in mixed]
    _, regions, annotated, targets = mixed[0]
  inpainted = versions[1] if len(versions) > 1 else None
  clips = Clips(versions[0], regions, annotated, targets, inpainted)
  partners = reverse(clips) if recipe.needs_partner else clips
  return apply_recipe(
    paint_keys, clips, partners, recipe, augmentation.erasing, augmentation.still_share, stills
  )


@functools.partial(jax.jit, static_argnames='recipe')
def evaluation_input(key: jax.Array, batch: Batch, recipe: Recipe) -> jax.Array:
  """Applies a mask recipe to an evaluation batch.

  Only the recipe is random, and what it draws depends on the clip alone.

  Args:
    key: the evaluation's key; each clip's `seed` is folded into it.
    batch: u8 clips, see `data.batch`, with partners and inpainted frames if the recipe needs them.
    recipe: the mask recipe.

  Returns:
    f32[B, T, H, W, 3], normalized.
  """
  keys = _evaluation_keys(key, batch)

  def read_clips(prefix: str) -> Clips:
    video = normalize(to_float(batch[f'{prefix}frames']))
    regions, annotated = batch[f'{prefix}regions'], batch[f'{prefix}annotated']
    # Effects that change targets are for training only.
    unused_targets = jnp.zeros_like(annotated, jnp.float32)
    inpainted = None
    if f'{prefix}inpainted' in batch:
      inpainted = normalize(to_float(batch[f'{prefix}inpainted']))
    return Clips(video, regions, annotated, unused_targets, inpainted)

  clips = read_clips('')
  partners = read_clips(PARTNER) if recipe.needs_partner else clips
  return apply_recipe(keys, clips, partners, recipe).video


@functools.partial(jax.jit, static_argnames='recipe')
def painted_frames(key: jax.Array, batch: Batch, recipe: Recipe) -> jax.Array:
  """Returns the clips of `evaluation_input` as pictures, RGB u8[B, T, H, W, 3].

  This is what programs other than this one can see. Unpainted pixels keep their values; painted
  colors are rounded, and clipped if they lie outside of RGB.
  """
  return to_uint8(evaluation_input(key, batch, recipe))


@functools.partial(jax.jit, static_argnames='recipe')
def evaluation_order(key: jax.Array, batch: Batch, recipe: Recipe) -> jax.Array:
  """Returns i32[B, T], which frame `evaluation_input` shows at each position of each clip.

  Args:
    key: see `evaluation_input`.
    batch: see `evaluation_input`.
    recipe: see `evaluation_input`.
  """
  num_frames = batch['frames'].shape[1]
  return jax.vmap(lambda key: frame_order(key, recipe, num_frames))(_evaluation_keys(key, batch))


def _evaluation_keys(key: jax.Array, batch: Batch) -> jax.Array:
  """Returns a key for each clip."""
  return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(batch['seed'])
