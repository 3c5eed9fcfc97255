"""Learnable tokens in the sequences of images and texts (deep prompting, as in ViFi-CLIP).

The first block gets the prompts `inputs` among its tokens. Before each of the next blocks, up to
the depth, the tokens at those positions are replaced by that block's own prompts.
"""

import jax
import jax.numpy as jnp
from flax import nnx

# The standard deviation of ViFi-CLIP's initial prompts.
_STD = 0.02


class DeepPrompts(nnx.Module):
  """The prompts of one tower.

  Attributes:
    count: P, the number of prompts in each block.
    start: index of the first prompt in a sequence.
  """

  def __init__(self, count: int, depth: int, width: int, start: int, *, rngs: nnx.Rngs):
    def draw() -> nnx.Param:
      return nnx.Param(nnx.initializers.normal(_STD)(rngs.params(), (count, width)))

    self.inputs = draw()
    self.blocks = nnx.Dict({str(i): draw() for i in range(1, depth)})
    self.count = count
    self.start = start

  def __call__(self, block: int, x: jax.Array) -> jax.Array:
    """Returns the tokens [N, L, D] that block number `block` gets instead of `x`."""
    if str(block) not in self.blocks:
      return x
    return self.replace(x, self.blocks[str(block)][...])

  def replace(self, x: jax.Array, prompts: jax.Array) -> jax.Array:
    """Returns `x: [N, L, D]` with `prompts: [P, D]` at their positions."""
    shape = (x.shape[0], *prompts.shape)
    prompts = jnp.broadcast_to(prompts.astype(x.dtype), shape)
    return jnp.concatenate([x[:, : self.start], prompts, x[:, self.start + self.count :]], axis=1)
