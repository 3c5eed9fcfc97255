"""The mesh, and where parameters, optimizer state and batches lie on it.

The mesh has three axes. Batches are split over `data` and `fsdp`; parameters and optimizer
state over `fsdp` (each array along its first dimension, or else its largest) and over `tensor`
(attention by heads, the MLP by its hidden units). The XLA partitioner derives the rest.
"""

import functools
import itertools
import re
import sys
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from zsar_jax.errors import UserError
from zsar_jax.runtime import trees

AXES = ('data', 'fsdp', 'tensor')
BATCH_SPEC = PartitionSpec(('data', 'fsdp'))

# Tensor parallelism as in Megatron-LM (Shoeybi et al., 2019): the first matrix of each pair is
# split by its outputs and the second by its inputs, which leaves one sum for each pair.
# They match optimizer state too, whose paths end like the parameters'.
TENSOR_RULES = (
  (r'.*attn/(query|key|value)/kernel', (None, 'tensor', None)),
  (r'.*attn/(query|key|value)/bias', ('tensor', None)),
  (r'.*attn/out/kernel', ('tensor', None, None)),
  (r'.*mlp/c_fc/kernel', (None, 'tensor')),
  (r'.*mlp/c_fc/bias', ('tensor',)),
  (r'.*mlp/c_proj/kernel', ('tensor', None)),
)


def make_mesh(
  config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """The mesh of `config.mesh`; one axis may be -1 and takes the devices that remain.

  Args:
    config: `config.mesh`.
    devices: None for those that JAX has here.

  Raises:
    UserError: where the axes do not multiply to the number of devices.
  """
  sizes = [config[axis] for axis in AXES]
  count = jax.device_count() if devices is None else len(devices)
  if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
    raise UserError(
      f'config.mesh: the sizes of {AXES} are {sizes}; each must be 1 or more, and one may be -1'
    )
  rest = int(np.prod([size for size in sizes if size != -1]))
  if -1 in sizes and count % rest == 0:
    sizes[sizes.index(-1)] = count // rest
  if int(np.prod(sizes)) != count:
    raise UserError(
      f'config.mesh: the sizes of {AXES} are {sizes}, which do not multiply to the'
      f' {count} devices here; set one of them to -1'
    )
  chosen = {} if devices is None else {'devices': devices}
  return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), **chosen)


def num_batch_shards(mesh: Mesh) -> int:
  """Into how many parts the mesh splits a batch."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Where batches and activations lie: split along their first dimension."""
  return NamedSharding(mesh, BATCH_SPEC)


def process_batch_shard(mesh: Mesh) -> tuple[int, int]:
  """(i, n): of n equal parts of each batch, this process loads the i-th.

  Processes whose devices split a model and not the batch load the same part.

  Raises:
    UserError: where processes would have to load parts that overlap.
  """
  rows = {}
  for device, (index,) in (
    batch_sharding(mesh).devices_indices_map((num_batch_shards(mesh),)).items()
  ):
    rows.setdefault(device.process_index, set()).add(index.start or 0)
  parts = sorted({tuple(sorted(places)) for places in rows.values()})
  if len({len(part) for part in parts}) > 1 or sum(map(len, parts)) != num_batch_shards(mesh):
    raise UserError(
      f'config.mesh: {dict(mesh.shape)} gives the {jax.process_count()} processes parts of a batch'
      " that overlap; let fsdp and tensor divide a process's devices, or be multiples of them"
    )
  return parts.index(tuple(sorted(rows[jax.process_index()]))), len(parts)


def replicated(mesh: Mesh) -> NamedSharding:
  """A whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def sharded_shapes(tree: Any, mesh: Mesh, fsdp_min_bytes: int) -> Any:
  """Decides where each array of the training state lies.

  A dimension that its mesh axis does not divide stays whole.

  Args:
    tree: arrays or their shapes: the parameters, or the state with the optimizer's.
    mesh: with the axes `AXES`.
    fsdp_min_bytes: smaller arrays are not split over `fsdp`: it would not pay.

  Returns:
    A tree of ShapeDtypeStructs that carry NamedShardings.
  """

  def divides(axis: str, size: int) -> bool:
    return mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0

  def place_leaf(path: str, leaf: Any) -> jax.ShapeDtypeStruct:
    rule = next((axes for regex, axes in TENSOR_RULES if re.fullmatch(regex, path)), ())
    spec = [
      axis if axis and divides(axis, size) else None
      for axis, size in itertools.zip_longest(rule, leaf.shape)
    ]
    if leaf.size * leaf.dtype.itemsize >= fsdp_min_bytes:
      free = [i for i, axis in enumerate(spec) if not axis and divides('fsdp', leaf.shape[i])]
      if free:
        # Rows where they divide: of those, XLA for TPUs reduces and scatters gradients in one.
        spec[max(free, key=lambda i: (i == 0, leaf.shape[i]))] = 'fsdp'
    shard_batch = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shard_batch)

  return trees.map_with_path(place_leaf, tree)


def gather_fsdp(params: Any, mesh: Mesh, fsdp_min_bytes: int) -> Any:
  """Parameters as they are computed with: whole over `fsdp`, their gradients split again.

  What is split over `fsdp` is gathered where it is used, and batches stay where they are. Left to
  itself, the partitioner sends activations about where a matrix is larger than these.

  Args:
    params: inside a jitted function, the parameters that lie as `sharded_shapes` says.
    mesh: with the axes `AXES`.
    fsdp_min_bytes: as for `sharded_shapes`.
  """
  split = sharded_shapes(params, mesh, fsdp_min_bytes)
  # Nothing is so large, which leaves what `tensor` splits.
  whole = sharded_shapes(params, mesh, sys.maxsize)

  def gather(param: jax.Array, split: Any, whole: Any) -> jax.Array:
    if split.sharding == whole.sharding:
      return param
    return _reshard(param, whole.sharding, split.sharding)

  return jax.tree.map(gather, params, split, whole)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _reshard(x: jax.Array, forward: NamedSharding, backward: NamedSharding) -> jax.Array:
  """Returns `x` with the sharding `forward`; its gradient has the sharding `backward`."""
  del backward
  return jax.lax.with_sharding_constraint(x, forward)


def _reshard_forward(
  x: jax.Array, forward: NamedSharding, backward: NamedSharding
) -> tuple[jax.Array, None]:
  return _reshard(x, forward, backward), None


def _reshard_backward(
  forward: NamedSharding, backward: NamedSharding, residuals: None, cotangent: jax.Array
) -> tuple[jax.Array]:
  del forward, residuals
  return (jax.lax.with_sharding_constraint(cotangent, backward),)


_reshard.defvjp(_reshard_forward, _reshard_backward)


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Puts this host's share of a batch on the mesh, as its part of the global batch."""
  sharding = batch_sharding(mesh)
  with jax.transfer_guard('allow'):
    return {
      name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()
    }


def put_global(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """Puts an array that every host has whole where `sharding` says, each device its part."""
  with jax.transfer_guard('allow'):
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def random_key(seed: int, mesh: Mesh) -> jax.Array:
  """The random key of a seed, on every device."""
  return jax.jit(functools.partial(jax.random.key, seed), out_shardings=replicated(mesh))()
