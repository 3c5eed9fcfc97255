"""Floating-point operations: of a model, by its dimensions, and of any program as it is traced."""

import math
from collections.abc import Sequence
from typing import Any

import jax

from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.runtime import trees


def traced(jaxpr: Any) -> int:
  """Floating-point operations in the matrix products and convolutions of a jaxpr.

  A product of [n, k] and [k, m] is 2 n k m operations. XLA's own count takes the body of a loop
  once; here a scan counts as often as it runs, a condition as its dearest branch, and what is
  computed again under `jax.checkpoint` counts again.
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
    elif name == 'cond':
      total += max(map(traced, params['branches']))
    else:
      called = [leaf for leaf in jax.tree.leaves(list(params.values())) if hasattr(leaf, 'eqns')]
      total += params.get('length', 1) * sum(map(traced, called))
  return total


def transformer(width: int, layers: int, tokens: int, wanted: int | None = None) -> float:
  """The forward pass of one sequence: 12 D^2 weights a block, and attention of all to all.

  Norms and the like are not counted. Causal attention is counted whole, as it is computed.

  Args:
    width: D.
    layers: how many blocks.
    tokens: how many of them.
    wanted: how many the last block computes; None for all.
  """
  attending = 20 * width**2 + 4 * tokens * width
  unwanted = 0 if wanted is None else tokens - wanted
  # Keys and values are of all tokens in each block.
  return layers * tokens * (4 * width**2 + attending) - unwanted * attending


def frame(spec: TowerSpec, video: VideoSpec) -> float:
  """The forward pass of one frame through the image tower."""
  tokens = 1 + spec.num_patches + video.image_prompts
  patches = 2 * spec.num_patches * 3 * spec.patch**2 * spec.image_width
  project = 2 * spec.image_width * spec.embed_dim
  wanted = None if video.temporal == 'xclip' else 1
  return patches + transformer(spec.image_width, spec.image_layers, tokens, wanted) + project


def clip(spec: TowerSpec, video: VideoSpec) -> float:
  """The forward pass of one clip; of X-CLIP without its messages and video prompts."""
  found = video.num_frames * frame(spec, video)
  if video.temporal in ('transformer', 'xclip'):
    found += transformer(spec.embed_dim, video.temporal_layers, video.num_frames)
  return found


def text(spec: TowerSpec, tokens: int) -> float:
  """The forward pass of one text of so many tokens."""
  project = 2 * spec.text_width * spec.embed_dim
  return transformer(spec.text_width, spec.text_layers, tokens, 1) + project


def training_step(
  spec: TowerSpec, video: VideoSpec, batch: int, texts: Sequence[int], trained: Any
) -> float:
  """An optimizer step of the model itself, forward and backward.

  A teacher's and other losses' passes are not counted, nor what recomputation adds.

  Args:
    spec: the towers.
    video: what makes a video model of them.
    batch: clips.
    texts: (P, C, L), of which one template's C texts of L tokens are encoded, if any of the text
      tower is trained.
    trained: a tree of bools like the parameters.
  """
  in_text = backward(trained['text'])
  classes = (1 + in_text) * texts[1] * text(spec, texts[2]) if in_text else 0.0
  in_clips = max(backward(part) for name, part in trained.items() if name != 'text')
  return batch * (1 + in_clips) * clip(spec, video) + classes


def backward(trained: Any) -> int:
  """How many times as much as its forward pass a tower's backward pass takes.

  Twice, for the gradients of what comes in and of the matrices; once where the matrices are
  frozen and only what comes in is trained, such as prompts; not at all where nothing is.
  """
  leaves = jax.tree_util.tree_leaves_with_path(trained)
  if any(on for path, on in leaves if trees.path_name(path).endswith('kernel')):
    return 2
  return int(any(on for _, on in leaves))
