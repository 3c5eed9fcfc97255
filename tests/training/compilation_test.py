"""The table of parameters, and the folder of the compilation cache."""

import jax
import jax.numpy as jnp
import pytest

from zsar_jax.training import compilation


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
    compilation.enable_compilation_cache()
    folder = tmp_path / 'zsar_jax' / 'compiled'
    assert jax.config.jax_compilation_cache_dir == (None if chosen is not None else str(folder))
    if chosen is None:
      assert folder.stat().st_mode & 0o077 == 0
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
