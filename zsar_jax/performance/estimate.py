"""What can be said of a step without a compiler: its FLOPs, its activations, what must be sent.

Letters: A micro-batches, N tokens of a device's micro-batch, D width, H heads, L tokens of a
sequence; d, f and t the sizes of the mesh axes data, fsdp and tensor.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from zsar_jax.models.presets import TowerSpec
from zsar_jax.runtime import sharding, trees
from zsar_jax.training.step import texts_frozen


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Bytes that each device must send in a step; see `required_traffic`.

  Attributes:
    gathered: parameters that are split over fsdp, for the use of them.
    scattered: their gradients, summed up over fsdp, each device its part.
    reduced: gradients summed up over what their parameters are not split over.
    tensor: activations summed up over tensor.
    texts: class embeddings, which every device has whole, and their gradients.
  """

  gathered: float = 0.0
  scattered: float = 0.0
  reduced: float = 0.0
  tensor: float = 0.0
  texts: float = 0.0

  @property
  def total(self) -> float:
    """Of all kinds."""
    return sum(dataclasses.astuple(self))


def required_traffic(
  config: ConfigDict, spec: TowerSpec, params: Any, trained: Any, mesh: Mesh, classes: int
) -> Traffic:
  """What the sharding makes every device send in one training step.

  With the ring's shares (n - 1) / n for a gather or a scatter and twice that for an all-reduce,
  for each array of S elements, of b bytes each (those of `config.model.dtype`), gradients
  in each micro-batch (in each step those of the text tower):

      split over fsdp     S b (f - 1) / f    gathered, once in a step for all that use it
                          S b (f - 1) / f    its gradient, reduced and scattered
                      2 S/f b (d - 1) / d    its gradient, summed up over data
      whole         2 S b (d f - 1) / (d f)  its gradient, summed up over data and fsdp

  The gradient of the table of token embeddings is summed up whole. Arrays split over tensor count
  with S / t. Over tensor, each block sums up the output of its attention and of its MLP, and the
  gradient of either's input: 4 all-reduces of N D b bytes, 5 where the block is computed again for
  the backward pass. The class embeddings, f32[C, E], are gathered once, and their gradient is
  summed up in each micro-batch.

  Args:
    config: a validated config.
    spec: the model's dimensions.
    params: the parameters' sharded shapes.
    trained: a tree of bools, which of them are trained.
    mesh: the devices.
    classes: the number of training classes.
  """
  data, fsdp, tensor = (mesh.shape[axis] for axis in sharding.AXES)
  everyone = data * fsdp
  itemsize = np.dtype(jax.numpy.dtype(config.model.dtype)).itemsize
  frozen = texts_frozen(trained)
  accumulation = config.optim.accumulation
  gathered = scattered = reduced = 0.0
  trained = dict(_by_path(trained))
  for path, leaf in _by_path(params):
    is_text = path.startswith('text/')
    if is_text and frozen:
      continue
    axes = {axis for axis in leaf.sharding.spec if axis}
    size = itemsize * leaf.size / (tensor if 'tensor' in axes else 1)
    if 'fsdp' in axes:
      gathered += size * _share(fsdp)
    size *= 1 if is_text else accumulation
    looked_up = path == 'text/token_embedding/embedding'
    if trained[path] and 'fsdp' in axes and not looked_up:
      scattered += size * _share(fsdp)
      reduced += 2 * size / fsdp * _share(data)
    elif trained[path]:
      reduced += 2 * size * _share(everyone)

  activations = 0.0
  if tensor > 1:
    sums = 4 if config.model.remat == 'none' else 5
    for tokens, width, layers in _towers(config, spec, classes, everyone, frozen):
      activations += 2 * sums * layers * tokens * width * itemsize * _share(tensor)
  embeddings = 4.0 * classes * spec.embed_dim * _share(everyone)
  texts = 0.0 if frozen else embeddings * (1 + 2 * accumulation)
  return Traffic(gathered, scattered, reduced, activations, texts)


def activation_bytes(config: ConfigDict, spec: TowerSpec, classes: int, mesh: Mesh) -> float:
  """About how many bytes of a device's memory activations take in a training step.

  What each residual block keeps, in units of N D b bytes: with remat 'none' its input, the
  outputs of both norms, query, key, value, the mixed values, the residual in between, and
  twice the four-fold MLP: 16, and 2 H L / D for the attention's logits and weights; with 'dots'
  its input and its products' outputs: 10; with 'full' its input: 1. To that come the work of one
  block that is computed again, and the frames in float32, twice.
  """
  everyone, tensor = sharding.num_batch_shards(mesh), mesh.shape['tensor']
  itemsize = np.dtype(jax.numpy.dtype(config.model.dtype)).itemsize
  kept_per_block = {'none': 16, 'dots': 10, 'full': 1}[config.model.remat]
  most = 0.0
  length = {spec.image_width: 1 + spec.num_patches, spec.text_width: spec.context_length}
  heads = {spec.image_width: spec.image_heads, spec.text_width: spec.text_heads}
  for tokens, width, layers in _towers(config, spec, classes, everyone, False):
    attention = 2 * heads[width] * length[width] / width
    working = 16 + attention
    kept = kept_per_block + (attention if config.model.remat == 'none' else 0)
    # Inputs of blocks are whole on every device of the tensor axis.
    blocks = layers * (1 + (kept - 1) / tensor) + (0 if kept == working else working / tensor)
    most = max(most, tokens * width * itemsize * blocks)
  clips = config.data.batch_size / config.optim.accumulation / everyone
  frames = clips * config.view.num_frames * 3 * config.view.size**2 * 4
  return most + 2 * frames


def _towers(
  config: ConfigDict, spec: TowerSpec, classes: int, everyone: int, frozen: bool
) -> Iterator[tuple[float, int, int]]:
  """Of each tower: tokens on a device in a step or micro-batch, width, and blocks."""
  images = config.data.batch_size * config.view.num_frames / everyone
  yield (
    images / config.optim.accumulation * (1 + spec.num_patches),
    spec.image_width,
    (spec.image_layers),
  )
  if not frozen:
    yield classes / everyone * spec.context_length, spec.text_width, spec.text_layers


def device_bytes(tree: Any) -> int:
  """Bytes of a tree of sharded shapes on one device, without padding."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    place = leaf.sharding
    shape = place.shard_shape(leaf.shape) if isinstance(place, NamedSharding) else leaf.shape
    # A random key's dtype has no size of its own.
    itemsize = 8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
    total += math.prod(shape) * itemsize
  return total


def _share(count: int) -> float:
  return (count - 1) / count


def _by_path(tree: Any) -> Iterator[tuple[str, Any]]:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield trees.path_name(path), leaf
