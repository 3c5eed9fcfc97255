"""Pantomime's vocabulary, its statistics, and the pictures and planes that it draws."""

import collections
import hashlib
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest

from zsar_jax import pantomime
from zsar_jax.errors import UserError
from zsar_jax.pantomime import brush, lexicon, render, scenery
from zsar_jax.recipes import regions

SEED = 3
# Four standard deviations: a correct sampler fails one such test in 16,000.
SIGMAS = 4


def _digest(world: str) -> str:
  clip = pantomime.render_clip(world, 'train', 5, SEED)
  return hashlib.sha256(clip.frames.tobytes() + clip.regions.tobytes()).hexdigest()


def _is_binomial(hits: int, trials: int, rate: float) -> bool:
  return abs(hits - trials * rate) <= SIGMAS * math.sqrt(trials * rate * (1 - rate))


def _scripts(world: str, split: str, count: int) -> list[render.Script]:
  return [render.write_script(world, split, index, SEED) for index in range(count)]


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
  """The smallest rectangle that encloses what is set in bool[H, W]."""
  rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
  return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _centroids(planes: np.ndarray, bit: int) -> np.ndarray:
  """f64[N, 2] mean (x, y) of a region, as fractions of the frame's side."""
  return np.array([np.argwhere(plane & bit).mean(axis=0)[::-1] for plane in planes]) / len(
    planes[0]
  )


def _first_clip(world: str, *words: str) -> pantomime.RenderedClip:
  """The first clip of the validation split whose class name has all the words."""
  (label,) = [
    label
    for label, name in enumerate(pantomime.class_names(world))
    if all(word in name for word in words)
  ]
  return pantomime.render_clip(world, 'validation', label, SEED)


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_novel_classes_put_base_words_together_anew(world):
  names, split = pantomime.class_names(world), pantomime.class_split(world)
  assert len(set(names)) == 16
  assert (len(split['base']), len(split['novel'])) == (12, 4)
  assert set(split['base']) | set(split['novel']) == set(names)
  base_words = {word for name in split['base'] for word in name.split()}
  assert {word for name in split['novel'] for word in name.split()} <= base_words
  firsts, seconds = (
    (lexicon.MANNERS, lexicon.DIRECTIONS) if world == 'tabletop' else (lexicon.ARMS, lexicon.LEGS)
  )
  assert [sum(word in name for name in split['novel']) for word in firsts] == [1, 1, 1, 1]
  # On the table two novel classes share each direction; only the manner distinguishes them.
  counts = [2, 0, 0, 2] if world == 'tabletop' else [1, 1, 1, 1]
  assert [sum(word in name for name in split['novel']) for word in seconds] == counts


def test_figures_share_one_vocabulary():
  assert pantomime.class_names('scenes') == pantomime.class_names('mimes')


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_training_is_balanced_over_base_and_the_rest_over_all_classes(world):
  names, split = pantomime.class_names(world), pantomime.class_split(world)
  trained = collections.Counter(names[s.label] for s in _scripts(world, 'train', 120))
  assert trained == dict.fromkeys(split['base'], 10)
  for split in ('validation', 'test'):
    shown = collections.Counter(names[s.label] for s in _scripts(world, split, 160))
    assert shown == dict.fromkeys(names, 10)


@pytest.mark.parametrize(
  ('world', 'split', 'word', 'rate'),
  [
    ('scenes', 'train', 1, pantomime.SCENE_AGREEMENT),
    ('scenes', 'validation', 1, pantomime.SCENE_AGREEMENT),
    ('scenes', 'test', 1, pantomime.SCENE_AGREEMENT),
    ('mimes', 'train', 1, 0.25),
    ('mimes', 'validation', 1, 0.25),
    ('tabletop', 'train', 0, pantomime.OBJECT_AGREEMENT),
    ('tabletop', 'validation', 0, 0.25),
    ('tabletop', 'test', 0, 0.25),
  ],
)
def test_the_setting_agrees_with_the_action_as_often_as_it_says(world, split, word, rate):
  count = 3000
  offsets = collections.Counter(
    (script.setting - lexicon.word_pair(script.label)[word]) % 4
    for script in _scripts(world, split, count)
  )
  assert _is_binomial(offsets[0], count, rate)
  for offset in (1, 2, 3):
    assert _is_binomial(offsets[offset], count, (1 - rate) / 3)


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_the_other_word_is_not_given_away(world):
  count = 3200
  other = 1 if world == 'tabletop' else 0
  pairs = collections.Counter(
    (script.setting, lexicon.word_pair(script.label)[other])
    for script in _scripts(world, 'validation', count)
  )
  assert all(_is_binomial(pairs[s, w], count, 1 / 16) for s in range(4) for w in range(4))


def test_other_processes_render_the_same_bytes():
  here = ' '.join(_digest(world) for world in pantomime.WORLDS)
  program = (
    'from tests.pantomime.render_test import _digest, pantomime;'
    'print(*(_digest(world) for world in reversed(pantomime.WORLDS)))'
  )
  there = subprocess.run(
    [sys.executable, '-c', program],
    check=True,
    capture_output=True,
    text=True,
    cwd=__file__.rsplit('/tests/', 1)[0],
  )
  assert there.stdout.split()[::-1] == here.split()


def test_clips_differ_by_every_argument():
  arguments = [
    ('scenes', 'train', 0, 0),
    ('mimes', 'train', 0, 0),
    ('scenes', 'validation', 0, 0),
    ('scenes', 'test', 0, 0),
    ('scenes', 'train', 12, 0),
    ('scenes', 'train', 0, 1),
  ]
  frames = {pantomime.render_clip(*key).frames.tobytes() for key in arguments}
  assert len(frames) == len(arguments)


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_ids_name_the_clips_that_are_rendered(world):
  ids = pantomime.clip_ids(world, 'train', 3)
  assert ids == tuple(f'{world}-train-00000{index}' for index in range(3))
  clip = pantomime.render_clip(world, 'train', 2, SEED, size=48, num_frames=5)
  assert clip.id == ids[2]
  assert clip.frames.shape == (5, 48, 48, 3)
  assert clip.regions.shape == (5, 48, 48)
  assert clip.frames.dtype == clip.regions.dtype == np.uint8


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_planes_are_where_the_picture_is_not_the_backdrop(world):
  changed, shapes = [], []
  for index in range(16):
    clip = pantomime.render_clip(world, 'validation', index, SEED)
    backdrop = render.draw_layers(world, 'validation', index, SEED).backdrop
    changed.extend((clip.frames != backdrop).any(axis=-1))
    shapes.extend(clip.regions & (regions.PERSON | regions.OBJECT) > 0)
  # Outside the planes there is one pixel of anti-aliased rim, of which less than half is covered.
  rimmed = [cv2.dilate(shape.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for shape in shapes]
  changed, shapes, rimmed = np.array(changed), np.array(shapes), np.array(rimmed)
  # At the frame's border it may be the rim of a shape outside the frame.
  assert not (changed & ~rimmed)[:, 1:-1, 1:-1].any()
  # A covered pixel keeps the backdrop's color by chance only.
  assert changed[shapes].mean() > 0.99


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_everybody_has_a_shape_in_every_frame(world):
  bits = regions.PERSON | (regions.OBJECT if world == 'tabletop' else 0)
  for index in range(32):
    planes = pantomime.render_clip(world, 'validation', index, SEED).regions
    for plane in planes:
      assert np.bitwise_or.reduce(plane, axis=None) == bits | bits << regions.BOX_SHIFT


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_boxes_are_the_tight_bounds_of_each_shape(world):
  hands = set()
  for index in range(24):
    layered = render.draw_layers(world, 'train', index, SEED)
    _, planes = render.flatten(layered)
    expected = np.zeros_like(planes)
    for layer in layered.layers:
      for plane, coverage in zip(expected, layer.pixels[..., 3], strict=True):
        # With 9 points in a pixel, half of it is 5 points.
        shape = coverage > 255 * 4.5 / 9
        plane[shape] |= layer.bit
        plane[_bounds(shape)] |= layer.bit << regions.BOX_SHIFT
    np.testing.assert_array_equal(planes, expected)
    hands.add(sum(layer.bit == regions.PERSON for layer in layered.layers))
  assert hands == ({1, 2} if world == 'tabletop' else {1})


@pytest.mark.parametrize('world', pantomime.WORLDS)
def test_a_performance_is_the_same_at_any_size(world):
  for index in range(4):
    small = pantomime.render_clip(world, 'train', index, SEED, size=48).regions
    large = pantomime.render_clip(world, 'train', index, SEED, size=144).regions[:, 1::3, 1::3]
    for bit in (regions.PERSON, regions.OBJECT) if world == 'tabletop' else (regions.PERSON,):
      a, b = small & bit > 0, large & bit > 0
      assert (a & b).sum() / (a | b).sum() > 0.85


def test_the_camera_moves_the_backdrop_and_nothing_else_does():
  layered = render.draw_layers('scenes', 'train', 0, SEED)
  # Shifted back by the camera's movement (1.3 pixels at most), all backdrops are the same picture.
  inner = layered.backdrop[0, 8:-8, 8:-8]
  for view in layered.backdrop:
    match = cv2.matchTemplate(view[5:-5, 5:-5], inner, cv2.TM_CCOEFF_NORMED)
    assert match.max() > 0.9


@pytest.mark.parametrize('arm', lexicon.ARMS)
def test_legs_do_what_the_name_says(arm):
  soles, tops, widths = {}, {}, {}
  for leg in lexicon.LEGS:
    planes = _first_clip('mimes', arm, leg).regions & regions.PERSON
    bounds = [_bounds(plane > 0) for plane in planes]
    soles[leg] = np.ptp([rows.stop for rows, _ in bounds])
    tops[leg] = np.ptp([rows.start for rows, _ in bounds])
    feet = [np.flatnonzero(plane[45:].any(axis=0)) for plane in planes]
    widths[leg] = np.ptp([np.ptp(columns) for columns in feet])
  assert soles['jumping'] >= 4 > max(soles[leg] for leg in soles if leg != 'jumping')
  assert tops['squatting'] >= 8
  assert widths['jumping'] > 8


@pytest.mark.parametrize('manner', lexicon.MANNERS)
@pytest.mark.parametrize(
  ('direction', 'heading'),
  [('to the left', (-1, 0)), ('to the right', (1, 0)), ('away', (0, -1)), ('closer', (0, 1))],
)
def test_hands_do_what_the_name_says(manner, direction, heading):
  label = lexicon.MANNERS.index(manner) * 4 + lexicon.DIRECTIONS.index(direction)
  # The resting hand's plane would blur where the other hand is.
  index = next(
    index
    for index in range(label, 1000, 16)
    if len(render.draw_layers('tabletop', 'validation', index, SEED).layers) == 2
  )
  planes = pantomime.render_clip('tabletop', 'validation', index, SEED).regions
  item = _centroids(planes, regions.OBJECT)
  moved = item - item[0]  # [N, 2]
  assert moved[-1] @ heading > 0.3
  assert abs(moved[-1] @ heading[::-1]) < 0.1
  hand = _centroids(planes, regions.PERSON)
  assert (hand[:, 1] > item[:, 1]).all() or manner == 'rolling'  # Nearer to the viewer.
  touching = [(plane & 3 == 3).any() for plane in planes]
  areas = (planes & regions.OBJECT > 0).sum(axis=(1, 2))
  if manner == 'nudging':
    steps = np.diff(moved @ heading)
    assert (steps > 0.05).sum() <= 7
    assert (steps < 0.01).sum() >= 3
    assert 2 <= sum(touching) < len(touching)
  elif manner == 'rolling':
    assert touching[0]
    assert not any(touching[7:])
    left_behind = (hand[-1] - item[-1] - hand[0] + item[0]) @ heading
    assert left_behind < -0.25
  else:
    assert all(touching)
    assert (areas.max() > 1.2 * max(areas[0], areas[-1])) == (manner == 'carrying')


def test_scene_families_look_different():
  rng = np.random.default_rng(SEED)
  looks = {
    family: [scenery.paint_scene(rng, family, 48).mean(axis=(0, 1)) for _ in range(12)]
    for family in scenery.FAMILIES
  }
  centers = {family: np.mean(look, axis=0) for family, look in looks.items()}
  for family, look in looks.items():
    for mean in look:
      assert min(centers, key=lambda other: np.linalg.norm(mean - centers[other])) == family


def test_a_hull_of_two_circles_is_a_capsule():
  length, radius = 0.4, 0.1
  hull = brush.Hull(np.array([[[0.3, 0.3], [0.3 + length, 0.3]]]), np.full(2, radius))
  layer = brush.rasterize([brush.flat_stroke(hull, (200, 100, 50))], 100, np.zeros((1, 2), int))
  area = layer[0, ..., 3].sum() / 255 / 100**2
  assert area == pytest.approx(math.pi * radius**2 + 2 * length * radius, rel=0.05)
  rows, columns = _bounds(layer[0, ..., 3] >= 128)
  np.testing.assert_allclose((columns.start, columns.stop), (20, 80), atol=1)
  np.testing.assert_allclose((rows.start, rows.stop), (20, 40), atol=1)


def test_composite_is_alpha_blending():
  rng = np.random.default_rng(SEED)
  pictures = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
  coverage = rng.integers(0, 256, (2, 8, 8, 1), np.uint8)
  color = rng.random((2, 8, 8, 3))
  layer = np.concatenate([np.floor(color * coverage), coverage], axis=-1).astype(np.uint8)
  alpha = coverage / 255
  expected = (1 - alpha) * pictures + alpha * 255 * color
  np.testing.assert_allclose(brush.composite(pictures, layer), expected, atol=1.5)


@pytest.mark.parametrize(('world', 'split'), [('stage', 'train'), ('scenes', 'dev')])
def test_unknown_worlds_and_splits_are_refused(world, split):
  with pytest.raises(UserError, match='choose one of'):
    pantomime.render_clip(world, split, 0, SEED)
