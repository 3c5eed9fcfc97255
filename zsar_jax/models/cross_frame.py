"""What lets the frames of a clip see each other inside the image tower.

Sequences are the frames of clips: N = B * T, the T frames of a clip one after another. Letters
in shapes: B clips, T frames, L tokens of a frame, D width, H heads, d = D / H.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.layers import Compute


class WindowAttention(layers.Attention):
  """Attention of each frame to the frame after it, the one before it and itself.

  From Open-VCLIP (arXiv 2302.00624). It has no parameters of its own. Where there is no frame
  before or after, keys and values are zeros, which are not masked: as in the original they take
  their share of the softmax, at logit 0.

  Attributes:
    num_frames: T.
  """

  def __init__(self, *arguments, num_frames: int, **options):
    super().__init__(*arguments, **options)
    self.num_frames = num_frames

  def neighbors(self, x: jax.Array) -> jax.Array:
    """Maps [B * T, L, H, d] to [B * T, 3 * L, H, d]."""
    clips = x.reshape(-1, self.num_frames, *x.shape[1:])  # [B, T, L, H, d]
    nothing = jnp.zeros_like(clips[:, :1])
    after = jnp.concatenate([clips[:, 1:], nothing], axis=1)
    before = jnp.concatenate([nothing, clips[:, :-1]], axis=1)
    return jnp.concatenate([after, before, clips], axis=2).reshape(x.shape[0], -1, *x.shape[2:])


class WindowBlock(layers.ResidualBlock):
  """CLIP's residual block with `WindowAttention`, of the same parameters."""

  def __init__(self, width: int, heads: int, *, num_frames: int, **options):
    super().__init__(width, heads, **options)
    self.attn = WindowAttention(width, heads, num_frames=num_frames, **options)


class MessageBlock(layers.ResidualBlock):
  """CLIP's residual block with a message token from each frame to the others.

  The cross-frame communication of X-CLIP (arXiv 2208.02816): the class tokens of a clip's
  frames, projected, attend to each other; each frame then attends to its message as well, which
  is dropped before the MLP.

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
  ):
    super().__init__(width, heads, residual_std=residual_std, compute=compute, rngs=rngs)
    self.message_fc = nnx.Linear(
      width,
      width,
      kernel_init=nnx.initializers.normal(width**-0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.message_ln = layers.layer_norm(width, compute.dtype, rngs)
    self.message_attn = layers.Attention(
      width, heads, residual_std=residual_std, compute=compute, rngs=rngs
    )
    self.num_frames = num_frames

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [B * T, L, D]` to [B * T, L, D]."""
    count, tokens, width = x.shape
    message = self.message_fc(x[:, 0]).reshape(-1, self.num_frames, width)  # [B, T, D]
    message = message + self.message_attn(self.message_ln(message))
    x = jnp.concatenate([x, message.reshape(count, 1, width)], axis=1)  # [B * T, L + 1, D]
    x = (x + self.attn(self.ln_1(x)))[:, :tokens]
    return x + self.mlp(self.ln_2(x))


BLOCKS = {'window': WindowBlock, 'xclip': MessageBlock}
