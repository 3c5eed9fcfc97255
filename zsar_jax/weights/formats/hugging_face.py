"""`CLIPModel` and `XCLIPModel` of Hugging Face transformers, and their config.json."""

import pathlib
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  BATCH_OF_ONE,
  CONVOLUTION,
  LINEAR,
  SAME,
  Row,
  Table,
  dense,
  norm,
  projections,
)
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.xclip import prompt_generator

# A setting that a model must have for our implementation to compute the same numbers.
_REQUIRED = {'layer_norm_eps': 1e-5}

# The architecture of each activation. In X-CLIP the layers over frames have the activation of its
# authors' code, as here.
_ARCHITECTURES = {
  'clip': {'quick_gelu': 'clip', 'gelu': 'clip_gelu'},
  'xclip': {'quick_gelu': 'clip'},
}


def _blocks(ours: str, theirs: str) -> list[Row]:
  ours, theirs = f'{ours}/resblocks/{{i}}', f'{theirs}.layers.{{i}}'
  return [
    *norm(f'{ours}/ln_1', f'{theirs}.layer_norm1'),
    *projections(f'{ours}/attn', f'{theirs}.self_attn', 'out_proj'),
    *norm(f'{ours}/ln_2', f'{theirs}.layer_norm2'),
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.fc1'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.fc2'),
  ]


def _clip_rows(pre_norm: str) -> list[Row]:
  image, text = 'vision_model.embeddings', 'text_model.embeddings'
  return [
    ('logit_scale', 'logit_scale', SAME),
    ('visual/conv1/kernel', f'{image}.patch_embedding.weight', CONVOLUTION),
    ('visual/class_embedding', f'{image}.class_embedding', SAME),
    ('visual/positional_embedding', f'{image}.position_embedding.weight', SAME),
    *norm('visual/ln_pre', f'vision_model.{pre_norm}'),
    *_blocks('visual/transformer', 'vision_model.encoder'),
    *norm('visual/ln_post', 'vision_model.post_layernorm'),
    ('visual/proj/kernel', 'visual_projection.weight', LINEAR),
    ('text/token_embedding/embedding', f'{text}.token_embedding.weight', SAME),
    ('text/positional_embedding', f'{text}.position_embedding.weight', SAME),
    *_blocks('text/transformer', 'text_model.encoder'),
    *norm('text/ln_final', 'text_model.final_layer_norm'),
    ('text/text_projection/kernel', 'text_projection.weight', LINEAR),
  ]


_BLOCK, _THEIR_BLOCK = 'visual/transformer/resblocks/{i}', 'vision_model.encoder.layers.{i}'

_XCLIP_ROWS = [
  *_clip_rows('pre_layernorm'),
  *dense(f'{_BLOCK}/message_fc', f'{_THEIR_BLOCK}.message_fc'),
  *norm(f'{_BLOCK}/message_ln', f'{_THEIR_BLOCK}.message_ln'),
  *projections(f'{_BLOCK}/message_attn', f'{_THEIR_BLOCK}.message_attn', 'out_proj'),
  ('temporal/positional_embedding', 'mit.position_embedding', BATCH_OF_ONE),
  *_blocks('temporal/transformer', 'mit.encoder'),
  *norm('video_prompts/visual_ln', 'prompts_visual_layernorm'),
  ('video_prompts/visual_proj/kernel', 'prompts_visual_projection', SAME),
  *prompt_generator('layernorm'),
]

_DROPPABLE = (r'(vision|text)_model\.embeddings\.position_ids',)


def _read_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """Reads the activation and the numbers of heads from a config.json; see `Format.read_config`."""
  if config.get('model_type') not in ('clip', 'xclip'):
    raise UserError(
      f'{path}: model_type is {config.get("model_type")!r}, but zsar_jax reads only clip and xclip;'
      ' use another model'
    )
  fields, architectures = {}, _ARCHITECTURES[config['model_type']]
  for section, field in (('vision_config', 'image_heads'), ('text_config', 'text_heads')):
    # Old files have a second dictionary, which holds the values that differ from the default.
    settings = _section(config, section) | _section(config, f'{section}_dict')
    for key, required in _REQUIRED.items():
      _require(path, f'{section}.{key}', settings.get(key, required), required)
    # The defaults of transformers are those of ViT-B/32.
    default = {'image_heads': 12, 'text_heads': 8}[field]
    fields[field] = settings.get('num_attention_heads', default)
    activation = settings.get('hidden_act', 'quick_gelu')
    if activation not in architectures:
      raise UserError(
        f'{path}: {section}.hidden_act is {activation!r}, but zsar_jax supports only'
        f' {" and ".join(map(repr, architectures))} in this model; use another model'
      )
    architecture = architectures[activation]
    if fields.setdefault('architecture', architecture) != architecture:
      raise UserError(
        f'{path}: hidden_act differs between vision_config and text_config, which zsar_jax does not'
        ' support; use another model'
      )
  if config['model_type'] == 'xclip':
    _check_xclip(path, config)
  return fields


def _check_xclip(path: pathlib.Path, config: dict[str, Any]) -> None:
  """Checks the settings of X-CLIP's additional parts."""
  vision = _section(config, 'vision_config') | _section(config, 'vision_config_dict')
  settings = vision | config
  # The conversion script of transformers keeps the default of 8 heads for the large models, too.
  expected = max(1, settings.get('projection_dim', 512) // 64)
  for key in ('mit_num_attention_heads', 'prompt_num_attention_heads'):
    value = settings.get(key, 8)
    if value != expected:
      raise UserError(
        f"{path}: {key} is {value}, but zsar_jax and the code of X-CLIP's authors use {expected};"
        f' if these weights are theirs, set it to {expected} in that file'
      )
  activation = settings.get('prompt_hidden_act', 'quick_gelu')
  _require(path, 'prompt_hidden_act', activation, 'quick_gelu')


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
  section = config.get(name)
  return section if isinstance(section, dict) else {}


def _require(path: pathlib.Path, key: str, value: Any, required: Any) -> None:
  if value != required:
    raise UserError(
      f'{path}: {key} is {value!r}, but zsar_jax supports only {required!r}; use another model'
    )


def is_writable(spec: TowerSpec, video: VideoSpec) -> bool:
  """Returns whether transformers has a class that computes a model's numbers."""
  kind = 'xclip' if video.temporal == 'xclip' else 'clip'
  return spec.architecture in _ARCHITECTURES[kind].values()


HF_CLIP = Format(
  name='hf_clip',
  # transformers misspells this key.
  table=Table(_clip_rows('pre_layrnorm')),
  markers=('vision_model.embeddings.class_embedding', 'text_projection.weight'),
  droppable=_DROPPABLE,
  config_file='config.json',
  read_config=_read_config,
)

HF_XCLIP = Format(
  name='hf_xclip',
  table=Table(_XCLIP_ROWS),
  markers=('vision_model.embeddings.class_embedding', 'mit.position_embedding'),
  droppable=_DROPPABLE,
  config_file='config.json',
  read_config=_read_config,
  temporal='xclip',
  # The files beside the weights do not say this; the authors' code uses bare class names.
  preprocessing=Preprocessing(templates=('{}',)),
)


def describe(spec: TowerSpec, video: VideoSpec) -> dict[str, Any]:
  """Returns a model's config.json: of `XCLIPModel` for 'xclip', of `CLIPModel` otherwise."""
  xclip = video.temporal == 'xclip'
  name = 'xclip' if xclip else 'clip'
  embed_heads = max(1, spec.embed_dim // 64)
  usual = _REQUIRED | {'hidden_act': spec.parts.activation}
  text = {
    'model_type': f'{name}_text_model',
    'hidden_size': spec.text_width,
    'intermediate_size': spec.text_mlp_width,
    'num_hidden_layers': spec.text_layers,
    'num_attention_heads': spec.text_heads,
    'max_position_embeddings': spec.context_length,
    'vocab_size': spec.vocab_size,
    'projection_dim': spec.embed_dim,
    # The last two ids of every vocabulary that this project reads.
    'bos_token_id': spec.vocab_size - 2,
    'eos_token_id': spec.vocab_size - 1,
    **usual,
  }
  vision = {
    'model_type': f'{name}_vision_model',
    'hidden_size': spec.image_width,
    'intermediate_size': spec.image_mlp_width,
    'num_hidden_layers': spec.image_layers,
    'num_attention_heads': spec.image_heads,
    'image_size': spec.resolution,
    'patch_size': spec.patch,
    'projection_dim': spec.embed_dim,
    **usual,
  }
  config = {
    'architectures': ['XCLIPModel' if xclip else 'CLIPModel'],
    'model_type': name,
    'projection_dim': spec.embed_dim,
    'text_config': text,
    'vision_config': vision,
  }
  if xclip:
    vision |= {
      'num_frames': video.num_frames,
      'mit_hidden_size': spec.embed_dim,
      'mit_intermediate_size': 4 * spec.embed_dim,
      'mit_num_hidden_layers': video.temporal_layers,
      'mit_num_attention_heads': embed_heads,
    }
    config |= {'prompt_layers': 2, 'prompt_num_attention_heads': embed_heads}
  return config
