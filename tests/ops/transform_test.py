"""Entire recipes: the partners of clips, the order of effects, and probabilities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from zsar_jax.ops import backgrounds, baselines
from zsar_jax.ops.photometric import normalize
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.ops.transform import Clips, apply_recipe, reverse
from zsar_jax.recipes.language import parse
from zsar_jax.recipes.regions import OBJECT, PERSON

B, T, H, W, C = 6, 3, 12, 16, 4


@pytest.fixture(name='clips')
def _clips():
  rng = np.random.default_rng(0)
  regions = np.zeros((B, T, H, W), np.uint8)
  for b in range(B):
    regions[b, :, 2 : 6 + b % 3, 3 + b : 8 + b] = PERSON
    regions[b, :, 4:7, 7 + b : 10 + b] |= OBJECT
  return Clips(
    jnp.asarray(rng.normal(size=(B, T, H, W, 3)), jnp.float32),
    jnp.asarray(regions),
    jnp.ones((B, T), bool),
    jnp.eye(C)[rng.integers(0, C, B)],
  )


@pytest.fixture(name='stills')
def _stills():
  return jnp.asarray(np.random.default_rng(1).integers(0, 256, (5, H, W, 3)), jnp.uint8)


def _keys(seed=0):
  return jax.random.split(jax.random.key(seed), B)


@functools.partial(jax.jit, static_argnames='text')
def _transform(keys, clips, stills, text):
  return apply_recipe(keys, clips, reverse(clips), parse(text), 0.3, (2.0, 2.0), stills)


def _changed(clips, text, stills=None, seed=0):
  return _transform(_keys(seed), clips, stills, text)


def test_the_partner_is_counted_from_the_end(clips):
  fame = _changed(clips, 'fame')
  mixed = _changed(clips, 'actorcutmix')
  swapped = _changed(clips, 'background=swap')
  for b in range(B):
    clip, other = (jax.tree.map(lambda x, n=n: x[n], clips) for n in (b, B - 1 - b))
    np.testing.assert_allclose(fame.video[b], baselines.fame(clip.video, other.video), atol=1e-5)
    actors = [(clip.regions & PERSON) != 0 for clip in (clip, other)]
    video, targets = baselines.actor_cutmix(
      clip.video, actors[0], clip.targets, other.video, actors[1], other.targets
    )
    np.testing.assert_allclose(mixed.video[b], video, atol=1e-5)
    np.testing.assert_allclose(mixed.targets[b], targets, atol=1e-6)
    # The partner's people are removed, also from its planes.
    left = np.where(actors[0], clip.regions, other.regions & ~np.uint8(PERSON))
    np.testing.assert_array_equal(mixed.regions[b], left)
    scene = backgrounds.empty_scene(other.video, other.regions)
    video, regions = backgrounds.swap_background(clip.video, clip.regions, scene, other.regions)
    np.testing.assert_allclose(swapped.video[b], video, atol=1e-5)
    np.testing.assert_array_equal(swapped.regions[b], regions)


def test_a_still_frame_is_blended_with_every_frame(clips, stills):
  """Subtracting the clip's share leaves the same still frame in all frames."""
  for text in ('stillmix', 'stillmix_bank'):
    out = np.asarray(_changed(clips, text, stills).video)
    for b in range(B):
      clip = np.asarray(clips.video[b])
      share = np.sum((out[b, 0] - out[b, 1]) * (clip[0] - clip[1])) / np.sum(
        (clip[0] - clip[1]) ** 2
      )
      assert 0 < share < 1
      still = (out[b] - share * clip) / (1 - share)
      np.testing.assert_allclose(still, still[:1].repeat(T, axis=0), atol=1e-3)
      candidates = np.asarray(
        normalize(stills / 255) if text == 'stillmix_bank' else clips.video[B - 1 - b]
      )
      assert min(np.abs(still[0] - candidate).max() for candidate in candidates) < 1e-3


def test_freezing_comes_last_and_painting_follows_the_swap(clips):
  frozen = _changed(clips, 'background=stripes,freeze').video
  striped = _changed(clips, 'background=stripes').video
  np.testing.assert_array_equal(frozen, np.repeat(striped[:, T // 2 : T // 2 + 1], T, axis=1))
  both = _changed(clips, 'background=swap,object=white')
  swapped = _changed(clips, 'background=swap')
  painted = ((swapped.regions & OBJECT) != 0) & ((swapped.regions & PERSON) == 0)
  expected = np.where(painted[..., None], normalize(jnp.ones(3)), swapped.video)
  np.testing.assert_allclose(both.video, expected, atol=1e-5)


@pytest.mark.parametrize('fill', ['normal', 'uniform', 'stripes'])
def test_another_draw_paints_the_same_pixels_otherwise(clips, fill):
  first = np.asarray(_changed(clips, f'background={fill}').video)
  other = np.asarray(_changed(clips, f'background={fill}/other').video)
  background = np.asarray(clips.regions & (PERSON | OBJECT)) == 0
  np.testing.assert_array_equal(first[~background], other[~background])
  assert (np.abs(first - other)[background].reshape(-1, 3).max(axis=1) > 1e-3).mean() > 0.9
  np.testing.assert_array_equal(other, _changed(clips, f'background={fill}/other').video)


def test_unknown_regions_are_neither_swapped_nor_cut(clips):
  unknown = clips._replace(annotated=clips.annotated.at[2].set(False))
  swapped = _changed(unknown, 'background=swap').video
  np.testing.assert_array_equal(swapped[2], clips.video[2])
  np.testing.assert_array_equal(swapped[B - 1 - 2], clips.video[B - 1 - 2])  # Its partner is.
  assert not np.array_equal(swapped[1], clips.video[1])
  mixed = _changed(unknown, 'actorcutmix')
  np.testing.assert_array_equal(mixed.video[2], clips.video[2])
  np.testing.assert_array_equal(mixed.targets[2], clips.targets[2])
  # Only objects are unknown: people can be cut out, but the foreground is unknown.
  unknown = clips._replace(regions=clips.regions.at[2].set(clips.regions[2] | OBJECT << 4))
  swapped = _changed(unknown, 'background=swap').video
  for clip in (2, B - 1 - 2):
    np.testing.assert_array_equal(swapped[clip], clips.video[clip])
  assert not np.array_equal(_changed(unknown, 'actorcutmix').video[2], clips.video[2])
  unknown = clips._replace(regions=clips.regions.at[2].set(clips.regions[2] | PERSON << 4))
  np.testing.assert_array_equal(_changed(unknown, 'actorcutmix').video[2], clips.video[2])


@pytest.mark.parametrize(
  'text',
  ['be@0.4', 'background=swap@0.4', 'fame@0.4', 'freeze@0.4', 'reverse@0.4', 'shuffle@0.4'],
)
def test_a_share_of_the_clips_is_changed(clips, text):
  changed = [
    not np.array_equal(after, before)
    for seed in range(25)
    for after, before in zip(_changed(clips, text, seed=seed).video, clips.video, strict=True)
  ]
  # 150 draws: four standard deviations.
  assert abs(np.mean(changed) - 0.4) < 4 * np.sqrt(0.4 * 0.6 / len(changed))


@pytest.mark.parametrize(
  'text', ['background=swap', 'background=stripes,freeze', 'background=swap,shuffle']
)
def test_an_evaluation_does_not_depend_on_devices_or_batches(clips, text):
  batch = {
    'frames': np.random.default_rng(2).integers(0, 256, (8, T, H, W, 3)).astype(np.uint8),
    'regions': np.resize(np.asarray(clips.regions), (8, T, H, W)),
    'annotated': np.ones((8, T), bool),
    'seed': np.arange(8, dtype=np.uint32) * 77,
  }
  order = np.array([3, 4, 5, 6, 7, 0, 1, 2])
  for name in ('frames', 'regions', 'annotated'):
    batch[f'partner_{name}'] = batch[name][order]
  key = jax.random.key(0)
  expected = np.asarray(evaluation_input(key, batch, parse(text)))
  assert not np.array_equal(expected, evaluation_input(key, batch, parse('none')))
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
  np.testing.assert_allclose(evaluation_input(key, placed, parse(text)), expected, atol=1e-6)
  some = {name: array[[6, 1]] for name, array in batch.items()}
  np.testing.assert_allclose(evaluation_input(key, some, parse(text)), expected[[6, 1]], atol=1e-6)
