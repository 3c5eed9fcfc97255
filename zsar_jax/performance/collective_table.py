"""Sums the collectives of a step by kind, mesh axes and contents."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.models.from_config import build_model
from zsar_jax.performance.collectives import Collective
from zsar_jax.performance.hlo import Array
from zsar_jax.runtime import sharding


def collective_rows(
  collectives: Iterable[Collective],
  contents: dict[int, str],
  times: int,
  bandwidth: Callable[[tuple[str, ...]], float],
) -> list[dict[str, Any]]:
  """Returns a row for each kind, axes and contents; the rows that send most come first.

  Args:
    collectives: of the step.
    contents: see `array_contents`.
    times: how often the step runs them.
    bandwidth: returns the bytes per second of a ring over mesh axes.
  """
  rows: dict[tuple, dict[str, Any]] = defaultdict(
    lambda: {'count': 0, 'bytes': 0.0, 'moved': 0.0, 'seconds': 0.0}
  )
  for collective in collectives:
    by_contents: dict[str, list[Array]] = defaultdict(list)
    for array in collective.arrays:
      by_contents[contents.get(array.size, 'other')].append(array)
    for what, arrays in by_contents.items():
      part = dataclasses.replace(collective, arrays=tuple(arrays))
      row = rows[collective.kind, collective.axes, what]
      row['count'] += times * collective.count
      row['bytes'] += times * collective.count * part.bytes
      row['moved'] += times * part.moved
      row['seconds'] += times * part.moved / bandwidth(collective.axes)
  return [
    {'kind': kind, 'axes': axes, 'what': what} | row
    for (kind, axes, what), row in sorted(rows.items(), key=lambda item: -item[1]['moved'])
  ]


def array_contents(config: ConfigDict, mesh: Mesh, classes: int) -> dict[int, str]:
  """Returns what arrays hold, by their number of elements, in full or as a device's part.

  Between TPU slices a device sends its part of what the devices of its slice have summed, with the
  padding of its layout.
  """
  model = build_model(config, mesh)
  params = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  replicas, width = sharding.num_batch_shards(mesh), model.spec.embed_dim
  padded = classes + -classes % replicas
  contents = {count * width: 'class embeddings' for count in (classes, padded)}
  slices = sharding.num_slices(mesh.devices.flat)
  if slices > 1:
    data = mesh.shape['data'] // slices
    contents[padded * width // replicas * slices] = 'class embeddings'
    contents[_padded_size((classes, width)) // data] = 'class embeddings'
  for leaf in jax.tree.leaves(params):
    tensor = mesh.shape['tensor'] if 'tensor' in leaf.sharding.spec else 1
    shard = math.prod(leaf.sharding.shard_shape(leaf.shape))
    sizes = [leaf.size // tensor, shard]
    if slices > 1:
      split = leaf.sharding.shard_shape(leaf.shape)
      summed = data if 'fsdp' in leaf.sharding.spec else replicas // slices
      sizes += [math.prod(split) // summed, _padded_size(split) // summed]
    for size in sizes:
      # A scalar may be a sum of anything.
      if size > 1:
        contents.setdefault(size, 'parameters')
  return contents


def _padded_size(shape: tuple[int, ...]) -> int:
  """Returns the number of elements with the padding of TPUs, whose memory has tiles of 8 x 128."""
  *outer, rows, columns = (1, 1, *shape) if len(shape) < 2 else shape
  return math.prod(outer) * (rows + -rows % 8) * (columns + -columns % 128)
