"""Counts floating-point operations: of a model from its dimensions, and of any traced program.

"Forward pass" and "operations" below are numbers of floating-point operations; a multiplication and
an addition count as two."""

import math
from collections.abc import Sequence
from typing import Any

import jax

from zsar_jax.models import videoprism
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.runtime import trees

# The products of JAX's primitives for cuDNN's attention. The backward pass computes the logits
# again, and the gradients of weights, values, queries and keys.
_CUDNN_PRODUCTS = {
  'dot_product_attention_fwd_wrapper': 2,
  'dot_product_attention_bwd_wrapper': 5,
}


def of_jaxpr(jaxpr: Any) -> int:
  """Counts the operations in the matrix products and convolutions of a jaxpr.

  A product of [n, k] and [k, m] has 2 n k m operations. XLA's own count takes the body of a loop
  once. Here the body of a scan counts as often as it runs, a condition counts as its most expensive
  branch, and what `jax.checkpoint` recomputes counts again.
  """
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      ((contracted, _), _) = params['dimension_numbers']
      left = equation.invars[0].aval.shape
      total += 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    elif name == 'conv_general_dilated':
      kernel = equation.invars[1].aval
      features = kernel.shape[params['dimension_numbers'].rhs_spec[0]]
      total += 2 * equation.outvars[0].aval.size * kernel.size // features
    elif products := _CUDNN_PRODUCTS.get(name):
      batch, queries, heads, width = equation.invars[0].aval.shape
      keys = equation.invars[1].aval.shape[1]
      total += products * 2 * batch * heads * queries * keys * width
    elif name == 'cond':
      total += max(map(of_jaxpr, params['branches']))
    else:
      called = [leaf for leaf in jax.tree.leaves(list(params.values())) if hasattr(leaf, 'eqns')]
      total += params.get('length', 1) * sum(map(of_jaxpr, called))
  return total


def transformer(
  width: int,
  layers: int,
  tokens: int,
  mlp_width: int,
  last_tokens: int | None = None,
  mlp_matrices: int = 2,
) -> float:
  """Returns the forward pass of one sequence: 4 D^2 + K D M weights per block, full attention.

  Norms and activations are not counted. Causal attention counts in full, as it is computed.

  Args:
    width: D.
    layers: number of blocks.
    tokens: number of tokens.
    mlp_width: M, the hidden width of the MLPs.
    last_tokens: number of tokens that the last block computes; None for all.
    mlp_matrices: K, the number of matrices of an MLP.
  """
  # Keys and values are computed for all tokens, the rest only for tokens that attend.
  attending_token = 4 * width**2 + 4 * tokens * width
  attending_token += 2 * mlp_matrices * width * mlp_width
  skipped = 0 if last_tokens is None else tokens - last_tokens
  return layers * tokens * (4 * width**2 + attending_token) - skipped * attending_token


def images(spec: TowerSpec, video: VideoSpec, count: int = 1) -> float:
  """Returns the forward pass of one sequence of `count` frames through the image tower."""
  width, parts = spec.image_width, spec.parts
  patches = count * spec.num_patches
  tokens = spec.num_image_tokens - spec.num_patches + patches + video.image_prompts
  total = 2.0 * patches * 3 * spec.patch**2 * width
  last_tokens = 1 if parts.image_pool == 'class' and video.temporal != 'xclip' else None
  total += transformer(
    width,
    spec.image_layers,
    tokens,
    spec.image_mlp_width,
    last_tokens,
    mlp_matrices=3 if parts.image_block == 'eva02' else 2,
  )
  if parts.image_pool == 'attention':  # Keys and values of all tokens, the rest of one query.
    total += 4 * (1 + tokens) * width**2 + 4 * tokens * width + 4 * width * spec.pool_mlp_width
  return total if parts.image_projection == 'none' else total + 2 * width * spec.embed_dim


def clip(spec: TowerSpec, video: VideoSpec) -> float:
  """Returns the forward pass of one clip. X-CLIP's messages and video prompts are not counted."""
  if video.temporal == 'videoprism':
    return _videoprism(spec, video.num_frames)
  if video.temporal == 'joint':
    return images(spec, video, video.num_frames)
  total = video.num_frames * images(spec, video)
  if video.temporal in ('transformer', 'xclip'):
    width = spec.embed_dim
    total += transformer(width, video.temporal_layers, video.num_frames, 4 * width)
  return total


def _videoprism(spec: TowerSpec, frames: int) -> float:
  """Returns the forward pass of one clip through `videoprism.VideoTower`."""
  width, mlp_width, patches = spec.image_width, spec.image_mlp_width, spec.num_patches
  tokens, inner = frames * patches, videoprism.POOL_EXPANSION * width
  total = 2.0 * tokens * 3 * spec.patch**2 * width
  total += frames * transformer(width, spec.image_layers, patches, mlp_width)
  total += patches * transformer(width, spec.time_layers, frames, mlp_width)
  total += transformer(width, spec.auxiliary_layers, tokens, mlp_width)
  # The pooling: keys and values of all tokens, the rest of one query.
  return total + 4 * (1 + tokens) * width * inner + 4 * tokens * inner


def text(spec: TowerSpec, tokens: int) -> float:
  """Returns the forward pass of one text of `tokens` tokens."""
  if spec.architecture == 'videoprism':  # A class token follows, and nothing is projected.
    return transformer(spec.text_width, spec.text_layers, tokens + 1, spec.text_mlp_width, 1)
  project = 2 * spec.text_width * spec.embed_dim
  blocks = transformer(spec.text_width, spec.text_layers, tokens, spec.text_mlp_width, 1)
  return blocks + project


def training_step(
  spec: TowerSpec, video: VideoSpec, batch: int, texts: Sequence[int], trained: Any
) -> float:
  """Returns the operations of an optimizer step: the model's forward and backward pass.

  The passes of a teacher and of other losses are not counted, nor recomputation.

  Args:
    spec: dimensions of the towers.
    video: what turns the towers into a video model.
    batch: number of clips.
    texts: (P, C, L), the shape of the class texts. If any part of the text tower is trained, the
      step encodes the C texts of L tokens of one template.
    trained: tree of bools with the structure of the parameters.
  """
  text_backward = backward_factor(trained['text'])
  classes = (1 + text_backward) * texts[1] * text(spec, texts[2]) if text_backward else 0.0
  clip_backward = max(backward_factor(part) for name, part in trained.items() if name != 'text')
  return batch * (1 + clip_backward) * clip(spec, video) + classes


def backward_factor(trained: Any) -> int:
  """Returns the operations of a tower's backward pass as a multiple of its forward pass.

  The factor is 2 for the gradients of inputs and matrices, 1 if the matrices are frozen and other
  parameters such as prompts are trained, and 0 if nothing is trained.
  """
  leaves = jax.tree_util.tree_leaves_with_path(trained)
  if any(is_trained for path, is_trained in leaves if trees.path_name(path).endswith('kernel')):
    return 2
  return int(any(is_trained for _, is_trained in leaves))
