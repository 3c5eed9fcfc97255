"""Compiles steps ahead of time, caches compiled code on disk, and describes its memory and work."""

import os
from typing import Any

import jax
from jax import monitoring
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.data import batch as batch_schema
from zsar_jax.models import flops
from zsar_jax.runtime import sharding
from zsar_jax.runtime.wording import format_bytes
from zsar_jax.storage.paths import cache_folder


def enable_compilation_cache() -> None:
  """Makes JAX cache compiled code in the user's cache folder.

  JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, nothing is cached.
  """
  # The stubs of JAX lack the options of `jax.config`.
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ or jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    return
  folder = cache_folder() / 'compiled'
  try:
    # Code from this folder is executed, so nobody else may write to it.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
      return
  except OSError:
    return  # The home folder is not writable. Everything works without the cache, but slower.
  jax.config.update('jax_compilation_cache_dir', str(folder))


def compile_lowered(lowered: Any) -> tuple[Any, bool]:
  """Compiles what `jax.jit(...).lower` returns.

  Returns:
    The compiled function, and whether it was in the cache on disk.
  """
  events = []

  def record(event: str, **details: Any) -> None:
    del details
    events.append(event)

  monitoring.register_event_listener(record)
  try:
    compiled = lowered.compile()
  finally:
    monitoring.unregister_event_listener(record)
  return compiled, '/jax/compilation_cache/cache_hits' in events


def describe_program(traced: Any, compiled: Any) -> str:
  """Describes a compiled function's memory on each device and its work on all.

  Args:
    traced: from `jax.jit(...).trace`.
    compiled: the same function, compiled.
  """
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
  return text


def peak_memory() -> str:
  """Describes the most memory of a device that arrays and programs of this process had; '' on CPUs.

  It is that of this host's fullest device.
  """
  statistics = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [entry['peak_bytes_in_use'] for entry in statistics if 'peak_bytes_in_use' in entry]
  return f'peak memory of a device: {format_bytes(max(peaks))}' if peaks else ''


def parameter_table(params: Any, trained: Any) -> str:
  """Describes the number of parameters, and of trained parameters, in each part of a model.

  Args:
    params: {part: arrays or their shapes}.
    trained: a tree of bools like `params`.
  """
  parts = []
  for name in sorted(params):
    sizes = [leaf.size for leaf in jax.tree.leaves(params[name])]
    masks = jax.tree.leaves(trained[name])
    count = sum(size for size, mask in zip(sizes, masks, strict=True) if mask)
    share = '' if count == sum(sizes) else f' ({count:,} trained)' if count else ' (frozen)'
    parts.append(f'{name} {sum(sizes):,}{share}')
  return 'parameters: ' + ', '.join(parts)


def batch_shapes(
  config: ConfigDict,
  batch_size: int,
  mesh: Mesh,
  training: bool = False,
  partners: bool = False,
  inpainted: bool = False,
  partners_inpainted: bool = False,
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns a batch as ShapeDtypeStructs with the sharding of `sharding.shard_batch`.

  Args:
    config: a validated config.
    batch_size: the clips in the batch.
    mesh: the devices, which may be abstract.
    training: whether the batch is one of training.
    partners: whether each clip comes with a partner.
    inpainted: whether it comes with its inpainted frames.
    partners_inpainted: whether the partners do.
  """
  fields = batch_schema.fields(training, partners, inpainted, partners_inpainted)
  target = sharding.batch_sharding(mesh)
  letters = {'B': batch_size, 'T': config.view.num_frames, 'S': config.view.size}
  return {
    name: jax.ShapeDtypeStruct(field.sizes(**letters), field.dtype, sharding=target)
    for name, field in fields.items()
  }
