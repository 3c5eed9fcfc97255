"""Compilation before the first step: kept on disk, and what it says of memory and work."""

import os
import pathlib
from typing import Any

import jax
import numpy as np

from zsar_jax.models import flops
from zsar_jax.runtime.wording import format_bytes


def enable_compilation_cache() -> None:
  """Has JAX keep what it compiles in the user's cache folder, and take it from there.

  JAX_COMPILATION_CACHE_DIR names another folder; an empty one keeps nothing.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ or jax.config.jax_compilation_cache_dir:
    return
  caches = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  folder = caches / 'zsar_jax' / 'compiled'
  try:
    # What lies there is executed: it is the user's alone.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
      return
  except OSError:
    return  # A home that cannot be written to; all works, but slower.
  jax.config.update('jax_compilation_cache_dir', str(folder))


def compile_step(step: Any, *arguments: Any) -> tuple[Any, str]:
  """Compiles a jitted function ahead of time.

  Args:
    step: from `jax.jit`.
    *arguments: arrays, or their ShapeDtypeStructs with shardings.

  Returns:
    The compiled function, and in words its memory on each device and its work on all of them.
  """
  traced = step.trace(*arguments)
  compiled = traced.lower().compile()
  text = f'{flops.of_jaxpr(traced.jaxpr) / 1e9:,.1f} GFLOPs in matrix products a step'
  memory = compiled.memory_analysis()
  if memory is not None:
    reused = memory.alias_size_in_bytes
    kinds = {
      'state and batch': memory.argument_size_in_bytes,
      'results': memory.output_size_in_bytes - reused,
      'temporary': memory.temp_size_in_bytes,
      'code': memory.generated_code_size_in_bytes,
    }
    parts = ', '.join(f'{name} {format_bytes(count)}' for name, count in kinds.items())
    text += f'; on each device {format_bytes(sum(kinds.values()))}: {parts}'
  return compiled, text


def parameter_table(params: Any, trained: Any) -> str:
  """The number of parameters of each part of a model, and of those that are trained.

  Args:
    params: {part: arrays or their shapes}.
    trained: a tree of bools like it.
  """
  parts = []
  for name in sorted(params):
    sizes = [leaf.size for leaf in jax.tree.leaves(params[name])]
    count = sum(size for size, on in zip(sizes, jax.tree.leaves(trained[name]), strict=True) if on)
    share = '' if count == sum(sizes) else f' ({count:,} trained)' if count else ' (frozen)'
    parts.append(f'{name} {sum(sizes):,}{share}')
  return 'parameters: ' + ', '.join(parts)


def batch_shapes(clip: dict[str, np.ndarray], size: int, place: Any) -> dict[str, Any]:
  """ShapeDtypeStructs of a batch of `size` clips like `clip`, lying as `place` says."""
  return {
    name: jax.ShapeDtypeStruct((size, *np.shape(value)), np.asarray(value).dtype, sharding=place)
    for name, value in clip.items()
  }
