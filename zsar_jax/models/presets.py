"""Dimensions of published models, and of a tiny one for a laptop's CPU."""

import dataclasses
import types
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.models.architectures import Architecture, get_architecture

# Mean and standard deviation that RGB frames in [0, 1] are normalized with: those of OpenAI's CLIP;
# those of ImageNet, with which ViFi-CLIP and X-CLIP were trained; 0.5, which maps pixels to [-1, 1]
# (SigLIP, PE-Core); and none (VideoPrism).
NORMALIZATIONS = types.MappingProxyType(
  {
    'clip': ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    'half': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    'none': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
  }
)


@dataclasses.dataclass(frozen=True)
class TowerSpec:
  """Dimensions of the image and the text tower of CLIP, or of a model of another architecture.

  Attributes:
    embed_dim: width of the space that images and texts share.
    resolution: side of the square input image, in pixels.
    patch: side of a square patch, in pixels.
    image_width: width of the image transformer.
    image_layers: number of its residual blocks.
    image_heads: number of its attention heads.
    text_width: width of the text transformer.
    text_layers: number of its residual blocks.
    text_heads: number of its attention heads.
    context_length: number of tokens in a text, start and end tokens and padding included.
    vocab_size: number of token ids.
    normalization: normalization of the frames that the model was trained on, one of
      `NORMALIZATIONS`.
    architecture: a name from `architectures.ARCHITECTURES`.
    image_mlp: hidden width of the MLPs of the image transformer; 0 for 4 times its width.
    text_mlp: hidden width of the MLPs of the text transformer; 0 for 4 times its width.

  Raises:
    UserError: if a width is not a multiple of its number of heads, or the image size of the patch
      size, or the normalization or the architecture is unknown, or images that are not projected
      have another width than texts.
  """

  embed_dim: int
  resolution: int
  patch: int
  image_width: int
  image_layers: int
  image_heads: int
  text_width: int
  text_layers: int
  text_heads: int
  context_length: int = 77
  vocab_size: int = 49408
  normalization: str = 'clip'
  architecture: str = 'clip'
  image_mlp: int = 0
  text_mlp: int = 0

  def __post_init__(self):
    get_architecture(self.architecture)
    if self.normalization not in NORMALIZATIONS:
      raise UserError(
        f'normalization: {self.normalization!r} is none of {", ".join(NORMALIZATIONS)}'
      )
    for name, value, divisor_name, divisor in (
      ('image size', self.resolution, 'patch size', self.patch),
      ('image width', self.image_width, 'number of image heads', self.image_heads),
      ('text width', self.text_width, 'number of text heads', self.text_heads),
    ):
      if value % divisor:
        raise UserError(f'the {name} {value} is not a multiple of the {divisor_name} {divisor}')
    if self.parts.image_projection == 'none' and self.image_width != self.embed_dim:
      raise UserError(
        f'the image width {self.image_width} is not the width {self.embed_dim} of the embeddings,'
        f' which the architecture {self.architecture} does not project'
      )

  @property
  def parts(self) -> Architecture:
    """How the towers are computed."""
    return get_architecture(self.architecture)

  @property
  def image_mlp_width(self) -> int:
    """The hidden width of the MLPs of the image transformer."""
    return self.image_mlp or 4 * self.image_width

  @property
  def text_mlp_width(self) -> int:
    """The hidden width of the MLPs of the text transformer."""
    return self.text_mlp or 4 * self.text_width

  @property
  def num_patches(self) -> int:
    """The number of patches in one image, without the class token."""
    return (self.resolution // self.patch) ** 2

  @property
  def num_image_tokens(self) -> int:
    """The number of tokens of one image: its class token, if there is one, and its patches."""
    return int(self.parts.class_token) + self.num_patches


TEMPORAL_MODELS = ('mean', 'transformer', 'window', 'xclip')


@dataclasses.dataclass(frozen=True)
class VideoSpec:
  """What turns CLIP's towers into a video model.

  Attributes:
    num_frames: T, the number of frames in a clip.
    temporal: how the frames of a clip are combined, one of `TEMPORAL_MODELS`: 'mean' of their
      embeddings (ViFi-CLIP), a 'transformer' over their embeddings (ActionCLIP), attention to
      neighboring frames in a 'window' (Open-VCLIP), or 'xclip' (X-CLIP).
    temporal_layers: number of residual blocks of the transformer over frames; only 'transformer'
      and 'xclip' have one.
    image_prompts: number of learnable tokens in the image tower.
    text_prompts: number of learnable tokens in the text tower.
    prompt_depth: number of blocks that get prompts of their own.
    residual_distillation: whether the model has the networks of `distillation`.

  Raises:
    UserError: if `temporal` is unknown.
  """

  num_frames: int
  temporal: str = 'mean'
  temporal_layers: int = 6
  image_prompts: int = 0
  text_prompts: int = 0
  prompt_depth: int = 1
  residual_distillation: bool = False

  def __post_init__(self):
    if self.temporal not in TEMPORAL_MODELS:
      raise UserError(f'temporal: {self.temporal!r} is none of {", ".join(TEMPORAL_MODELS)}')


_VIT_B16 = TowerSpec(
  embed_dim=512,
  resolution=224,
  patch=16,
  image_width=768,
  image_layers=12,
  image_heads=12,
  text_width=512,
  text_layers=12,
  text_heads=8,
)
_VIT_L14 = TowerSpec(
  embed_dim=768,
  resolution=224,
  patch=14,
  image_width=1024,
  image_layers=24,
  image_heads=16,
  text_width=768,
  text_layers=12,
  text_heads=12,
)

# SigLIP 2 has the towers of SigLIP (big_vision, configs/proj/image_text), and Gemma's vocabulary.
_SIGLIP_B16 = TowerSpec(
  embed_dim=768,
  resolution=224,
  patch=16,
  image_width=768,
  image_layers=12,
  image_heads=12,
  text_width=768,
  text_layers=12,
  text_heads=12,
  context_length=64,
  vocab_size=32000,
  normalization='half',
  architecture='siglip',
)
_SIGLIP_L16 = dataclasses.replace(
  _SIGLIP_B16,
  embed_dim=1024,
  resolution=256,
  image_width=1024,
  image_layers=24,
  image_heads=16,
  text_width=1024,
  text_layers=24,
  text_heads=16,
)
# Of 384 pixels, the last 6 rows and columns would be no patch.
_SIGLIP_SO400M_14 = dataclasses.replace(
  _SIGLIP_B16,
  embed_dim=1152,
  resolution=378,
  patch=14,
  image_width=1152,
  image_layers=27,
  image_heads=16,
  image_mlp=4304,
  text_width=1152,
  text_layers=27,
  text_heads=16,
  text_mlp=4304,
)
_SIGLIP2: dict[str, Any] = {'vocab_size': 256000}

# Published models: arXiv 2103.00020, tables 19 and 20; arXiv 2303.15343; arXiv 2502.14786, table 1.
# `config.view.size` replaces the resolution.
PRESETS = types.MappingProxyType(
  {
    'tiny': TowerSpec(
      embed_dim=64,
      resolution=48,
      patch=8,
      image_width=96,
      image_layers=3,
      image_heads=3,
      text_width=64,
      text_layers=2,
      text_heads=2,
      context_length=32,
      vocab_size=4096,
    ),
    'vit_b32': dataclasses.replace(_VIT_B16, patch=32),
    'vit_b16': _VIT_B16,
    'vit_l14': _VIT_L14,
    'vit_l14_336': dataclasses.replace(_VIT_L14, resolution=336),
    'siglip_b16': _SIGLIP_B16,
    'siglip_l16': _SIGLIP_L16,
    'siglip_so400m_14': _SIGLIP_SO400M_14,
    'siglip_so400m_14_224': dataclasses.replace(
      _SIGLIP_SO400M_14, resolution=224, context_length=16
    ),
    'siglip2_b16': dataclasses.replace(_SIGLIP_B16, **_SIGLIP2),
    'siglip2_b32': dataclasses.replace(_SIGLIP_B16, patch=32, resolution=256, **_SIGLIP2),
    'siglip2_l16': dataclasses.replace(_SIGLIP_L16, **_SIGLIP2),
    'siglip2_so400m_14': dataclasses.replace(_SIGLIP_SO400M_14, **_SIGLIP2),
    'siglip2_so400m_16': dataclasses.replace(
      _SIGLIP_SO400M_14, patch=16, resolution=256, **_SIGLIP2
    ),
    # The text tower is that of So400m.
    'siglip2_g16': dataclasses.replace(
      _SIGLIP_SO400M_14,
      embed_dim=1536,
      patch=16,
      resolution=256,
      image_width=1536,
      image_layers=40,
      image_mlp=6144,
      **_SIGLIP2,
    ),
  }
)


def preset(name: str, **overrides: Any) -> TowerSpec:
  """Returns the preset `name` with the fields in `overrides` replaced.

  Raises:
    UserError: if the preset or a field is unknown.
  """
  if name not in PRESETS:
    raise UserError(f'preset: {name!r} is none of {", ".join(PRESETS)}')
  unknown = overrides.keys() - {field.name for field in dataclasses.fields(TowerSpec)}
  if unknown:
    raise UserError(f'a model preset has no field {", ".join(sorted(unknown))}')
  return dataclasses.replace(PRESETS[name], **overrides)
