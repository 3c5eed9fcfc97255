"""Turns class names into tokens, and tokens into the embeddings that videos are compared with."""

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

# The token id at the positions of learnable prompts. The model replaces it; any id but that of the
# end token would do.
_PROMPT_PLACEHOLDER = 1


@dataclasses.dataclass(frozen=True)
class ClassTexts:
  """Turns class texts into tokens under prompt templates.

  Attributes:
    tokenizer: maps texts to token ids.
    templates: P sentences, each with one '{}' for the class text.
    split_words: see `phrasing.render`.
    placeholders: see `phrasing.render`.
    num_prompts: number of positions after the start token that the model's prompts fill.
    full_context: whether the text tower also reads what follows the end of a text, so that all of
      its context is kept.
    classes_field: what errors call the setting that the class texts come from.
    templates_field: what errors call the setting that the templates come from.
  """

  tokenizer: Tokenizer
  templates: tuple[str, ...]
  split_words: bool
  placeholders: str
  num_prompts: int = 0
  full_context: bool = False
  classes_field: str = 'classes'
  templates_field: str = 'templates'

  @classmethod
  def from_config(cls, config: ConfigDict, model: VideoModel) -> 'ClassTexts':
    """Makes what `config.text` describes, for a model's vocabulary size and context length."""
    num_prompts = model.video.text_prompts
    tokenizer = make_tokenizer(
      config.text.tokenizer,
      model.spec.vocab_size,
      model.spec.context_length - num_prompts,
      'config.text.tokenizer',
      model.spec.parts,
    )
    return cls(
      tokenizer,
      tuple(config.text.templates),
      config.text.split_words,
      config.text.placeholders,
      num_prompts,
      full_context=model.spec.parts.reads_padding,
      classes_field='config.text',
      templates_field='config.text.templates',
    )

  def tokens(self, texts: Sequence[str], multiple: int) -> np.ndarray:
    """Tokenizes all classes in all templates.

    Args:
      texts: C class texts, see `data.subset.Subset`.
      multiple: texts of zeros are appended until their number C' is a multiple of this, so that
        devices can split them.

    Returns:
      i32[P, C', L], where L is the length of the longest prompt, or with `full_context` that of
      the context. In a causal text tower, tokens after a prompt's end have no effect.

    Raises:
      UserError: if two classes have the same text, or a prompt does not fit into the context.
    """
    names = render(texts, self.split_words, self.placeholders, self.classes_field)
    prompts = fill_templates(names, self.templates, self.templates_field)  # [P][C]
    tokens = np.stack([self.tokenizer(row) for row in prompts])  # [P, C, L - num_prompts]
    if not self.full_context:
      # Texts are padded with zeros.
      tokens = tokens[..., : 1 + np.flatnonzero(tokens.any(axis=(0, 1))).max(initial=0)]
    placeholders = [1] * self.num_prompts  # Each is inserted after the start token.
    tokens = np.insert(tokens, placeholders, _PROMPT_PLACEHOLDER, axis=-1)  # [P, C, L]
    return np.pad(tokens, ((0, 0), (0, -len(names) % multiple), (0, 0)))


def encode_classes(model: VideoModel, params: dict, tokens: jax.Array, mesh: Mesh) -> jax.Array:
  """Encodes class texts, with the classes split over the devices.

  Args:
    model: the model.
    params: its parameters.
    tokens: i32[P, C', L] from `ClassTexts.tokens`.
    mesh: the classes are split over its batch axes.

  Returns:
    f32[P, C', E], see `VideoModel.encode_text`, replicated on all devices.
  """
  # The embedding table is gathered before it is used. In a table that stays split, XLA would look
  # up the tokens of all devices in every part and then exchange activations.
  embedding = params['text']['token_embedding']['embedding']
  embedding = jax.lax.with_sharding_constraint(embedding, sharding.replicated(mesh))
  text = params['text'] | {'token_embedding': {'embedding': embedding}}
  params = params | {'text': text}

  def encode(tokens: jax.Array) -> jax.Array:
    tokens = jax.lax.with_sharding_constraint(tokens, sharding.batch_sharding(mesh))
    embeddings = model.encode_text(params, tokens)
    return jax.lax.with_sharding_constraint(embeddings, sharding.replicated(mesh))

  return jax.lax.map(encode, tokens)
