"""The table of parameters, and the folder of the compilation cache."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from zsar_jax.training import compilation


def test_parameter_table():
  params = {'visual': {'a': jnp.ones((3, 4)), 'b': jnp.ones(2)}, 'text': {'a': jnp.ones(5)}}
  trained = {'visual': {'a': True, 'b': False}, 'text': {'a': False}}
  table = compilation.parameter_table(params, trained)
  assert table == 'parameters: text 5 (frozen), visual 14 (12 trained)'


def test_the_cache_on_disk_is_noticed(tmp_path):
  lowered = jax.jit(lambda x: x * 3 + 1).lower(jnp.ones(7))
  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  before = {name: getattr(jax.config, name) for name in names}
  try:
    for name, value in zip(names, (str(tmp_path), 0), strict=True):
      jax.config.update(name, value)
    compilation_cache.reset_cache()
    compiled, cached = compilation.compile_lowered(lowered)
    assert not cached
    jax.clear_caches()
    again, cached = compilation.compile_lowered(jax.jit(lambda x: x * 3 + 1).lower(jnp.ones(7)))
    assert cached
    assert again(jnp.ones(7)).tolist() == compiled(jnp.ones(7)).tolist() == [4.0] * 7
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()


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
