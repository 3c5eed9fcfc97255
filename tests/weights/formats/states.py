"""Models of transformers with random weights, and their weights in the formats of other codebases.

The conversions are written independently of the tables under test.
"""

import re

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='the reference models need the extra `parity`')
transformers = pytest.importorskip(
  'transformers', reason='the reference models need the extra `parity`'
)

# The towers have different numbers of heads, so that a misplaced head is noticed.
TEXT = dict(hidden_size=128, num_hidden_layers=2, max_position_embeddings=16, vocab_size=300)
VISION = dict(hidden_size=192, num_hidden_layers=2, image_size=32, patch_size=8)


def tower(hidden_size, **fields):
  return dict(
    hidden_size=hidden_size,
    intermediate_size=4 * hidden_size,
    num_attention_heads=hidden_size // 64,
    **fields,
  )


def text_tower(**fields):
  fields = tower(**fields)
  last = fields['vocab_size'] - 1
  return fields | dict(bos_token_id=last - 1, eos_token_id=last)


def clip(text=TEXT, vision=VISION, embed=128, **fields):
  """A `CLIPModel`; `fields` are of both towers."""
  torch.manual_seed(0)
  config = transformers.CLIPConfig(
    text_config=text_tower(**text) | fields,
    vision_config=tower(**vision) | fields,
    projection_dim=embed,
  )
  return disturbed(transformers.CLIPModel(config))


def xclip(text=TEXT, vision=VISION, embed=128, num_frames=4):
  """An `XCLIPModel`."""
  # With some seeds the model amplifies rounding errors, so that transformers in f32 differs from
  # f64 by 1e-4. With this seed the difference is 3e-7.
  torch.manual_seed(1)
  vision = tower(**vision) | dict(
    num_frames=num_frames,
    mit_hidden_size=embed,
    mit_intermediate_size=4 * embed,
    mit_num_attention_heads=embed // 64,
    mit_num_hidden_layers=2,
  )
  config = transformers.XCLIPConfig(
    text_config=text_tower(**text),
    vision_config=vision,
    projection_dim=embed,
    prompt_num_attention_heads=embed // 64,
  )
  return disturbed(transformers.XCLIPModel(config))


def disturbed(model):
  """Returns the model with noise, since initial zeros and ones would hide mistakes."""
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim:
        scale = min(0.1, parameter.shape[-1] ** -0.5)
        parameter += scale * torch.randn(parameter.shape)
  return model.eval()


def tokens(vocab_size, length):
  """Returns the tokens of three texts of different lengths."""
  rows = np.zeros((3, length), np.int32)
  for row, body in zip(rows, ([5, 9, 40], [7], [8, 8, 3, 2, 60]), strict=True):
    row[: len(body) + 2] = [vocab_size - 2, *body, vocab_size - 1]
  return rows


def clips(size, count=2, num_frames=1):
  """Returns normalized clips f32[count, T, size, size, 3]."""
  shape = (count, num_frames, size, size, 3)
  return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def theirs(model, images, rows):
  """Returns the outputs of transformers for clips [B, T, H, W, 3] (T = 1 for CLIP) and texts."""
  pixels = torch.tensor(np.ascontiguousarray(images.transpose(0, 1, 4, 2, 3)))
  if model.config.model_type == 'clip':
    pixels = pixels[:, 0]
  with torch.no_grad():
    return model(pixel_values=pixels, input_ids=torch.tensor(rows, dtype=torch.long))


def openai(state):
  """Converts a state dict of `CLIPModel` or `XCLIPModel` to that of OpenAI or X-CLIP's authors."""
  renames = (
    (r'^vision_model\.embeddings\.class_embedding', 'visual.class_embedding'),
    (r'^vision_model\.embeddings\.patch_embedding', 'visual.conv1'),
    (r'^vision_model\.embeddings\.position_embedding\.weight', 'visual.positional_embedding'),
    (r'^vision_model\.pre_lay(er|r)norm', 'visual.ln_pre'),
    (r'^vision_model\.post_layernorm', 'visual.ln_post'),
    (r'^vision_model\.encoder\.layers', 'visual.transformer.resblocks'),
    (r'^text_model\.embeddings\.token_embedding', 'token_embedding'),
    (r'^text_model\.embeddings\.position_embedding\.weight', 'positional_embedding'),
    (r'^text_model\.encoder\.layers', 'transformer.resblocks'),
    (r'^text_model\.final_layer_norm', 'ln_final'),
    (r'^visual_projection\.weight', 'visual.proj'),
    (r'^text_projection\.weight', 'text_projection'),
    (r'^mit\.position_embedding', 'mit.positional_embedding'),
    (r'^mit\.encoder\.layers', 'mit.resblocks'),
    (r'^prompts_visual_layernorm', 'prompts_visual_ln'),
    (r'^prompts_visual_projection', 'prompts_visual_proj'),
    (r'^prompts_generator\.layernorm', 'prompts_generator.norm'),
    (r'self_attn', 'attn'),
    (r'layer_norm(\d)', r'ln_\1'),
    (r'mlp\.fc1', 'mlp.c_fc'),
    (r'mlp\.fc2', 'mlp.c_proj'),
  )
  renamed = {}
  for key, value in state.items():
    for pattern, replacement in renames:
      key = re.sub(pattern, replacement, key)
    renamed[key] = value.T if key in ('visual.proj', 'text_projection') else value
  stacked = {}
  for key, value in renamed.items():
    match = re.fullmatch(r'(.*resblocks.*attn\.)q_proj\.(\w+)', key)
    if match:
      prefix, kind = match.groups()
      parts = [renamed[f'{prefix}{letter}_proj.{kind}'] for letter in 'qkv']
      stacked[f'{prefix}in_proj_{kind}'] = torch.cat(parts)
    elif not re.fullmatch(r'.*resblocks.*attn\.[kv]_proj\.\w+', key):
      stacked[key] = value.contiguous()
  return stacked


def vifi(state, prompts=0):
  """Converts an OpenAI state dict to ViFi-CLIP's, with `prompts` prompts in each block."""
  named = {}
  for key, value in state.items():
    if key.startswith('visual.'):
      named[key.replace('visual.', 'image_encoder.')] = value
    elif key == 'logit_scale':
      named[key] = value
    elif key != 'token_embedding.weight':
      named[f'text_encoder.{key}'] = value
  if prompts:
    for encoder, first, width in (
      ('image_encoder', 'image_encoder.VPT', state['visual.class_embedding'].shape[0]),
      ('text_encoder', 'prompt_learner.ctx', state['positional_embedding'].shape[1]),
    ):
      named[first] = torch.randn(prompts, width)
      named[f'{encoder}.transformer.resblocks.1.VPT_shallow'] = torch.randn(prompts, width)
    named['prompt_learner.token_prefix'] = torch.zeros(3, 1, 2)
    named['prompt_learner.token_suffix'] = torch.zeros(3, 1, 2)
  else:
    named['prompt_learner.complete_text_embeddings'] = torch.zeros(3, 4, 2)
  return {f'module.{key}': value for key, value in named.items()}


def scenic(state, width=64):
  """Converts an OpenAI state dict to Scenic's tree, by Scenic's rules of conversion."""
  tree = {'logit_scale': state['logit_scale'].numpy()}
  for key, value in state.items():
    if key == 'logit_scale':
      continue
    value = value.numpy()
    path = key if key.startswith('visual.') else f'text.{key}'
    parts = re.sub(r'resblocks\.(\d+)', r'resblocks!\1', path).split('.')
    parts = [part.replace('!', '.') for part in parts]
    *parents, leaf = parts
    converted = {}
    if leaf == 'in_proj_weight':
      size = value.shape[1]
      cut = value.reshape(3, size // width, width, size).transpose(0, 3, 1, 2)
      converted = {(n, 'kernel'): x for n, x in zip(('query', 'key', 'value'), cut, strict=True)}
    elif leaf == 'in_proj_bias':
      cut = value.reshape(3, -1, width)
      converted = {(n, 'bias'): x for n, x in zip(('query', 'key', 'value'), cut, strict=True)}
    elif parents[-1] == 'out_proj':
      parents = [*parents[:-1], 'out']
      kernel = leaf == 'weight'
      converted = {
        ('kernel' if kernel else 'bias',): value.T.reshape(-1, width, len(value))
        if kernel
        else value
      }
    elif leaf in ('proj', 'text_projection'):
      converted = {(leaf, 'kernel'): value}
    elif parents[-1] == 'token_embedding':
      converted = {('embedding',): value}
    elif parents[-1].startswith('ln_'):
      converted = {({'weight': 'scale', 'bias': 'bias'}[leaf],): value}
    elif leaf == 'weight':
      converted = {('kernel',): value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T}
    else:
      converted = {(leaf,): value}
    for names, array in converted.items():
      node = tree
      for part in (*parents, *names[:-1]):
        node = node.setdefault(part, {})
      node[names[-1]] = np.ascontiguousarray(array)
  return tree
