"""The order of frames under recipes, against NumPy: reversed, shuffled and frozen clips."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.ops.frame_order import draw_effect, frame_order
from zsar_jax.ops.prepare import Augmentation, evaluation_input, evaluation_order, training_input
from zsar_jax.recipes.language import EFFECTS, Effect, parse
from zsar_jax.recipes.regions import OBJECT, PERSON

B, T, H, W = 6, 4, 12, 16
PAINTINGS = ('background=normal/frame,', 'background=swap,', 'object=mean!,person=inpaint,')


@pytest.fixture(name='batch')
def _batch():
  """Clips of noise, in which people move and some frames are not annotated, with partners."""
  rng = np.random.default_rng(0)
  regions = np.zeros((B, T, H, W), np.uint8)
  for b, t in itertools.product(range(B), range(T)):
    regions[b, t, 2 : 6 + b % 3, 2 + t : 6 + t] = PERSON
    regions[b, t, 4:7, 6 + t : 9 + t] |= OBJECT
  frames = ('frames', 'inpainted', 'partner_frames', 'partner_inpainted')
  batch = {name: rng.integers(0, 256, (B, T, H, W, 3), np.uint8) for name in frames}
  batch['regions'], batch['partner_regions'] = regions, np.roll(regions, 1, axis=0)
  batch['annotated'] = batch['partner_annotated'] = np.ones((B, T), bool)
  batch['annotated'] = np.array(batch['annotated'])
  batch['annotated'][2, 1] = False
  batch['seed'] = np.arange(B, dtype=np.uint32) * 77
  batch['label'] = rng.integers(0, 3, B, np.int32)
  return batch


def orders(text, num_frames, count=1):
  draw = functools.partial(frame_order, recipe=parse(text), num_frames=num_frames)
  return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), count)))


@pytest.mark.parametrize('num_frames', [1, 2, 5])
def test_reversed_and_frozen_clips(num_frames):
  frames = list(range(num_frames))
  assert orders('reverse', num_frames).tolist() == [frames[::-1]]
  assert orders('freeze', num_frames).tolist() == [[num_frames // 2] * num_frames]
  assert orders('background=mean,be', num_frames).tolist() == [frames]


@pytest.mark.parametrize('num_frames', [2, 3, 8])
def test_a_shuffled_clip_has_all_frames_in_another_order(num_frames):
  drawn = orders('shuffle', num_frames, 2000)
  np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(num_frames), (2000, 1)))
  assert (drawn != np.arange(num_frames)).any(axis=1).all()


def test_a_single_frame_has_no_other_order():
  assert orders('shuffle', 1).tolist() == [[0]]


def test_every_other_order_is_drawn():
  """Of three frames: a rotation instead of the identity, so that rotations are more frequent."""
  count = 20_000
  shares = {order: 1 / 6 for order in itertools.permutations(range(3))}
  del shares[0, 1, 2]
  shares[1, 2, 0] += 1 / 12
  shares[2, 0, 1] += 1 / 12
  drawn = collections.Counter(map(tuple, orders('shuffle', 3, count).tolist()))
  assert set(drawn) == set(shares)
  for order, share in shares.items():
    deviation = np.sqrt(count * share * (1 - share))
    assert abs(drawn[order] - count * share) < 4 * deviation


def test_effects_follow_each_other():
  """In the order reverse, shuffle, freeze, whatever the order in the text."""
  shuffled = orders('shuffle', 5, 50)
  np.testing.assert_array_equal(orders('shuffle,reverse', 5, 50), 4 - shuffled)
  frozen = orders('freeze,shuffle', 5, 50)
  np.testing.assert_array_equal(frozen, np.repeat(shuffled[:, 2:3], 5, axis=1))
  some = orders('reverse@0.5,shuffle@0.5', 5, 2000)
  kept, reversed_ = ((some == order).all(axis=1) for order in (np.arange(5), np.arange(5)[::-1]))
  # A quarter has neither effect, and a quarter is only reversed; few permutations are either.
  assert abs(kept.mean() - 0.25) < 0.06
  assert abs(reversed_.mean() - 0.25) < 0.06


@pytest.mark.parametrize('effect', ['reverse', 'shuffle', 'freeze'])
@pytest.mark.parametrize('painting', PAINTINGS)
def test_an_evaluation_shows_the_painted_clip_in_another_order(batch, painting, effect):
  key = jax.random.key(0)
  painted = evaluation_input(key, batch, parse(painting.rstrip(',')))
  order = np.asarray(evaluation_order(key, batch, parse(effect)))
  assert (order != np.arange(T)).any(axis=1).all()
  shown = np.asarray(evaluation_input(key, batch, parse(painting + effect)))
  for b in range(B):
    # XLA paints the frame of `freeze` alone, and rounds some colors in another way.
    atol = 1e-6 if effect == 'freeze' else 0
    np.testing.assert_allclose(shown[b], painted[b][order[b]], rtol=0, atol=atol)
  # The order depends on the clip, and not on the batch or on what is painted.
  some = {name: array[[4, 1]] for name, array in batch.items()}
  of_some = evaluation_order(key, some, parse(painting + effect))
  np.testing.assert_array_equal(of_some, order[[4, 1]])
  if effect == 'shuffle':
    assert len(np.unique(order, axis=0)) > 2


@pytest.mark.parametrize('effect', ['reverse', 'shuffle', 'freeze'])
def test_a_training_clip_keeps_its_regions_at_its_frames(batch, effect):
  def train(text):
    batch_ = {name: array for name, array in batch.items() if 'partner' not in name}
    mirrored = np.array([1, 0, 2])
    return training_input(jax.random.key(1), batch_, Augmentation(flip=0.5), mirrored, parse(text))

  painting = 'background=normal/frame,person=inpaint'
  plain, changed = train(painting), train(f'{painting},{effect}')
  np.testing.assert_array_equal(changed.targets, plain.targets)
  moved = 0
  for b in range(B):
    # Noise tells the frames apart.
    source = [
      int(np.flatnonzero((np.asarray(plain.video[b]) == frame).all((1, 2, 3)))[0])
      for frame in np.asarray(changed.video[b])
    ]
    np.testing.assert_array_equal(changed.regions[b], plain.regions[b][np.array(source)])
    np.testing.assert_array_equal(changed.annotated[b], plain.annotated[b][np.array(source)])
    moved += source != list(range(T))
  assert moved == B


def test_the_draws_of_each_effect_stay_the_same():
  """Keys are derived from a number for each effect, so that runs of before can be continued."""
  key = jax.random.key(3)
  keys = {name: jax.random.key_data(draw_effect(key, Effect(name))[0]) for name in EFFECTS}
  for number, name in enumerate(
    ('actorcutmix', 'be', 'fame', 'stillmix', 'stillmix_bank', 'freeze')
  ):
    # 5 regions come first.
    expected, _ = jax.random.split(jax.random.fold_in(key, 5 + number))
    assert jnp.array_equal(keys[name], jax.random.key_data(expected))
  assert len({tuple(data.tolist()) for data in keys.values()}) == len(EFFECTS)
