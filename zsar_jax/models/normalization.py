"""Layer normalization with a backward pass that keeps no f32 copy of its input.

Letters in shapes: N tokens, D width.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
  x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike, epsilon: float
) -> jax.Array:
  """Normalizes each token, computed in f32.

  Args:
    x: [N, D].
    scale: f32[D].
    bias: f32[D].
    dtype: of the result.
    epsilon: is added to the variance.

  Returns:
    [N, D].
  """
  return _forward(x, scale, bias, dtype, epsilon)[0]


def _forward(x, scale, bias, dtype, epsilon):
  """Returns the result, and what the backward pass needs: the input and f32[N, 1] statistics."""
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
  factor = jax.lax.rsqrt(variance + epsilon)
  y = (wide - mean) * (factor * scale) + bias
  # With the barrier, the sums of the backward pass read two numbers for each token. Without it, XLA
  # computes them anew from `x` and writes the normalized f32 tokens to memory before it adds up.
  return y.astype(dtype), (x, scale, *jax.lax.optimization_barrier((mean, factor)))


def _backward(dtype, epsilon, saved, gradient):
  """Returns the gradients of the input, the scale and the bias."""
  del dtype, epsilon
  x, scale, mean, factor = saved
  gradient = gradient.astype(jnp.float32)
  normalized = (x.astype(jnp.float32) - mean) * factor
  scaled = gradient * scale
  shift = jnp.mean(scaled, axis=-1, keepdims=True)
  slope = jnp.mean(scaled * normalized, axis=-1, keepdims=True)
  x_gradient = factor * (scaled - shift - normalized * slope)
  return x_gradient.astype(x.dtype), jnp.sum(gradient * normalized, 0), jnp.sum(gradient, 0)


normalize.defvjp(_forward, _backward)
