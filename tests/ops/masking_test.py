"""Painting against a reference that loops over pixels."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from zsar_jax.ops.masking import paint
from zsar_jax.ops.photometric import CLIP_MEAN, CLIP_STD
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes.language import parse
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX, UNKNOWN_SHIFT

RECIPES = [
  'none',
  'background=normal',
  'object=normal',
  'object_box=normal',
  'object_box=normal!',
  'person=black',
  'background=mean,person_box=white',
  'background=normal,object=normal',
  'background=uniform,object_box=#ff8000,person=normal/frame',
  'background=normal@0.5,object=uniform/frame@0.5',
]


def random_clips(rng, clips=6, frames=3, size=7):
  return {
    'frames': rng.integers(0, 256, (clips, frames, size, size, 3), dtype=np.uint8),
    'regions': rng.integers(0, 16, (clips, frames, size, size), dtype=np.uint8),
    'annotated': rng.random((clips, frames)) < 0.7,
    'seed': rng.integers(0, 2**32, clips, dtype=np.uint32),
  }


def layer_of(bits, recipe):
  """Returns the region whose part paints a pixel with these region bits, or None."""
  parts = {part.region: part for part in recipe.parts}
  person, object_ = bool(bits & PERSON), bool(bits & OBJECT)
  if 'person_box' in parts and bits & PERSON_BOX:
    return 'person_box'
  if 'person' in parts and person:
    return 'person'
  for region, bit in (('object_box', OBJECT_BOX), ('object', OBJECT)):
    if region in parts and bits & bit and (parts[region].over_people or not person):
      return region
  if 'background' in parts and not person and not object_:
    return 'background'
  return None


@pytest.mark.parametrize('text', RECIPES)
def test_only_the_regions_of_the_recipe_change_and_each_gets_one_color(text):
  recipe = parse(text)
  batch = random_clips(np.random.default_rng(0))
  key = jax.random.key(3)
  painted = np.asarray(evaluation_input(key, batch, recipe))
  plain = (batch['frames'] / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
  fixed = {
    'black': -np.array(CLIP_MEAN) / CLIP_STD,
    'white': (1 - np.array(CLIP_MEAN)) / CLIP_STD,
    'mean': np.zeros(3),
    '#ff8000': (np.array([1, 128 / 255, 0]) - CLIP_MEAN) / CLIP_STD,
  }
  parts = {part.region: part for part in recipe.parts}
  for clip in range(len(painted)):
    colors = {}
    for t, y, x in np.ndindex(painted.shape[1:4]):
      region = layer_of(batch['regions'][clip, t, y, x], recipe)
      pixel = painted[clip, t, y, x]
      if region is None or not batch['annotated'][clip, t]:
        np.testing.assert_allclose(pixel, plain[clip, t, y, x], atol=1e-5)
        continue
      color_key = (region, t) if parts[region].draw == 'frame' else region
      if parts[region].probability < 1 and np.allclose(pixel, plain[clip, t, y, x], atol=1e-5):
        pixel = np.array([np.inf] * 3)  # This clip is not painted.
      colors.setdefault(color_key, pixel)
      np.testing.assert_array_equal(pixel, colors[color_key])
      if parts[region].fill in fixed:
        np.testing.assert_allclose(pixel, fixed[parts[region].fill], atol=1e-5)


def test_an_unknown_region_is_not_painted_and_neither_is_the_background():
  batch = random_clips(np.random.default_rng(1), clips=3)
  batch['annotated'][:] = True
  batch['regions'][0] |= OBJECT << UNKNOWN_SHIFT
  batch['regions'][0] &= ~np.uint8(OBJECT)
  batch['regions'][1] |= PERSON_BOX << UNKNOWN_SHIFT
  plain = np.asarray(evaluation_input(jax.random.key(0), batch, parse('none')))
  for text, painted in (
    ('background=black', [False, True, True]),
    ('object=black', [False, True, True]),
    ('person=black', [True, True, True]),
  ):
    changed = np.asarray(evaluation_input(jax.random.key(0), batch, parse(text))) != plain
    assert changed.any((1, 2, 3, 4)).tolist() == painted


def background_colors(text, clips=4000):
  """Returns f32[N, T, 3], the colors that a recipe draws for clips that are all background."""
  recipe = parse(text)
  video = np.full((2, 1, 1, 3), 99, np.float32)
  regions, annotated = np.zeros((2, 1, 1), np.uint8), np.ones(2, bool)
  keys = jax.random.split(jax.random.key(0), clips)
  painted = jax.vmap(lambda key: paint(key, video, regions, annotated, recipe))(keys)
  return np.asarray(painted)[:, :, 0, 0]


def test_normal_draws_a_standard_normal_color_per_clip_in_normalized_space():
  colors = background_colors('background=normal')
  np.testing.assert_array_equal(colors[:, 0], colors[:, 1])
  np.testing.assert_allclose(colors[:, 0].mean(0), 0, atol=0.06)
  np.testing.assert_allclose(np.cov(colors[:, 0].T), np.eye(3), atol=0.08)


def test_frame_redraws_for_each_frame():
  colors = background_colors('background=normal/frame')
  assert abs(np.corrcoef(colors[:, 0, 0], colors[:, 1, 0])[0, 1]) < 0.06


def test_uniform_is_uniform_in_rgb():
  rgb = background_colors('background=uniform')[:, 0] * CLIP_STD + CLIP_MEAN
  for channel in rgb.T:
    np.testing.assert_allclose(np.histogram(channel, 4, (0, 1))[0], 1000, atol=120)


def test_the_probability_is_per_clip():
  painted = background_colors('background=normal@0.3')[:, :, 0] != 99
  assert (painted[:, 0] == painted[:, 1]).all()
  assert abs(painted[:, 0].mean() - 0.3) < 0.03


def test_two_parts_have_independent_colors_and_the_background_keeps_its_own():
  batch = random_clips(np.random.default_rng(1), clips=2)
  batch['regions'][:, :, 0, 0], batch['regions'][:, :, 0, 1] = 0, OBJECT
  batch['annotated'][:] = True
  key = jax.random.key(0)
  both = np.asarray(evaluation_input(key, batch, parse('background=normal,object=normal')))
  alone = np.asarray(evaluation_input(key, batch, parse('background=normal')))
  assert (both[:, 0, 0, 0] != both[:, 0, 0, 1]).all()
  np.testing.assert_array_equal(both[:, 0, 0, 0], alone[:, 0, 0, 0])


@pytest.mark.parametrize('devices', [2, 8])
def test_the_number_of_devices_changes_nothing(devices):
  batch = random_clips(np.random.default_rng(2), clips=16)
  recipe = parse('background=normal/frame@0.7,object=uniform')
  key = jax.random.key(5)
  single_device = evaluation_input(key, batch, recipe)
  axis_types = (AxisType.Auto,)  # As in the project's meshes.
  mesh = jax.make_mesh(
    (devices,), ('data',), devices=jax.devices()[:devices], axis_types=axis_types
  )
  placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
  sharded = evaluation_input(key, placed, recipe)
  assert len(sharded.sharding.device_set) == devices
  np.testing.assert_array_equal(np.asarray(sharded), np.asarray(single_device))


def test_a_clip_is_painted_alike_in_any_batch():
  batch = random_clips(np.random.default_rng(2), clips=8)
  recipe = parse('background=normal')
  expected = np.asarray(evaluation_input(jax.random.key(5), batch, recipe))
  part = {name: array[[5, 2]] for name, array in batch.items()}
  np.testing.assert_array_equal(evaluation_input(jax.random.key(5), part, recipe), expected[[5, 2]])
