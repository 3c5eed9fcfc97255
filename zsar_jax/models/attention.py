"""Scaled dot-product attention with XLA's or cuDNN's kernels.

Letters in shapes: N sequences, L queries, M keys, H heads, d width of a head.
"""

from typing import Any

import jax
import jax.numpy as jnp

# cuDNN's kernels get lengths that are a multiple of this. JAX 0.10 refuses odd lengths in the
# backward pass.
CUDNN_MULTIPLE = 8


def pad_tokens(x: jax.Array, multiple: int = CUDNN_MULTIPLE) -> jax.Array:
  """Appends zeros along axis 1 of `x: [N, L, ...]` until L is a multiple of `multiple`."""
  missing = -x.shape[1] % multiple
  return jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)) if missing else x


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  implementation: Any,
  causal: bool = False,
  key_length: int | jax.Array | None = None,
  logit_cap: float = 0.0,
) -> jax.Array:
  """Computes softmax(query key^T / sqrt(d)) value for each head.

  The softmax is computed in f32.

  Args:
    query: [N, L, H, d].
    key: [N, M, H, d].
    value: [N, M, H, d].
    implementation: 'xla', or 'cudnn', which keeps no [L, M] matrices in memory; see
      `compute.choose_compute`.
    causal: whether query i attends to the keys 0 to i only.
    key_length: the number of keys of each sequence that queries attend to, the same for all or
      i32[N]; the keys after them are padding. None for all keys.
    logit_cap: c, if the logits are capped: c tanh(logit / c) lies between -c and c. 0 if they are
      not. Only 'xla' caps them.

  Returns:
    [N, L, H, d].
  """
  length = query.shape[1]
  if logit_cap:
    assert implementation == 'xla'  # See `compute.choose_compute`.
    return _attend_capped(query, key, value, causal, key_length, logit_cap)
  if implementation == 'cudnn':
    key_length = key.shape[1] if key_length is None else key_length
    query, key, value = pad_tokens(query), pad_tokens(key), pad_tokens(value)
    if causal and isinstance(key_length, int):
      key_length = None  # The padding comes after every query that counts.
  if isinstance(key_length, int) and key_length == key.shape[1]:
    key_length = None
  # Queries are not masked: where a query is padding, its result is finite and of no consequence,
  # while the values that the kernels leave at masked queries are not specified. The gradients of
  # masked keys are zero: JAX's own tests compare them with XLA's (`testDotProductAttentionMask`).
  lengths = None if key_length is None else jnp.broadcast_to(key_length, query.shape[:1])
  options: dict[str, Any] = dict(is_causal=causal, key_value_seq_lengths=lengths)
  mixed = jax.nn.dot_product_attention(query, key, value, implementation=implementation, **options)
  return mixed[:, :length]


def _attend_capped(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  causal: bool,
  key_length: int | jax.Array | None,
  logit_cap: float,
) -> jax.Array:
  """See `attend`; `jax.nn.dot_product_attention` does not cap logits."""
  logits = jnp.einsum('nlhd,nmhd->nhlm', query, key, preferred_element_type=jnp.float32)
  logits = logit_cap * jnp.tanh(logits * (query.shape[-1] ** -0.5 / logit_cap))
  queries, keys = (jnp.arange(x.shape[1]) for x in (query, key))
  mask = keys <= queries[:, None] if causal else jnp.ones((1, 1), bool)  # [L, M]
  if key_length is not None:
    lengths = jnp.broadcast_to(key_length, query.shape[:1])
    mask = mask & (keys < lengths[:, None, None, None])  # [N, 1, L, M]
  # The lowest number, and not minus infinity, keeps a query without any key finite.
  logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.einsum('nhlm,nmhd->nlhd', weights, value)
