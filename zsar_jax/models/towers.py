"""CLIP's image and text towers (Radford et al., arXiv 2103.00020), with OpenAI's numerics.

Letters in shapes: N images, G = resolution / patch, P patch, C texts, L tokens, D width,
E embedding.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from zsar_jax.models import cross_frame, layers
from zsar_jax.models.compute import Compute
from zsar_jax.models.learned_prompts import DeepPrompts
from zsar_jax.models.presets import TowerSpec, VideoSpec

# Initial standard deviations for training from scratch. OpenAI's are 0.02 for tokens and
# width**-0.5 for image positions, while patch embeddings have about 0.5. With larger values,
# positions and tokens stand out from the start, so that a model trained on few clips learns sooner
# where a limb is and how class texts differ.
_IMAGE_POSITION_STD = 0.5
_TOKEN_STD = 0.2


class PatchEmbedding(nnx.Module):
  """The convolution that turns each patch into a token; its stride is its kernel size, no bias."""

  def __init__(self, patch: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
    # PyTorch's default for convolutions: uniform, with variance 1 / (3 * fan_in).
    init = nnx.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
    self.kernel = nnx.Param(init(rngs.params(), (patch, patch, 3, width), jnp.float32))
    self.dtype = dtype

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps `images: [N, G * P, G * P, 3]` to tokens [N, G * G, D], row by row."""
    kernel = self.kernel[...].astype(self.dtype)  # [P, P, 3, D]
    patch, _, channels, width = kernel.shape
    count, rows, columns = images.shape[0], images.shape[1] // patch, images.shape[2] // patch
    # As patches do not overlap, the convolution is one matrix product.
    x = images.astype(self.dtype).reshape(count, rows, patch, columns, patch, channels)
    x = x.swapaxes(2, 3).reshape(count, rows * columns, -1)  # [N, G * G, P * P * 3]
    return x @ kernel.reshape(-1, width)  # [N, G * G, D]


class ImageTower(nnx.Module):
  """A vision transformer; the image's embedding is the projection of its class token.

  In some video models the frames of a clip attend to each other here; see `cross_frame`.
  """

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    width, depth, dtype = spec.image_width, spec.image_layers, compute.dtype
    init = nnx.initializers.normal(width**-0.5)
    self.conv1 = PatchEmbedding(spec.patch, width, dtype=dtype, rngs=rngs)
    self.class_embedding = nnx.Param(init(rngs.params(), (width,)))
    self.positional_embedding = nnx.Param(
      nnx.initializers.normal(_IMAGE_POSITION_STD)(rngs.params(), (1 + spec.num_patches, width))
    )
    # Prompts follow the patches and get no positional embedding.
    self.prompts = nnx.data(
      DeepPrompts(video.image_prompts, video.prompt_depth, width, 1 + spec.num_patches, rngs=rngs)
      if video.image_prompts
      else None
    )
    self.ln_pre = layers.LayerNorm(width, compute, rngs, spec.parts.epsilon)

    def block(number: int) -> layers.ResidualBlock:
      del number
      options: dict[str, Any] = dict(
        residual_std=layers.residual_std(width, depth),
        compute=compute,
        rngs=rngs,
        mlp_width=spec.image_mlp,
        parts=spec.parts,
      )
      if video.temporal in cross_frame.BLOCKS:
        block_class = cross_frame.BLOCKS[video.temporal]
        return block_class(width, spec.image_heads, num_frames=video.num_frames, **options)
      return layers.ResidualBlock(width, spec.image_heads, **options)

    self.transformer = layers.Transformer(depth, block, compute)
    self.ln_post = layers.LayerNorm(width, compute, rngs, spec.parts.epsilon)
    # X-CLIP's class embeddings attend to the patches.
    self.returns_patches = video.temporal == 'xclip'
    self.proj = nnx.Linear(
      width, spec.embed_dim, use_bias=False, kernel_init=init, dtype=dtype, rngs=rngs
    )

  def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Embeds images.

    Args:
      images: f32[N, resolution, resolution, 3], normalized. Where frames attend to each other, the
        T frames of a clip are consecutive.

    Returns:
      embeddings: f32[N, E], not of unit length.
      patches: [N, G * G, D], the patches' tokens after the last block; None in models whose class
        embeddings do not attend to them.
    """
    patches = self.conv1(images)  # [N, G * G, D]
    count, grid, width = patches.shape
    class_token = self.class_embedding[...].astype(patches.dtype)
    class_tokens = jnp.broadcast_to(class_token, (count, 1, width))
    x = jnp.concatenate([class_tokens, patches], axis=1)  # [N, 1 + G * G, D]
    x = x + self.positional_embedding[...].astype(x.dtype)
    if self.prompts:
      x = self.prompts.replace(x, self.prompts.inputs[...])  # [N, 1 + G * G + P, D]
    query_index = None if self.returns_patches else 0
    x = self.transformer(self.ln_pre(x), self.prompts, query_index)
    embeddings = self.proj(self.ln_post(x[:, 0])).astype(jnp.float32)  # [N, E]
    return embeddings, x[:, 1 : 1 + grid] if self.returns_patches else None


class TokenEmbedding(nnx.Embed):
  """A table of token embeddings, whose gradient is summed in f32."""

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Returns the embeddings [..., D] of `tokens: i32[...]`."""
    return _look_up(self.embedding[...].astype(self.dtype), tokens)


@jax.custom_vjp
def _look_up(table: jax.Array, tokens: jax.Array) -> jax.Array:
  return jnp.take(table, tokens, axis=0)  # NaN for a token that is not in the table.


def _look_up_forward(table, tokens):
  return _look_up(table, tokens), (jnp.zeros((len(table), 0), table.dtype), tokens)


def _look_up_backward(saved, gradient):
  """Adds up the gradients of each row; hundreds of class texts share words."""
  like, tokens = saved
  total = jnp.zeros((len(like), gradient.shape[-1]), jnp.float32)
  return total.at[tokens].add(gradient.astype(jnp.float32)).astype(like.dtype), None


_look_up.defvjp(_look_up_forward, _look_up_backward)


class TextTower(nnx.Module):
  """A causal transformer; the text's embedding is the projection of its end-of-text token."""

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    width, dtype = spec.text_width, compute.dtype
    normal = nnx.initializers.normal
    self.token_embedding = TokenEmbedding(
      spec.vocab_size, width, embedding_init=normal(_TOKEN_STD), dtype=dtype, rngs=rngs
    )
    self.positional_embedding = nnx.Param(normal(0.01)(rngs.params(), (spec.context_length, width)))
    # Prompts follow the start token and replace the placeholder tokens there.
    self.prompts = nnx.data(
      DeepPrompts(video.text_prompts, video.prompt_depth, width, 1, rngs=rngs)
      if video.text_prompts
      else None
    )
    self.transformer = layers.plain_transformer(
      width,
      spec.text_layers,
      spec.text_heads,
      compute=compute,
      rngs=rngs,
      causal=spec.parts.causal_text,
      mlp_width=spec.text_mlp,
      parts=spec.parts,
    )
    self.ln_final = layers.LayerNorm(width, compute, rngs, spec.parts.epsilon)
    self.text_projection = nnx.Linear(
      width, spec.embed_dim, use_bias=False, kernel_init=normal(width**-0.5), dtype=dtype, rngs=rngs
    )

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Embeds texts.

    Args:
      tokens: i32[C, L], where L is at most context_length. The end-of-text token has the largest
        id of its text. Tokens after it have no effect, since attention is causal.

    Returns:
      f32[C, E], not of unit length.
    """
    x = self.token_embedding(tokens)  # [C, L, D]
    if self.prompts:
      x = self.prompts.replace(x, self.prompts.inputs[...])
    x = x + self.positional_embedding[: tokens.shape[1]].astype(x.dtype)
    ends = jnp.argmax(tokens, axis=-1)  # [C]
    x = self.transformer(x, self.prompts, query_index=ends)[:, 0]  # [C, D]
    return self.text_projection(self.ln_final(x)).astype(jnp.float32)  # [C, E]
