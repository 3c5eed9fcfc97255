"""Blocks that attend across frames inside the image tower.

Each sequence is a frame: N = B * T, with the T frames of a clip in consecutive rows. Letters in
shapes: B clips, T frames, L tokens of a frame, D width, H heads, d = D / H.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.compute import Compute


class WindowAttention(layers.Attention):
  """Attention of each frame to itself, to the next frame and to the previous one.

  From Open-VCLIP (arXiv 2302.00624). It adds no parameters. Beyond the first and the last frame,
  keys and values are zeros. They are not masked: as in the original, they take their share of the
  softmax, at logit 0.

  Attributes:
    num_frames: T.
  """

  def __init__(self, *arguments, num_frames: int, **options):
    super().__init__(*arguments, **options)
    self.num_frames = num_frames

  def gather_context(self, x: jax.Array, length: int | None) -> jax.Array:
    """Maps [B * T, L, H, d] to the tokens of the next frame, the previous one and the own.

    Padding is left out, so the result is [B * T, 3 * length, H, d].
    """
    x = x[:, :length]
    frames = x.reshape(-1, self.num_frames, *x.shape[1:])  # [B, T, L, H, d]
    zeros = jnp.zeros_like(frames[:, :1])
    following = jnp.concatenate([frames[:, 1:], zeros], axis=1)
    previous = jnp.concatenate([zeros, frames[:, :-1]], axis=1)
    context = jnp.concatenate([following, previous, frames], axis=2)  # [B, T, 3 * L, H, d]
    return context.reshape(x.shape[0], -1, *x.shape[2:])

  def context_length(self, length: int | None) -> int | None:
    """Returns the length of the context, which has no padding."""
    return None if length is None else 3 * length


class WindowBlock(layers.ResidualBlock):
  """CLIP's residual block with `WindowAttention`; it has the same parameters."""

  def __init__(self, width: int, heads: int, *, num_frames: int, **options):
    super().__init__(width, heads, **options)
    options = {name: options[name] for name in ('residual_std', 'compute', 'rngs')}
    self.attn = WindowAttention(width, heads, num_frames=num_frames, **options)


class MessageBlock(layers.ResidualBlock):
  """CLIP's residual block with message tokens between the frames of a clip.

  This is the cross-frame communication of X-CLIP (arXiv 2208.02816). The class tokens of a clip's
  frames are projected and attend to each other, which gives one message for each frame. The frame's
  tokens then attend to its message too. The message is dropped before the MLP.

  Attributes:
    num_frames: T.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    num_frames: int,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    **options: Any,
  ):
    super().__init__(width, heads, residual_std=residual_std, compute=compute, rngs=rngs, **options)
    self.message_fc = nnx.Linear(
      width,
      width,
      kernel_init=nnx.initializers.normal(width**-0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.message_ln = layers.LayerNorm(width, compute, rngs)
    self.message_attn = layers.Attention(
      width, heads, residual_std=residual_std, compute=compute, rngs=rngs
    )
    self.num_frames = num_frames

  def __call__(self, x: jax.Array, length: int | None = None) -> jax.Array:
    """Maps `x: [B * T, L, D]` to [B * T, L, D]; tokens from `length` on are padding."""
    count, tokens, width = x.shape
    length = length or tokens
    message = self.message_fc(x[:, 0]).reshape(-1, self.num_frames, width)  # [B, T, D]
    message = message + self.message_attn(self.message_ln(message))
    # The message follows the frame's tokens, in place of padding if there is any.
    parts = [x[:, :length], message.reshape(count, 1, width), x[:, length + 1 :]]
    x = jnp.concatenate(parts, axis=1)  # [B * T, max(L, length + 1), D]
    x = (x + self.attn(self.ln_1(x), length=length + 1))[:, :tokens]
    return x + self.mlp(self.ln_2(x))


def join_frames(x: jax.Array, positions: jax.Array, first: int) -> jax.Array:
  """Puts the tokens of a clip's frames into one sequence, as in ViCLIP (arXiv 2307.06942).

  Args:
    x: [B * T, first + M, D], the tokens of frames.
    positions: [T, D], added to the patches of each frame.
    first: the number of tokens before the M patches; those of the first frame are kept.

  Returns:
    [B, first + T * M, D].
  """
  count, width = positions.shape
  frames = x.reshape(-1, count, *x.shape[1:])  # [B, T, first + M, D]
  patches = frames[:, :, first:] + positions[:, None].astype(x.dtype)  # [B, T, M, D]
  return jnp.concatenate([frames[:, 0, :first], patches.reshape(len(frames), -1, width)], axis=1)


BLOCKS = {'window': WindowBlock, 'xclip': MessageBlock}
