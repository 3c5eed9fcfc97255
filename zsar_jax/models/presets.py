"""Dimensions of published models, and of a tiny one for a laptop's CPU."""

import dataclasses
import types
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.models.architectures import Architecture, get_architecture
from zsar_jax.models.siglip_sizes import SIGLIP_SIZES

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
    time_layers: number of residual blocks that attend among the frames of a patch; only VideoPrism
      has them.
    auxiliary_layers: number of residual blocks that follow them and attend among all tokens of a
      clip; only VideoPrism has them.

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
  time_layers: int = 0
  auxiliary_layers: int = 0

  def __post_init__(self):
    get_architecture(self.architecture)
    if self.normalization not in NORMALIZATIONS:
      raise UserError(
        f'normalization: {self.normalization!r} is none of {", ".join(NORMALIZATIONS)}'
      )
    for name, value, divisor_name, divisor in (
      ('image size', self.resolution, 'patch size', self.patch),
      ('image width', self.image_width, 'number of image heads', self.image_heads),
      ('image width', self.image_width, 'number of pooling heads', self.parts.pool_heads or 1),
      # Pairs of elements for each of two axes.
      (
        'width of an image head',
        self.image_width // self.image_heads,
        'rotary width',
        4 if self.parts.rotary else 1,
      ),
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
  def pool_mlp_width(self) -> int:
    """The hidden width of the MLP after attention pooling."""
    return self.parts.pool_mlp_ratio * self.image_width or self.image_mlp_width

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


# Temporal models whose head sees the order of the frames' embeddings.
ORDERED_HEADS = ('transformer', 'xclip')

TEMPORAL_MODELS = ('mean', 'transformer', 'window', 'xclip', 'joint', 'videoprism')

# Those in which the image tower turns the frames of a clip into one embedding.
CLIP_ENCODERS = ('joint', 'videoprism')


@dataclasses.dataclass(frozen=True)
class VideoSpec:
  """What turns CLIP's towers into a video model.

  Attributes:
    num_frames: T, the number of frames in a clip.
    temporal: how the frames of a clip are combined, one of `TEMPORAL_MODELS`: 'mean' of their
      embeddings (ViFi-CLIP), a 'transformer' over their embeddings (ActionCLIP), attention to
      neighboring frames in a 'window' (Open-VCLIP), 'xclip' (X-CLIP), 'joint' attention among all
      patches of the clip (ViCLIP), or 'videoprism' (VideoPrism).
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
_VIT_H14 = TowerSpec(
  embed_dim=1024,
  resolution=224,
  patch=14,
  image_width=1280,
  image_layers=32,
  image_heads=16,
  text_width=1024,
  text_layers=24,
  text_heads=16,
)
_VIT_BIGG14 = TowerSpec(
  embed_dim=1280,
  resolution=224,
  patch=14,
  image_width=1664,
  image_layers=48,
  image_heads=16,
  text_width=1280,
  text_layers=32,
  text_heads=20,
  image_mlp=8192,
)

_EVA02_L14 = dataclasses.replace(_VIT_L14, architecture='eva02', image_mlp=2730)
_PE_CORE_L14_336 = TowerSpec(
  embed_dim=1024,
  resolution=336,
  patch=14,
  image_width=1024,
  image_layers=24,
  image_heads=16,
  text_width=1024,
  text_layers=24,
  text_heads=16,
  context_length=32,
  normalization='half',
  architecture='pe_core',
)
_PE_CORE_S16_384 = TowerSpec(
  embed_dim=512,
  resolution=384,
  patch=16,
  image_width=384,
  image_layers=12,
  image_heads=6,
  text_width=512,
  text_layers=12,
  text_heads=8,
  context_length=32,
  normalization='half',
  architecture='pe_core',
)
_VIDEOPRISM_B = TowerSpec(
  embed_dim=768,
  resolution=288,
  patch=18,
  image_width=768,
  image_layers=12,
  image_heads=12,
  text_width=768,
  text_layers=12,
  text_heads=12,
  context_length=64,
  vocab_size=32_000,
  normalization='none',
  architecture='videoprism',
  time_layers=4,
  auxiliary_layers=2,
)


def _with_gelu(spec: TowerSpec) -> TowerSpec:
  return dataclasses.replace(spec, architecture='clip_gelu')


# Published models: CLIP in arXiv 2103.00020, tables 19 and 20, and those of its reproductions, some
# of which have GELU, in open_clip's `model_configs`; ViCLIP, a CLIP whose texts have 32 tokens, in
# arXiv 2307.06942; VideoPrism-LvT in arXiv 2402.13217 (`videoprism.models.CONFIGS`); PE-Core in
# arXiv 2504.13181 (`core/vision_encoder/config.py` of its code); EVA-CLIP in arXiv 2303.15389 and
# open_clip's configs.
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
    'vit_h14': _VIT_H14,
    'vit_bigg14': _VIT_BIGG14,
    'vit_b32_gelu': _with_gelu(dataclasses.replace(_VIT_B16, patch=32)),
    'vit_b16_gelu': _with_gelu(_VIT_B16),
    'vit_l14_gelu': _with_gelu(_VIT_L14),
    'vit_h14_gelu': _with_gelu(_VIT_H14),
    'vit_g14_gelu': _with_gelu(
      dataclasses.replace(_VIT_H14, image_width=1408, image_layers=40, image_mlp=6144)
    ),
    'vit_bigg14_gelu': _with_gelu(_VIT_BIGG14),
    **{name: TowerSpec(**fields) for name, fields in SIGLIP_SIZES.items()},
    'pe_core_t16_384': dataclasses.replace(_PE_CORE_S16_384, image_width=192, image_heads=3),
    'pe_core_s16_384': _PE_CORE_S16_384,
    'pe_core_b16': dataclasses.replace(
      _PE_CORE_L14_336,
      resolution=224,
      patch=16,
      image_width=768,
      image_layers=12,
      image_heads=12,
    ),
    'pe_core_l14_336': _PE_CORE_L14_336,
    'pe_core_g14_448': dataclasses.replace(
      _PE_CORE_L14_336,
      embed_dim=1280,
      resolution=448,
      image_width=1536,
      image_layers=50,
      image_mlp=8960,
      text_width=1280,
      text_heads=20,
      context_length=72,
      architecture='pe_core_g',
    ),
    'eva02_b16': dataclasses.replace(_VIT_B16, architecture='eva02', image_mlp=2048),
    'eva02_l14': _EVA02_L14,
    'eva02_l14_336': dataclasses.replace(_EVA02_L14, resolution=336),
    'viclip_b16': dataclasses.replace(_VIT_B16, context_length=32, normalization='imagenet'),
    'viclip_l14': dataclasses.replace(_VIT_L14, context_length=32, normalization='imagenet'),
    'videoprism_lvt_b': _VIDEOPRISM_B,
    'videoprism_lvt_l': dataclasses.replace(
      _VIDEOPRISM_B,
      embed_dim=1024,
      image_width=1024,
      image_layers=24,
      image_heads=16,
      text_width=1024,
      text_heads=16,
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
