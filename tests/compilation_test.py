"""Compiling ahead of time: the count of operations against one by hand, and where it is kept."""

import jax
import jax.numpy as jnp
import pytest

from zsar_jax import compilation


def test_matmul_flops_by_hand():
  """A scan counts as often as it runs, a branch like the dearer one."""

  def work(x, kernel):
    x = jax.lax.scan(lambda x, _: (x @ x, None), x, length=3)[0]  # 3 * 2 * 4^3
    x = jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x)  # 2 * 2 * 4^3
    image = jnp.zeros((2, 8, 8, 3))
    patches = jax.lax.conv_general_dilated(
      image, kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )  # 2 * 4 * 4 outputs of 5 features, each 2 * 2 * 2 * 3
    batched = jnp.einsum('bij,bjk->bik', jnp.ones((7, 2, 3)), jnp.ones((7, 3, 5)))
    return jax.checkpoint(jnp.sin)(x).sum() + patches.sum() + batched.sum()

  jaxpr = jax.make_jaxpr(jax.jit(work))(jnp.ones((4, 4)), jnp.ones((2, 2, 3, 5)))
  expected = 5 * 2 * 4**3 + 2 * 4 * 4 * 5 * 2 * 2 * 2 * 3 + 7 * 2 * 5 * 2 * 3
  assert compilation.matmul_flops(jaxpr.jaxpr) == expected


def test_parameter_table():
  params = {'visual': {'a': jnp.ones((3, 4)), 'b': jnp.ones(2)}, 'text': {'a': jnp.ones(5)}}
  trained = {'visual': {'a': True, 'b': False}, 'text': {'a': False}}
  table = compilation.parameter_table(params, trained)
  assert table == 'parameters: text 5 (frozen), visual 14 (12 trained)'


@pytest.mark.parametrize('chosen', [None, 'elsewhere', ''])
def test_the_cache_folder(tmp_path, monkeypatch, chosen):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  if chosen is not None:
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', chosen)
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update('jax_compilation_cache_dir', None)
    compilation.keep_compiled()
    folder = tmp_path / 'zsar_jax' / 'compiled'
    assert jax.config.jax_compilation_cache_dir == (None if chosen is not None else str(folder))
    if chosen is None:
      assert folder.stat().st_mode & 0o077 == 0
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
