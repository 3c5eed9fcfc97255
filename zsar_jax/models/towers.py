"""The image and the text tower of CLIP (Radford et al., arXiv 2103.00020) and of its relatives.

`architectures.Architecture` describes how a family differs from OpenAI's CLIP.

Letters in shapes: N images, G = resolution / patch, P patch, C texts, L tokens, D width,
E embedding.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from zsar_jax.models import cross_frame, eva02, layers
from zsar_jax.models.compute import Compute
from zsar_jax.models.learned_prompts import DeepPrompts
from zsar_jax.models.pooling import AttentionPool
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.models.rotary import Rotary

# Initial standard deviations for training from scratch. OpenAI's are 0.02 for tokens and
# width**-0.5 for image positions, while patch embeddings have about 0.5. With larger values,
# positions and tokens stand out from the start, so that a model trained on few clips learns sooner
# where a limb is and how class texts differ.
_IMAGE_POSITION_STD = 0.5
_TOKEN_STD = 0.2


class PatchEmbedding(nnx.Module):
  """The convolution that turns each patch into a token; its stride is its kernel size."""

  def __init__(
    self, patch: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs, use_bias: bool = False
  ):
    # PyTorch's default for convolutions: uniform, with variance 1 / (3 * fan_in).
    init = nnx.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
    self.kernel = nnx.Param(init(rngs.params(), (patch, patch, 3, width), jnp.float32))
    self.bias = nnx.data(nnx.Param(jnp.zeros((width,))) if use_bias else None)
    self.dtype = dtype

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps `images: [N, G * P, G * P, 3]` to tokens [N, G * G, D], row by row."""
    kernel = self.kernel[...].astype(self.dtype)  # [P, P, 3, D]
    patch, _, channels, width = kernel.shape
    count, rows, columns = images.shape[0], images.shape[1] // patch, images.shape[2] // patch
    # As patches do not overlap, the convolution is one matrix product.
    x = images.astype(self.dtype).reshape(count, rows, patch, columns, patch, channels)
    x = x.swapaxes(2, 3).reshape(count, rows * columns, -1)  # [N, G * G, P * P * 3]
    x = x @ kernel.reshape(-1, width)  # [N, G * G, D]
    return x if self.bias is None else x + self.bias[...].astype(self.dtype)


# The residual blocks of `Architecture.image_block`.
_BLOCKS = {'clip': layers.ResidualBlock, 'eva02': eva02.Eva02Block}


class ImageTower(nnx.Module):
  """A vision transformer; in CLIP, the image's embedding is the projection of its class token.

  In some video models the frames of a clip attend to each other here; see `cross_frame`.
  """

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    width, depth, dtype = spec.image_width, spec.image_layers, compute.dtype
    parts, tokens = spec.parts, spec.num_image_tokens
    is_joint = video.temporal == 'joint'
    init = nnx.initializers.normal(width**-0.5)
    self.conv1 = PatchEmbedding(
      spec.patch, width, dtype=dtype, rngs=rngs, use_bias=parts.patch_bias
    )
    self.class_embedding = nnx.data(
      nnx.Param(init(rngs.params(), (width,))) if parts.class_token else None
    )
    self.positional_embedding = nnx.Param(
      nnx.initializers.normal(_IMAGE_POSITION_STD)(rngs.params(), (tokens, width))
    )
    # At first zero, as in ViCLIP, so that a CLIP does not see it.
    self.temporal_embedding = nnx.data(
      nnx.Param(jnp.zeros((video.num_frames, width))) if is_joint else None
    )
    if is_joint:
      tokens += (video.num_frames - 1) * spec.num_patches
    # Prompts follow the patches and get no positional embedding.
    self.prompts = nnx.data(
      DeepPrompts(video.image_prompts, video.prompt_depth, width, tokens, rngs=rngs)
      if video.image_prompts
      else None
    )
    self.ln_pre = nnx.data(
      layers.LayerNorm(width, compute, rngs, parts.epsilon) if parts.pre_norm else None
    )

    grid = spec.resolution // spec.patch
    rotary = Rotary(parts.rotary, grid, parts.class_token) if parts.rotary else None

    def block(number: int) -> layers.ResidualBlock:
      del number
      options: dict[str, Any] = dict(
        residual_std=layers.residual_std(width, depth),
        compute=compute,
        rngs=rngs,
        mlp_width=spec.image_mlp,
        parts=parts,
        rotary=rotary,
      )
      if video.temporal in cross_frame.BLOCKS:
        block_class = cross_frame.BLOCKS[video.temporal]
        return block_class(width, spec.image_heads, num_frames=video.num_frames, **options)
      return _BLOCKS[parts.image_block](width, spec.image_heads, **options)

    self.transformer = layers.Transformer(depth, block, compute)
    self.ln_post = layers.LayerNorm(width, compute, rngs, parts.epsilon)
    # X-CLIP's class embeddings attend to the patches.
    self.returns_patches = video.temporal == 'xclip'
    self.attn_pool = nnx.data(
      AttentionPool(
        width,
        parts.pool_heads or spec.image_heads,
        compute=compute,
        rngs=rngs,
        mlp_width=spec.pool_mlp_width,
        parts=parts,
      )
      if parts.image_pool == 'attention'
      else None
    )
    self.proj = nnx.data(
      None
      if parts.image_projection == 'none'
      else nnx.Linear(
        width,
        spec.embed_dim,
        use_bias=parts.image_projection == 'affine',
        kernel_init=init,
        dtype=dtype,
        rngs=rngs,
      )
    )

  def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Embeds images.

    Args:
      images: f32[N, resolution, resolution, 3], normalized. Where frames attend to each other, the
        T frames of a clip are consecutive. With 'joint' attention each clip becomes one sequence,
        as long as T images, and N in what follows is the number of clips.

    Returns:
      embeddings: f32[N, E], not of unit length.
      patches: [N, G * G, D], the patches' tokens after the last block; None in models whose class
        embeddings do not attend to them.
    """
    x = self.conv1(images)  # [N, G * G, D]
    count, grid, width = x.shape
    first = 0 if self.class_embedding is None else 1  # The index of the first patch.
    if self.class_embedding is not None:
      class_token = self.class_embedding[...].astype(x.dtype)
      class_tokens = jnp.broadcast_to(class_token, (count, 1, width))
      x = jnp.concatenate([class_tokens, x], axis=1)  # [N, 1 + G * G, D]
    x = x + self.positional_embedding[...].astype(x.dtype)
    if self.temporal_embedding is not None:
      x = cross_frame.join_frames(x, self.temporal_embedding[...], first)
      grid = x.shape[1] - first
    if self.prompts:
      x = self.prompts.replace(x, self.prompts.inputs[...])  # [N, first + G * G + P, D]
    if self.ln_pre:
      x = self.ln_pre(x)
    # Only the class token of the last block is used, if nothing else reads the others.
    query_index = None if self.attn_pool or self.returns_patches else 0
    x = self.transformer(x, self.prompts, query_index)
    pooled = self.attn_pool(self.ln_post(x)) if self.attn_pool else self.ln_post(x[:, 0])
    embeddings = (self.proj(pooled) if self.proj else pooled).astype(jnp.float32)  # [N, E]
    return embeddings, x[:, first : first + grid] if self.returns_patches else None


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
  """A transformer; in CLIP, the text's embedding is the projection of its end-of-text token."""

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    width, dtype, parts = spec.text_width, compute.dtype, spec.parts.text_parts
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
      causal=parts.causal_text,
      mlp_width=spec.text_mlp,
      parts=parts,
    )
    self.ln_final = layers.LayerNorm(width, compute, rngs, parts.epsilon)
    self.pool = parts.text_pool
    self.text_projection = nnx.Linear(
      width,
      spec.embed_dim,
      use_bias=parts.text_projection_bias,
      kernel_init=normal(width**-0.5),
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Embeds texts.

    Args:
      tokens: i32[C, L]. With `text_pool` 'end', L is at most context_length, and the end-of-text
        token has the largest id of its text; if attention is causal, tokens after it have no
        effect. With 'last', L is context_length.

    Returns:
      f32[C, E], not of unit length.
    """
    x = self.token_embedding(tokens)  # [C, L, D]
    if self.prompts:
      x = self.prompts.replace(x, self.prompts.inputs[...])
    x = x + self.positional_embedding[: tokens.shape[1]].astype(x.dtype)
    # The ends of the texts, [C], or the last position of all of them.
    end = jnp.argmax(tokens, axis=-1) if self.pool == 'end' else tokens.shape[1] - 1
    x = self.transformer(x, self.prompts, query_index=end)[:, 0]  # [C, D]
    return self.text_projection(self.ln_final(x)).astype(jnp.float32)  # [C, E]
