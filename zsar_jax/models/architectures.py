"""The parts in which families of image-text models differ from OpenAI's CLIP.

A family is a row of `ARCHITECTURES`, the dimensions of its models are `presets.TowerSpec`s, and its
weights are read by a key table in `weights/formats/`.
"""

import dataclasses
import types

from zsar_jax.errors import UserError

ACTIVATIONS = ('quick_gelu', 'gelu', 'gelu_tanh', 'relu')


@dataclasses.dataclass(frozen=True)
class Architecture:
  """How the towers of a family are computed. The defaults are OpenAI's CLIP (arXiv 2103.00020).

  Attributes:
    activation: between the two layers of an MLP, one of `ACTIVATIONS`.
    epsilon: is added to the variance in every layer norm.
    text_epsilon: the same in the text tower, if it differs there; 0 if not.
    class_token: whether the image tower has a class token before its patches.
    patch_bias: whether the patch embedding has a bias.
    pre_norm: whether a layer norm precedes the blocks of the image tower.
    image_block: the residual blocks of the image tower: those of 'clip', or those of 'eva02', which
      have an activation of their own (see `eva02`).
    rotary: the rotary positions of image patches, one of `rotary.KINDS`; '' for none.
    image_pool: what becomes the image's embedding: the 'class' token, or what a learned query
      attends to among all tokens ('attention', see `pooling`).
    pool_heads: the number of heads of that attention; 0 for that of the image tower.
    pool_mlp_ratio: the hidden width of the MLP after it, as a multiple of the tower's width; 0 for
      the hidden width of the blocks' MLPs.
    image_projection: the last layer of the image tower: 'linear', 'affine' (with a bias), or
      'none'.
    texts: how texts become token ids: as in 'clip', between a start and an end token; as in
      'siglip', without punctuation and with an end token only; or as in 'videoprism', without
      punctuation inside and without both tokens.
    causal_text: whether a token of a text attends only to itself and to earlier tokens.
    text_pool: which token becomes the text's embedding: the 'end' of the text or the 'last' one of
      the context, where texts are padded.
    text_projection_bias: whether the last layer of the text tower has a bias.
    logit_bias: whether the model has a parameter that is added to its logits.
    logit_cap: the bound of the logits of attention, see `attention.attend`; 0 for none.
    temporal: the only temporal model of a family of video encoders; '' for encoders of images.
    grid_interpolation: how the positional embeddings of patches are resized, see
      `position_embeddings.resize_grid`.
  """

  activation: str = 'quick_gelu'
  epsilon: float = 1e-5
  text_epsilon: float = 0.0
  class_token: bool = True
  patch_bias: bool = False
  pre_norm: bool = True
  image_block: str = 'clip'
  rotary: str = ''
  image_pool: str = 'class'
  pool_heads: int = 0
  pool_mlp_ratio: int = 0
  image_projection: str = 'linear'
  texts: str = 'clip'
  causal_text: bool = True
  text_pool: str = 'end'
  text_projection_bias: bool = False
  logit_bias: bool = False
  logit_cap: float = 0.0
  temporal: str = ''
  grid_interpolation: str = 'cubic'

  @property
  def reads_padding(self) -> bool:
    """Whether a text's embedding depends on what follows the text in its context."""
    return not self.causal_text or self.text_pool == 'last'

  @property
  def text_parts(self) -> 'Architecture':
    """How the blocks of the text tower are computed."""
    return dataclasses.replace(self, epsilon=self.text_epsilon or self.epsilon)


CLIP = Architecture()
# Perception Encoder (arXiv 2504.13181). The largest model, G, has no class token.
_PE_CORE = Architecture(
  activation='gelu',
  rotary='pe',
  image_pool='attention',
  pool_heads=8,
  pool_mlp_ratio=4,
  # The authors' models have no bias here; timm's and open_clip's have.
  image_projection='affine',
  grid_interpolation='linear_no_antialias',
)

ARCHITECTURES = types.MappingProxyType(
  {
    'clip': CLIP,
    # open_clip's CLIPs that were not trained with quick GELU.
    'clip_gelu': Architecture(activation='gelu'),
    'pe_core': _PE_CORE,
    'pe_core_g': dataclasses.replace(_PE_CORE, class_token=False),
    # EVA-CLIP (arXiv 2303.15389) with towers of EVA-02, as in timm and open_clip.
    'eva02': Architecture(
      activation='gelu',
      epsilon=1e-6,
      text_epsilon=1e-5,
      patch_bias=True,
      pre_norm=False,
      image_block='eva02',
      rotary='eva02',
      image_projection='affine',
    ),
    # SigLIP (arXiv 2303.15343) and SigLIP 2 (arXiv 2502.14786) of a fixed resolution. All were
    # trained in big_vision, where GELU is the tanh approximation; timm's and open_clip's models of
    # these weights compute the exact GELU in some towers, and slightly other numbers.
    'siglip': Architecture(
      activation='gelu_tanh',
      epsilon=1e-6,
      class_token=False,
      patch_bias=True,
      pre_norm=False,
      image_pool='attention',
      image_projection='none',
      texts='siglip',
      causal_text=False,
      text_pool='last',
      text_projection_bias=True,
      logit_bias=True,
    ),
    # VideoPrism-LvT, see `videoprism`. The MLPs of its text tower have ReLU.
    'videoprism': Architecture(
      activation='gelu',
      epsilon=1e-6,
      class_token=False,
      patch_bias=True,
      pre_norm=False,
      image_pool='attention',
      image_projection='none',
      texts='videoprism',
      logit_cap=50.0,
      temporal='videoprism',
      grid_interpolation='linear',
    ),
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
