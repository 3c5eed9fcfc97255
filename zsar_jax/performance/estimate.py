"""Estimates of a step without a compiler: the bytes of its activations and of its traffic.

Letters: A micro-batches; N tokens in a device's micro-batch; D width; H heads; L tokens in a
sequence; d, f and t the sizes of the mesh axes data, fsdp and tensor.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from zsar_jax.models.from_config import compute_dtype
from zsar_jax.models.presets import TowerSpec
from zsar_jax.runtime import sharding, trees
from zsar_jax.training.setup import texts_frozen


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Bytes that each device must send in a step; see `required_traffic`.

  Attributes:
    gathered: parameters that are split over fsdp, gathered where they are used.
    scattered: their gradients, reduced and scattered over fsdp.
    reduced: gradients, reduced over the axes that their parameters are not split over.
    tensor: activations, reduced over tensor.
    texts: class embeddings, of which every device has a full copy, and their gradients.
    between_slices: what of all this goes over the network between TPU slices.
  """

  gathered: float = 0.0
  scattered: float = 0.0
  reduced: float = 0.0
  tensor: float = 0.0
  texts: float = 0.0
  between_slices: float = 0.0

  @property
  def total(self) -> float:
    """The bytes of all kinds."""
    return self.gathered + self.scattered + self.reduced + self.tensor + self.texts


def required_traffic(
  config: ConfigDict, spec: TowerSpec, params: Any, trained: Any, mesh: Mesh, classes: int
) -> Traffic:
  """Returns the bytes that the shardings make every device send in a training step.

  A ring sends (n - 1) / n of an array for a gather or a scatter and twice that for an all-reduce.
  An array of S elements of b bytes (those of `config.model.dtype`) therefore costs the following;
  gradients count in each micro-batch, those of the text tower once per step:

      split over fsdp      S b (f - 1) / f          gathered once per step, for all uses
                           S b (f - 1) / f          its gradient, reduced and scattered over fsdp
                           2 S/f b (d - 1) / d      its gradient, reduced over data
      not split over fsdp  2 S b (d f - 1) / (d f)  its gradient, reduced over data and fsdp

  The gradient of the token embedding table is reduced without scattering, in f32. Arrays that are
  split over tensor count with S / t. Over tensor, each block reduces the outputs of its attention
  and its MLP and the gradients of both inputs: 4 all-reduces of N D b bytes, 5 if the block is
  recomputed in the backward pass. The class embeddings, f32[C, E], are gathered once, and their
  gradient is reduced in each micro-batch.

  On s slices the mesh has m = d f / s devices in each. A sum over all devices is a sum within each
  slice, of which every device keeps a part, a sum of the parts between the slices, and a gather
  within each slice. So a device sends 2 S b / m (s - 1) / s bytes of each gradient to other slices,
  half as much for a gather, and what it sends in all stays the same.

  Args:
    config: a validated config.
    spec: the model's dimensions.
    params: the parameters' sharded shapes.
    trained: a tree of bools, whether each parameter is trained.
    mesh: the devices.
    classes: the number of training classes.
  """
  data, fsdp, tensor = (mesh.shape[axis] for axis in sharding.AXES)
  replicas = data * fsdp
  itemsize = compute_dtype(config).itemsize
  frozen = texts_frozen(trained)
  accumulation = config.optim.accumulation
  slices = sharding.num_slices(mesh.devices.flat)
  gathered = scattered = reduced = summed = 0.0
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
    is_table = path == 'text/token_embedding/embedding'
    if trained[path]:
      summed += size * (4 / itemsize if is_table else 1)
    if trained[path] and 'fsdp' in axes and not is_table:
      scattered += size * _share(fsdp)
      reduced += 2 * size / fsdp * _share(data)
    elif trained[path]:
      reduced += 2 * size * (4 / itemsize if is_table else 1) * _share(replicas)

  activations = 0.0
  if tensor > 1:
    sums = 4 if config.model.remat == 'none' else 5
    for stack in _stacks(config, spec, classes, replicas, frozen):
      size = stack.tokens * stack.width * itemsize
      activations += 2 * sums * stack.layers * size * _share(tensor)
  embeddings = 0.0 if frozen else 4.0 * classes * spec.embed_dim * (1 + 2 * accumulation)
  texts = embeddings * _share(replicas)
  between_slices = (2 * summed + embeddings) / (replicas // slices) * _share(slices)
  return Traffic(gathered, scattered, reduced, activations, texts, between_slices)


def activation_bytes(
  config: ConfigDict, spec: TowerSpec, classes: int, mesh: Mesh, attention: str
) -> float:
  """Estimates the bytes of a device's memory that activations take in a training step.

  In units of N D b bytes, each residual block keeps: with remat 'none' its input, the outputs of
  both norms, query, key, value, the mixed values, the residual in between and twice the hidden
  units of the MLP (M / D, usually 4), which is 16, and if XLA computes attention, 2 H L / D for its
  logits and weights; with 'dots' its input and the outputs of its products, which is 10; with
  'full' its input, which is 1. A gated MLP has twice as many hidden units. The activations of one
  block that is recomputed, and twice the frames in float32, are added.

  Args:
    config: a validated config.
    spec: the model's dimensions.
    classes: the number of training classes.
    mesh: the devices.
    attention: 'xla', or 'cudnn', which keeps no logits; see `models.attention.attend`.
  """
  replicas, tensor = sharding.num_batch_shards(mesh), mesh.shape['tensor']
  itemsize = compute_dtype(config).itemsize
  by_tower = {'image': 0.0, 'text': 0.0}
  for stack in _stacks(config, spec, classes, replicas, False):
    logits = 0.0 if attention == 'cudnn' else 2 * stack.heads * stack.length / stack.width
    working = 8 + 2 * stack.hidden / stack.width + logits
    kept = {'none': working, 'dots': 6 + stack.hidden / stack.width, 'full': 1}[config.model.remat]
    # The input of a block is not split over tensor.
    blocks = stack.layers * (1 + (kept - 1) / tensor)
    blocks += 0 if kept == working else working / tensor
    by_tower[stack.tower] += stack.tokens * stack.width * itemsize * blocks
  largest = max(by_tower.values())  # The towers run one after another.
  clips = config.data.batch_size / config.optim.accumulation / replicas
  frames = clips * config.view.num_frames * 3 * config.view.size**2 * 4
  return largest + 2 * frames


class _Stack(NamedTuple):
  """The residual blocks of a tower, or some of them.

  Attributes:
    tower: 'image' or 'text'.
    tokens: a device's tokens per micro-batch (images) or step (texts).
    length: the tokens that a token attends to.
    width: D.
    layers: the number of blocks.
    heads: H.
    hidden: the hidden units of an MLP.
  """

  tower: str
  tokens: float
  length: int
  width: int
  layers: int
  heads: int
  hidden: int


def _stacks(
  config: ConfigDict, spec: TowerSpec, classes: int, replicas: int, frozen: bool
) -> Iterator[_Stack]:
  """Yields the blocks of the image tower and, unless it is frozen, of the text tower."""
  frames, patches = config.view.num_frames, spec.num_patches
  clips = config.data.batch_size / replicas / config.optim.accumulation
  sequences, length = clips * frames, spec.num_image_tokens
  if config.model.temporal == 'joint':
    sequences, length = clips, length + (frames - 1) * patches
  # EVA-02's MLPs are gated.
  hidden = spec.image_mlp_width * (2 if spec.parts.image_block == 'eva02' else 1)
  for layers, tokens, attended in (
    (spec.image_layers, sequences * length, length),
    (spec.time_layers, clips * frames * patches, frames),
    (spec.auxiliary_layers, clips * frames * patches, frames * patches),
  ):
    if layers:
      yield _Stack('image', tokens, attended, spec.image_width, layers, spec.image_heads, hidden)
  if not frozen:
    length = spec.context_length
    tokens = classes / replicas * length
    yield _Stack(
      'text',
      tokens,
      length,
      spec.text_width,
      spec.text_layers,
      spec.text_heads,
      spec.text_mlp_width,
    )


def device_bytes(tree: Any) -> int:
  """Returns the bytes of a tree of sharded shapes on one device, without padding."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    is_sharded = isinstance(leaf.sharding, NamedSharding)
    shape = leaf.sharding.shard_shape(leaf.shape) if is_sharded else leaf.shape
    # The dtype of random keys has no itemsize.
    itemsize = 8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
    total += math.prod(shape) * itemsize
  return total


def _share(count: int) -> float:
  """Returns the share of an array that a ring of `count` devices sends."""
  return (count - 1) / count


def _by_path(tree: Any) -> Iterator[tuple[str, Any]]:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield trees.path_name(path), leaf
