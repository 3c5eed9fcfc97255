"""Class texts: from a vocabulary to the embeddings that video embeddings are compared with."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime import sharding
from zsar_jax.text.phrasing import render
from zsar_jax.text.templates import fill_templates
from zsar_jax.text.tokenizers import Tokenizer, make_tokenizer

# The token in the place of a learnable prompt; what it is does not matter.
_HELD = 1


@dataclasses.dataclass(frozen=True)
class ClassTexts:
  """Turns class texts into tokens under prompt templates.

  Attributes:
    tokenizer: from texts to token ids.
    templates: each with one '{}' for the class text.
    split_words: see `names.render`.
    placeholders: see `names.render`.
    num_prompts: number of positions after the start token that the model's prompts fill.
    templates_field: the setting with the templates, for errors.
  """

  tokenizer: Tokenizer
  templates: tuple[str, ...]
  split_words: bool
  placeholders: str
  num_prompts: int = 0
  templates_field: str = 'config.text.templates'

  @classmethod
  def from_config(cls, config: ConfigDict, model: VideoModel) -> 'ClassTexts':
    """As `config.text` says, for a model's vocabulary size and context length."""
    num_prompts = model.video.text_prompts
    tokenizer = make_tokenizer(
      config.text.tokenizer, model.spec.vocab_size, model.spec.context_length - num_prompts
    )
    return cls(
      tokenizer,
      tuple(config.text.templates),
      config.text.split_words,
      config.text.placeholders,
      num_prompts,
    )

  def tokens(self, texts: Sequence[str], multiple: int) -> np.ndarray:
    """Tokens of all classes under all templates.

    Args:
      texts: C class texts, see `data.subset.Subset`.
      multiple: empty texts are added until it divides the number of texts, so that devices
        can share them.

    Returns:
      i32[P, C', L] for P templates, L the tokens of the longest prompt: the text tower is
      causal, so those after a prompt's end would change nothing.

    Raises:
      UserError: two classes read the same, or a prompt does not fit into the context.
    """
    names = render(texts, self.split_words, self.placeholders)
    prompts = fill_templates(names, self.templates, self.templates_field)
    tokens = np.stack([self.tokenizer(one) for one in prompts])  # [P, C, L - num_prompts]
    tokens = tokens[..., : tokens.argmax(-1).max() + 1]  # The end has the largest id.
    # Any token but the end holds a prompt's place.
    tokens = np.insert(tokens, [1] * self.num_prompts, _HELD, axis=-1)  # [P, C, L]
    return np.pad(tokens, ((0, 0), (0, -len(names) % multiple), (0, 0)))


def encode_classes(model: VideoModel, params: dict, tokens: jax.Array, mesh: Mesh) -> jax.Array:
  """Text embeddings, with the classes shared out over the devices.

  Args:
    model: the model.
    params: its parameters.
    tokens: i32[P, C', L] from `ClassTexts.tokens`.
    mesh: over whose batch axes the classes are split.

  Returns:
    f32[P, C', E], see `VideoModel.encode_text`, a whole copy on every device.
  """
  # The table is gathered like any other parameter. Of one that is split, XLA would look up
  # everybody's tokens in each part, and send activations about.
  embedding = params['text']['token_embedding']['embedding']
  embedding = jax.lax.with_sharding_constraint(embedding, sharding.replicated(mesh))
  text = params['text'] | {'token_embedding': {'embedding': embedding}}
  params = params | {'text': text}

  def encode(tokens: jax.Array) -> jax.Array:
    tokens = jax.lax.with_sharding_constraint(tokens, sharding.batch_sharding(mesh))
    embeddings = model.encode_text(params, tokens)
    return jax.lax.with_sharding_constraint(embeddings, sharding.replicated(mesh))

  return jax.lax.map(encode, tokens)
