"""The losses against static bias, compared with NumPy in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.towers_test import random_params
from zsar_jax.config import default_config
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.transform import Clips
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX
from zsar_jax.training import losses


def test_every_term_has_its_weight_in_the_config():
  assert set(losses.LOSSES) <= set(default_config().optim)


@pytest.mark.parametrize('boxes', [True, False])
@pytest.mark.parametrize('size', [(1, 1, 1), (3, 5, 4)])
def test_people_get_the_mean_color_of_their_frame(size, boxes):
  rng = np.random.default_rng(0)
  video = rng.normal(size=(*size, 3)).astype(np.float32)
  regions = rng.integers(0, 16, size, dtype=np.uint8)
  regions[0, 0, 0] |= PERSON | PERSON_BOX
  if not boxes:
    regions &= PERSON | OBJECT | OBJECT_BOX
  out = np.asarray(jax.jit(losses.fill_people)(video, regions))
  for t, y, x in np.ndindex(size):
    person = regions[t, y, x] & (PERSON_BOX if boxes else PERSON)
    expected = video[t].reshape(-1, 3).mean(0) if person else video[t, y, x]
    np.testing.assert_allclose(out[t, y, x], expected, atol=1e-6)


def test_boxes_count_in_all_frames_if_one_frame_has_a_box():
  regions = np.zeros((2, 3, 3), np.uint8)
  regions[0, 0, 0], regions[1, 1, 1] = PERSON_BOX, PERSON
  video = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3)
  changed = (np.asarray(losses.fill_people(video, regions)) != video).any(-1)
  np.testing.assert_array_equal(changed, regions == PERSON_BOX)


@pytest.mark.parametrize(
  ('frames', 'share', 'least'), [(10, 0.7, 7), (8, 0.7, 6), (20, 0.55, 11), (1, 0.7, 1), (4, 0, 0)]
)
def test_enough_frames_must_have_people(frames, share, least):
  for count in range(frames + 1):
    regions = np.full((frames, 2, 3), OBJECT | OBJECT_BOX, np.uint8)
    regions[frames - count :, 1, 2] = PERSON
    annotated = np.ones(frames, bool)
    assert bool(losses.detected(regions, annotated, share)) == (count >= least)
    if count:
      annotated[-1] = False  # Then its plane does not count.
      assert bool(losses.detected(regions, annotated, share)) == (count - 1 >= least)


def entropy(logits):
  """f64[B] of f64[B, C]."""
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  return -np.sum(p * np.log(p), axis=-1)


def test_confusion_is_minus_the_mean_entropy_of_counted_clips():
  logits = np.random.default_rng(1).normal(size=(5, 7)) * 3
  counted = np.array([True, False, True, True, False])
  spoilt = np.where(counted[:, None], logits, np.nan).astype(np.float32)
  loss, gradient = jax.jit(jax.value_and_grad(losses.confusion))(spoilt, counted)
  np.testing.assert_allclose(loss, -entropy(logits)[counted].mean(), rtol=1e-5)
  assert np.isfinite(gradient).all()
  assert not gradient[1].any()
  assert losses.confusion(jnp.float32(logits), jnp.zeros(5, bool)) == 0


def test_confusion_is_least_for_equal_probabilities():
  even = losses.confusion(jnp.full((2, 4), 3.0), jnp.ones(2, bool))
  np.testing.assert_allclose(even, -np.log(4), rtol=1e-6)
  certain = jnp.array([[1000.0, 0, 0, 0]])
  loss, gradient = jax.value_and_grad(losses.confusion)(certain, jnp.ones(1, bool))
  assert loss == 0
  assert np.isfinite(gradient).all()
  logits = jnp.array([[2.0, 0.0, -1.0]])
  slope = jax.jit(jax.grad(losses.confusion))
  for _ in range(200):
    logits -= slope(logits, jnp.ones(1, bool))
  np.testing.assert_allclose(jax.nn.softmax(logits), 1 / 3, atol=0.01)


def test_a_still_clip_repeats_a_uniformly_drawn_frame():
  video = np.random.default_rng(2).normal(size=(3, 4, 5, 3)).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 300)
  stills = np.asarray(jax.jit(jax.vmap(losses.still_clip, (0, None)))(keys, video))
  matches = [[(still == frame).all() for frame in video] for still in stills]
  np.testing.assert_array_equal(np.sum(matches, axis=1), 1)
  np.testing.assert_allclose(np.mean(matches, axis=0), 1 / 3, atol=0.09)
  np.testing.assert_array_equal(losses.still_clip(keys[0], video[:1]), video[:1])


@pytest.fixture(name='still')
def _still():
  """Three still clips, targets, and the weights of a scorer whose gradient is known."""
  rng = np.random.default_rng(3)
  still = np.repeat(rng.normal(size=(3, 1, 2, 4, 3)), 2, axis=1)
  return still, rng.dirichlet(np.ones(5), 3), 0.1 * rng.normal(size=(2 * 2 * 4 * 3, 5))


def score(weights, video):
  """Squares of weighted sums: f32[B, T, H, W, 3] to f32[B, C]."""
  return jnp.square(video.reshape(len(video), -1) @ weights)


def gradient_norm(weights, still):
  """The mean norm of d(sum_c (x w_c)^2) / dx = 2 W W^T x, in double precision."""
  return np.mean([np.linalg.norm(2 * weights @ (weights.T @ x.ravel())) for x in still])


def test_the_terms_on_still_clips(still):
  still, targets, weights = still
  terms = losses.static_losses(
    lambda video: score(jnp.float32(weights), video), jnp.float32(still), jnp.float32(targets)
  )
  logits = (still.reshape(3, -1) @ weights) ** 2
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  assert set(terms) == {'static', 'entropy', 'gradient'}
  np.testing.assert_allclose(terms['static'], -(targets * log_p).sum(-1).mean(), rtol=1e-5)
  np.testing.assert_allclose(terms['entropy'], -entropy(logits).mean(), rtol=1e-5)
  np.testing.assert_allclose(terms['gradient'], gradient_norm(weights, still), rtol=1e-5)


def test_the_terms_can_be_differentiated_by_the_parameters(still):
  still, targets, weights = still

  def term(weights, name):
    return losses.static_losses(
      lambda video: score(weights, video), jnp.float32(still), jnp.float32(targets)
    )[name]

  gradient = np.asarray(jax.jit(jax.grad(term), static_argnums=1)(jnp.float32(weights), 'gradient'))
  expected = np.empty(weights.shape)
  for index in np.ndindex(weights.shape):
    step = np.zeros(weights.shape)
    step[index] = 1e-6
    higher, lower = gradient_norm(weights + step, still), gradient_norm(weights - step, still)
    expected[index] = (higher - lower) / 2e-6
  np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())
  for name in ('static', 'entropy'):
    assert np.abs(jax.grad(term)(jnp.float32(weights), name)).max() > 1e-3


def test_a_scorer_that_ignores_pixels_has_a_finite_gradient(still):
  still, targets, weights = still

  def total(weights):
    terms = losses.static_losses(
      lambda video: score(weights, video), jnp.float32(still), jnp.float32(targets)
    )
    return sum(terms.values())

  loss, gradient = jax.value_and_grad(total)(jnp.zeros(weights.shape))
  np.testing.assert_allclose(loss, np.log(5) - np.log(5) + 0, atol=1e-6)
  assert np.isfinite(gradient).all()


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_terms_on_order():
  rng = np.random.default_rng(4)
  forward, backward = unit(rng.normal(size=(2, 3, 6)))
  logits = 4 * rng.normal(size=(3, 5))
  terms = losses.order_losses(*map(jnp.float32, (forward, backward, logits)))
  cosines = [float(a @ b) for a, b in zip(forward, backward, strict=True)]
  np.testing.assert_allclose(terms['reverse'], np.mean(cosines), rtol=1e-5)
  np.testing.assert_allclose(terms['shuffle'], -entropy(logits).mean(), rtol=1e-5)


@pytest.mark.parametrize('shape', [(2, 4, 3), (2, 4, 5, 3)])
def test_frames_in_another_order(shape):
  frames = np.random.default_rng(5).normal(size=shape).astype(np.float32)
  orders = np.array([[3, 1, 2, 0], [0, 3, 1, 2]])
  embedded, patches = losses.reorder((frames, frames + 1), orders)
  for b, t in np.ndindex(2, 4):
    np.testing.assert_array_equal(embedded[b, t], frames[b, orders[b, t]])
    np.testing.assert_array_equal(patches[b, t], frames[b, orders[b, t]] + 1)
  same, nothing = losses.reorder((frames, None), orders[0])
  np.testing.assert_array_equal(same[1], frames[1, orders[0]])
  assert nothing is None


def test_a_weight_that_grows():
  def shares(start, end):
    return [float(losses.ramp(jnp.int32(step), start, end)) for step in range(7)]

  assert shares(2, 6) == [0, 0, 0, 0.25, 0.5, 0.75, 1]
  assert shares(0, 0) == [1] * 7
  assert shares(3, 3) == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize('temporal', ['transformer', 'xclip'])
def test_torc_against_clips_that_run_backwards(temporal):
  """The loss from features, against the model on videos whose frames are in that order."""
  config = default_config()
  config.optim.torc, config.optim.torc_ramp = 0.3, (0, 4)
  spec = preset('tiny', resolution=16, image_layers=1, text_layers=1)
  model = VideoModel(spec, VideoSpec(num_frames=4, temporal=temporal, temporal_layers=1))
  params = random_params(model)
  rng = np.random.default_rng(6)
  video = jnp.float32(rng.normal(size=(3, 4, 16, 16, 3)))
  classes = jnp.float32(unit(rng.normal(size=(5, spec.embed_dim))))
  seeds = jnp.array([4, 5, 6], jnp.uint32)
  targets = jnp.eye(5)[:3]

  @functools.partial(jax.jit, static_argnames='weight')
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(params, weight, step):
    config.optim.torc = weight
    frames = model.encode_frames(params, video)
    inputs = losses.LossInputs(
      model=model,
      params=params,
      clips=Clips(video, None, None, targets),
      seeds=seeds,
      frames=frames,
      encoded=model.combine_frames(params, *frames),
      classes=classes,
      key=jax.random.key(0),
      step=jnp.asarray(step),
    )
    return losses.training_loss(config.optim, inputs)

  (with_torc, metrics), gradient = loss(params, weight=0.3, step=1)
  (without, plain), plain_gradient = loss(params, weight=0.0, step=1)
  assert not any(name.startswith('torc') for name in plain)
  encode = jax.jit(model.encode_video)
  encoded, backward = (encode(params, clip) for clip in (video, video[:, ::-1]))
  cosines = (np.asarray(encoded['embedding'], np.float64) * backward['embedding']).sum(-1)
  np.testing.assert_allclose(metrics['torc_reverse'], cosines.mean(), rtol=1e-5)
  orders = [
    jax.random.permutation(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), seed), 4)
    for seed in seeds
  ]
  assert len({tuple(order.tolist()) for order in orders}) > 1
  shuffled = jnp.stack([clip[order] for clip, order in zip(video, orders, strict=True)])
  logits = model.logits(params, encode(params, shuffled), classes)
  expected = -entropy(np.asarray(logits, np.float64)).mean()
  np.testing.assert_allclose(metrics['torc_shuffle'], expected, rtol=1e-4)
  np.testing.assert_allclose(with_torc, without + 0.3 / 4 * (cosines.mean() + expected), rtol=1e-4)
  np.testing.assert_allclose(loss(params, weight=0.3, step=0)[0][0], without, rtol=1e-6)

  # The gradient reaches the head, and through the features the image tower.
  for part in ('temporal', 'visual', 'logit_scale'):
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), gradient[part], plain_gradient[part])
    assert max(jax.tree.leaves(change)) > 1e-6, part
