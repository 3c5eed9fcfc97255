"""The parts in which families of image-text models differ from OpenAI's CLIP.

A family is a row of `ARCHITECTURES`, the dimensions of its models are `presets.TowerSpec`s, and its
weights are read by a key table in `weights/formats/`.
"""

import dataclasses
import types

from zsar_jax.errors import UserError

ACTIVATIONS = ('quick_gelu', 'gelu', 'gelu_tanh')


@dataclasses.dataclass(frozen=True)
class Architecture:
  """How the towers of a family are computed. The defaults are OpenAI's CLIP (arXiv 2103.00020).

  Attributes:
    activation: between the two layers of an MLP, one of `ACTIVATIONS`.
    epsilon: is added to the variance in every layer norm.
    class_token: whether the image tower has a class token before its patches.
    patch_bias: whether the patch embedding has a bias.
    pre_norm: whether a layer norm precedes the blocks of the image tower.
    image_pool: what becomes the image's embedding: the 'class' token, or what a learned query
      attends to among the tokens ('attention').
    image_projection: the last layer of the image tower: 'linear', 'affine' (with a bias), or
      'none'.
    causal_text: whether a token of a text attends only to itself and to earlier tokens.
    text_pool: which token becomes the text's embedding: the 'end' of the text or the 'last' one of
      the context, where texts are padded.
    text_projection_bias: whether the last layer of the text tower has a bias.
    logit_bias: whether the model has a parameter that is added to its logits.
  """

  activation: str = 'quick_gelu'
  epsilon: float = 1e-5
  class_token: bool = True
  patch_bias: bool = False
  pre_norm: bool = True
  image_pool: str = 'class'
  image_projection: str = 'linear'
  causal_text: bool = True
  text_pool: str = 'end'
  text_projection_bias: bool = False
  logit_bias: bool = False


CLIP = Architecture()

ARCHITECTURES = types.MappingProxyType(
  {
    'clip': CLIP,
    # open_clip's CLIPs that were not trained with quick GELU.
    'clip_gelu': Architecture(activation='gelu'),
  }
)


def get_architecture(name: str) -> Architecture:
  """Returns a row of `ARCHITECTURES`.

  Raises:
    UserError: if there is no such row.
  """
  if name not in ARCHITECTURES:
    raise UserError(f'architecture: {name!r} is none of {", ".join(ARCHITECTURES)}')
  return ARCHITECTURES[name]
