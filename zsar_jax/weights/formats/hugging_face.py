"""`CLIPModel` and `XCLIPModel` of Hugging Face's transformers, and their config.json."""

import pathlib
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats.key_tables import (
  BATCH_OF_ONE,
  CONVOLUTION,
  LINEAR,
  SAME,
  Format,
  Row,
  Table,
  dense,
  norm,
  projections,
)
from zsar_jax.weights.formats.usage import Usage
from zsar_jax.weights.formats.xclip import generator

# What a model has to be for our numbers to be its own.
_REQUIRED = {'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5}


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
  *generator('layernorm'),
]

_DROPPABLE = (r'(vision|text)_model\.embeddings\.position_ids',)


def _described(path: pathlib.Path, config: dict[str, Any]) -> dict[str, int]:
  """The numbers of heads that a config.json tells; see `Format.described`."""
  if config.get('model_type') not in ('clip', 'xclip'):
    raise UserError(
      f'{path}: a model of type {config.get("model_type")!r}; only clip and xclip are read'
    )
  found = {}
  for section, field in (('vision_config', 'image_heads'), ('text_config', 'text_heads')):
    # Old files hold what differs from the default in a second dictionary.
    told = {**_section(config, section), **_section(config, f'{section}_dict')}
    for key, required in _REQUIRED.items():
      _require(path, f'{section}.{key}', told.get(key, required), required)
    # The defaults of transformers: those of ViT-B/32.
    found[field] = told.get('num_attention_heads', {'image_heads': 12, 'text_heads': 8}[field])
  if config['model_type'] == 'xclip':
    told = {**_section(config, 'vision_config'), **_section(config, 'vision_config_dict'), **config}
    # The conversion script of transformers leaves 8, the default, to the large models as well.
    expected = max(1, told.get('projection_dim', 512) // 64)
    for key in ('mit_num_attention_heads', 'prompt_num_attention_heads'):
      if told.get(key, 8) != expected:
        raise UserError(
          f'{path}: {key} is {told.get(key, 8)}, and {expected} in zsar_jax and in the code of'
          f" X-CLIP's authors; if they trained these weights, set it to {expected} in that file"
        )
    _require(path, 'prompt_hidden_act', told.get('prompt_hidden_act', 'quick_gelu'), 'quick_gelu')
  return found


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
  section = config.get(name)
  return section if isinstance(section, dict) else {}


def _require(path: pathlib.Path, key: str, value: Any, required: Any) -> None:
  if value != required:
    raise UserError(
      f'{path}: {key} is {value!r} and is always {required!r} in zsar_jax; take another model'
    )


HF_CLIP = Format(
  name='hf_clip',
  # The missing letters are theirs.
  table=Table(_clip_rows('pre_layrnorm')),
  markers=('vision_model.embeddings.class_embedding', 'text_projection.weight'),
  droppable=_DROPPABLE,
  config='config.json',
  described=_described,
)

HF_XCLIP = Format(
  name='hf_xclip',
  table=Table(_XCLIP_ROWS),
  markers=('vision_model.embeddings.class_embedding', 'mit.position_embedding'),
  droppable=_DROPPABLE,
  config='config.json',
  described=_described,
  temporal='xclip',
  # No file beside the weights tells it; the authors' code has bare class names.
  usage=Usage(templates=('{}',)),
)


def describe(spec: TowerSpec, video: VideoSpec) -> dict[str, Any]:
  """The config.json of a model, of `XCLIPModel` for 'xclip' and of `CLIPModel` otherwise."""
  xclip = video.temporal == 'xclip'
  name = 'xclip' if xclip else 'clip'
  embed_heads = max(1, spec.embed_dim // 64)
  text = {
    'model_type': f'{name}_text_model',
    'hidden_size': spec.text_width,
    'intermediate_size': 4 * spec.text_width,
    'num_hidden_layers': spec.text_layers,
    'num_attention_heads': spec.text_heads,
    'max_position_embeddings': spec.context_length,
    'vocab_size': spec.vocab_size,
    'projection_dim': spec.embed_dim,
    # The last two ids, in every vocabulary that this project reads.
    'bos_token_id': spec.vocab_size - 2,
    'eos_token_id': spec.vocab_size - 1,
    **_REQUIRED,
  }
  vision = {
    'model_type': f'{name}_vision_model',
    'hidden_size': spec.image_width,
    'intermediate_size': 4 * spec.image_width,
    'num_hidden_layers': spec.image_layers,
    'num_attention_heads': spec.image_heads,
    'image_size': spec.resolution,
    'patch_size': spec.patch,
    'projection_dim': spec.embed_dim,
    **_REQUIRED,
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
