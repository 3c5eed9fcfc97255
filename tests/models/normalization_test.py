import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models.normalization import normalize


def plain(x, scale, bias):
  """The formula of Ba et al. (arXiv 1607.06450), differentiated by JAX in f64."""
  centered = x - x.mean(-1, keepdims=True)
  return centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5) * scale + bias


@pytest.fixture
def inputs():
  rng = np.random.default_rng(0)
  # A mean that is large beside the deviation, a constant row, and a row of zeros.
  x = rng.normal(3, 0.2, (6, 32))
  x[4], x[5] = 2.0, 0.0
  return x, rng.normal(1, 0.3, 32), rng.normal(0, 0.3, 32), rng.normal(size=(6, 32))


def test_value_and_gradients_agree_with_autodiff_in_f64(inputs):
  with jax.enable_x64(True):
    *arguments, weights = map(jnp.asarray, inputs)
    expected, pull_back = jax.vjp(plain, *arguments)
    gradients = jax.tree.map(np.asarray, pull_back(weights))
  arguments, weights = [np.float32(x) for x in inputs[:3]], np.float32(inputs[3])
  y, pull_back = jax.vjp(lambda *arguments: normalize(*arguments, jnp.float32, 1e-5), *arguments)
  np.testing.assert_allclose(y, expected, atol=2e-5)
  for gradient, exact in zip(pull_back(weights), gradients, strict=True):
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-4)


def test_second_derivatives_exist(inputs):
  # The gradient penalty on static clips differentiates a gradient.
  x, scale, bias, weights = map(np.float32, inputs)

  def slope(function, x):
    return jnp.sum(jax.grad(lambda x: jnp.sum(weights * function(x, scale, bias)))(x) ** 2)

  ours = jax.grad(lambda x: slope(lambda *a: normalize(*a, jnp.float32, 1e-5), x))(x)
  expected = jax.grad(lambda x: slope(plain, x))(x)
  np.testing.assert_allclose(ours[:4], expected[:4], rtol=2e-3, atol=1e-2)


def test_bfloat16_is_normalized_in_f32(inputs):
  x, scale, bias, weights = inputs
  x, weights = jnp.bfloat16(x), jnp.bfloat16(weights)
  scale, bias = np.float32(scale), np.float32(bias)
  y, pull_back = jax.vjp(
    lambda *arguments: normalize(*arguments, jnp.bfloat16, 1e-5), x, scale, bias
  )
  expected, exact = jax.vjp(plain, np.float32(x), scale, bias)
  gradients = pull_back(weights)
  assert [y.dtype, *(gradient.dtype for gradient in gradients)] == [
    jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32
  ]  # fmt: skip
  np.testing.assert_allclose(np.float32(y), expected, rtol=2**-8, atol=1e-4)
  for gradient, value in zip(gradients, exact(np.float32(weights)), strict=True):
    np.testing.assert_allclose(np.float32(gradient), value, rtol=2**-7, atol=1e-2)
