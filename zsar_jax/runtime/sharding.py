"""The mesh, and the shardings of parameters, optimizer state and batches.

The mesh has three axes. Batches are split over `data` and `fsdp`. Parameters and optimizer state
are split over `fsdp` (each array along its first dimension, or else its largest) and over `tensor`
(attention by heads, the MLP by its hidden units). The XLA partitioner derives all other shardings.

Several TPU slices lie along `data`: the network between them is slow, and only the sums of
gradients go over it.
"""

import functools
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from zsar_jax.errors import UserError
from zsar_jax.runtime import trees

AXES = ('data', 'fsdp', 'tensor')
BATCH_SPEC = PartitionSpec(('data', 'fsdp'))

# Tensor parallelism as in Megatron-LM (Shoeybi et al., 2019): the first matrix of each pair is
# split by its outputs and the second by its inputs, which leaves one sum for each pair. The rules
# also match optimizer state, whose paths end like those of the parameters.
TENSOR_RULES = (
  (r'.*attn/(query|key|value)/kernel', (None, 'tensor', None)),
  (r'.*attn/(query|key|value)/bias', ('tensor', None)),
  (r'.*attn/out/kernel', ('tensor', None, None)),
  (r'.*mlp/(c_fc|c_gate)/kernel', (None, 'tensor')),
  (r'.*mlp/(c_fc|c_gate)/bias', ('tensor',)),
  (r'.*mlp/ln/(scale|bias)', ('tensor',)),
  (r'.*mlp/c_proj/kernel', ('tensor', None)),
)


def make_mesh(
  config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Makes the mesh of `config.mesh`; an axis of size -1 takes the remaining devices.

  Args:
    config: `config.mesh`.
    devices: None for all devices of JAX.

  Raises:
    UserError: if the sizes of the axes do not multiply to the number of devices, or an axis other
      than `data` would go over several TPU slices.
  """
  sizes = [config[axis] for axis in AXES]
  devices = jax.devices() if devices is None else devices
  count = len(devices)
  if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
    raise UserError(
      f'config.mesh: the sizes of {AXES} are {sizes}; each must be 1 or more, and one may be -1'
    )
  given = int(np.prod([size for size in sizes if size != -1]))
  if -1 in sizes and count % given == 0:
    sizes[sizes.index(-1)] = count // given
  if int(np.prod(sizes)) != count:
    raise UserError(
      f'config.mesh: the sizes of {AXES} are {sizes}, which do not multiply to the'
      f' {count} devices here; set one of them to -1'
    )
  slices = num_slices(devices)
  if sizes[0] % slices:
    raise UserError(
      f'config.mesh: data is {sizes[0]}, so that fsdp or tensor would go over the network between'
      f' the {slices} TPU slices in every layer; let data be a multiple of {slices}'
    )
  axis_types = (AxisType.Auto,) * len(AXES)
  if slices == 1:
    return jax.make_mesh(sizes, AXES, axis_types=axis_types, devices=devices)
  # `jax.make_mesh` knows single slices only.
  within = (sizes[0] // slices, *sizes[1:])
  arranged = mesh_utils.create_hybrid_device_mesh(
    within, (slices, 1, 1), devices, allow_split_physical_axes=True
  )
  return Mesh(arranged, AXES, axis_types=axis_types)


def num_slices(devices: Iterable[Any]) -> int:
  """Returns the number of TPU slices; 1 for devices that are no TPUs.

  For GPUs JAX counts machines as slices, but orders devices by machine anyway.
  """
  return (
    len({getattr(device, 'slice_index', 0) for device in devices if device.platform == 'tpu'}) or 1
  )


def num_batch_shards(mesh: Mesh) -> int:
  """Returns into how many parts the mesh splits a batch."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of batches and activations: split along the first dimension."""
  return NamedSharding(mesh, BATCH_SPEC)


def process_batch_shard(mesh: Mesh) -> tuple[int, int]:
  """Returns (i, n): this process loads the i-th of n equal parts of each batch.

  Processes whose devices split the model and not the batch load the same part.

  Raises:
    UserError: if processes would have to load parts that overlap.
  """
  shards: dict[int, set[int]] = {}  # By process, the first positions of its devices' shards.
  for device, (index,) in (
    batch_sharding(mesh).devices_indices_map((num_batch_shards(mesh),)).items()
  ):
    # The stubs of JAX do not define `Device` here.
    shards.setdefault(device.process_index, set()).add(index.start or 0)  # type: ignore[attr-defined]
  parts = sorted({tuple(sorted(positions)) for positions in shards.values()})
  if len({len(part) for part in parts}) > 1 or sum(map(len, parts)) != num_batch_shards(mesh):
    raise UserError(
      f'config.mesh: {dict(mesh.shape)} gives the {jax.process_count()} processes parts of a batch'
      " that overlap; let fsdp and tensor divide a process's devices, or be multiples of them"
    )
  return parts.index(tuple(sorted(shards[jax.process_index()]))), len(parts)


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding with a full copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def sharded_shapes(tree: Any, mesh: Mesh, fsdp_min_bytes: int) -> Any:
  """Decides the sharding of each array of the training state.

  A dimension that its mesh axis does not divide is not split.

  Args:
    tree: arrays or their shapes, of the parameters or of the state with the optimizer's.
    mesh: with the axes `AXES`.
    fsdp_min_bytes: smaller arrays are not split over `fsdp`, because it would not pay.

  Returns:
    A tree of ShapeDtypeStructs that carry NamedShardings.
  """

  def divides(axis: str, size: int) -> bool:
    return mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0

  def shard_leaf(path: str, leaf: Any) -> jax.ShapeDtypeStruct:
    rule = next((axes for regex, axes in TENSOR_RULES if re.fullmatch(regex, path)), ())
    spec = [
      axis if axis and divides(axis, size) else None
      for axis, size in itertools.zip_longest(rule, leaf.shape)
    ]
    if leaf.size * leaf.dtype.itemsize >= fsdp_min_bytes:
      free = [i for i, axis in enumerate(spec) if not axis and divides('fsdp', leaf.shape[i])]
      if free:
        # The first dimension if possible: there XLA for TPUs sums and splits gradients in one step.
        spec[max(free, key=lambda i: (i == 0, leaf.shape[i]))] = 'fsdp'
    leaf_sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf_sharding)

  return trees.map_with_path(shard_leaf, tree)


def gather_fsdp(params: Any, mesh: Mesh, fsdp_min_bytes: int, dtype: DTypeLike) -> Any:
  """Gathers parameters over `fsdp` for the computation; their gradients are split again.

  Batches stay where they are. Without this constraint the partitioner moves the activations
  instead, wherever a matrix is larger than they are. Matrices, which are used in the dtype of the
  computation only, are cast before they are sent.

  Args:
    params: parameters with the shardings of `sharded_shapes`, inside a jitted function.
    mesh: with the axes `AXES`.
    fsdp_min_bytes: as for `sharded_shapes`.
    dtype: of the computation.
  """
  split = sharded_shapes(params, mesh, fsdp_min_bytes)
  # No array is that large, so only the splits over `tensor` remain.
  gathered = sharded_shapes(params, mesh, sys.maxsize)

  def gather(path: Any, param: jax.Array, split: Any, gathered: Any) -> jax.Array:
    if split.sharding == gathered.sharding:
      return param
    # XLA itself casts kernels with more dimensions before it gathers them. If they were cast here,
    # XLA for TPUs would find their reshape between the gradient and the gradient's sum over devices
    # and make no reduce-scatter of the two: see `layers.Projection`.
    if trees.path_name(path).endswith('/kernel') and param.ndim == 2:
      # Without the constraint the partitioner may gather first and cast then.
      param = jax.lax.with_sharding_constraint(param.astype(dtype), split.sharding)
    return _reshard(param, gathered.sharding, split.sharding)

  return jax.tree_util.tree_map_with_path(gather, params, split, gathered)


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
  """Puts this process's part of a batch on the mesh and returns the global batch."""
  sharding = batch_sharding(mesh)
  with jax.transfer_guard('allow'):
    return {
      name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()
    }


def put_global(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """Shards an array of which every process has a full copy."""
  with jax.transfer_guard('allow'):
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def random_key(seed: int, mesh: Mesh) -> jax.Array:
  """Returns the random key of a seed, replicated on every device."""
  return jax.jit(functools.partial(jax.random.key, seed), out_shardings=replicated(mesh))()
