"""The losses against static bias, compared with NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.config import default_config
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
