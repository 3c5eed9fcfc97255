"""OpenAI's CLIP, and formats that add a prefix to its keys: Open-VCLIP and FROSTER."""

import re

from zsar_jax.weights.formats import slowfast_config
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  CONVOLUTION,
  HEADS_BIAS,
  HEADS_IN,
  HEADS_OUT,
  LINEAR,
  SAME,
  Row,
  Table,
  dense,
  norm,
)
from zsar_jax.weights.formats.lazy_arrays import StateDict
from zsar_jax.weights.formats.preprocessing import Preprocessing

# Sizes that the archives hold in addition to the weights, and the causal mask.
DROPPABLE = (
  r'(.*\.)?(input_resolution|context_length|vocab_size)',
  r'(.*\.)?attn_mask',
)


def attention(ours: str, theirs: str) -> list[Row]:
  """Returns the rows of PyTorch's `MultiheadAttention`, split by `split_projections`."""
  rows = []
  for name in ('query', 'key', 'value'):
    rows.append((f'{ours}/{name}/kernel', f'{theirs}.in_proj_weight[{name}]', HEADS_IN))
    rows.append((f'{ours}/{name}/bias', f'{theirs}.in_proj_bias[{name}]', HEADS_BIAS))
  return [
    *rows,
    (f'{ours}/out/kernel', f'{theirs}.out_proj.weight', HEADS_OUT),
    (f'{ours}/out/bias', f'{theirs}.out_proj.bias', SAME),
  ]


def blocks(ours: str, theirs: str) -> list[Row]:
  """Returns the rows of a stack of residual blocks, given our and their path of the stack."""
  ours, theirs = f'{ours}/resblocks/{{i}}', f'{theirs}.resblocks.{{i}}'
  return [
    *norm(f'{ours}/ln_1', f'{theirs}.ln_1'),
    *attention(f'{ours}/attn', f'{theirs}.attn'),
    *norm(f'{ours}/ln_2', f'{theirs}.ln_2'),
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.c_fc'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.c_proj'),
  ]


def clip_rows(visual: str, text: str, root: str) -> list[Row]:
  """Returns the rows of CLIP.

  Args:
    visual: the prefix of the image tower.
    text: the prefix of the text tower.
    root: the prefix of the parameters outside the towers.
  """
  return [
    ('logit_scale', f'{root}logit_scale', SAME),
    ('visual/conv1/kernel', f'{visual}conv1.weight', CONVOLUTION),
    ('visual/class_embedding', f'{visual}class_embedding', SAME),
    ('visual/positional_embedding', f'{visual}positional_embedding', SAME),
    *norm('visual/ln_pre', f'{visual}ln_pre'),
    *blocks('visual/transformer', f'{visual}transformer'),
    *norm('visual/ln_post', f'{visual}ln_post'),
    # Stored as (in, out): the model computes x @ proj.
    ('visual/proj/kernel', f'{visual}proj', SAME),
    ('text/token_embedding/embedding', f'{text}token_embedding.weight', SAME),
    ('text/positional_embedding', f'{text}positional_embedding', SAME),
    *blocks('text/transformer', f'{text}transformer'),
    *norm('text/ln_final', f'{text}ln_final'),
    ('text/text_projection/kernel', f'{text}text_projection', SAME),
  ]


def split_projections(state: StateDict) -> StateDict:
  """Splits stacked projections, so that every array of ours has exactly one of theirs."""
  split = {}
  for key, tensor in state.items():
    if re.search(r'\.in_proj_(weight|bias)$', key) and tensor.shape and tensor.shape[0] % 3 == 0:
      for number, name in enumerate(('query', 'key', 'value')):
        split[f'{key}[{name}]'] = tensor.part(number, 3)
    else:
      split[key] = tensor
  return split


def _prepare(state: StateDict) -> StateDict:
  """Splits projections, and removes the prefix of the text tower in open_clip's newer classes."""
  return split_projections({key.removeprefix('text.'): array for key, array in state.items()})


OPENAI = Format(
  name='openai',
  table=Table(clip_rows('visual.', '', '')),
  markers=('visual.conv1.weight', 'visual.class_embedding'),
  droppable=DROPPABLE,
  prepare=_prepare,
)

_CLIP = clip_rows('model.visual.', 'model.', 'model.')

# The short side is resized to 224 pixels, then the central square is cropped.
_WINDOW_PREPROCESSING = Preprocessing(interpolation='bilinear')

OPEN_VCLIP = Format(
  name='open_vclip',
  table=Table(_CLIP),
  markers=('model.visual.conv1.weight',),
  droppable=DROPPABLE,
  prepare=split_projections,
  temporal='window',
  read_video=slowfast_config.read_video,
  preprocessing=_WINDOW_PREPROCESSING,
)

FROSTER = Format(
  name='froster',
  table=Table(
    [
      *_CLIP,
      ('distillation/visual/first/kernel', 'projector_v.0.weight', LINEAR),
      ('distillation/visual/second/kernel', 'projector_v.2.weight', LINEAR),
      ('distillation/text/first/kernel', 'projector_t.0.weight', LINEAR),
      ('distillation/text/second/kernel', 'projector_t.2.weight', LINEAR),
    ]
  ),
  markers=('model.visual.conv1.weight', 'raw_model.visual.conv1.weight'),
  # The frozen teacher, and the projectors if the model has no distillation.
  droppable=(*DROPPABLE, r'raw_model\..*', r'projector_[vt]\..*'),
  prepare=split_projections,
  temporal='window',
  read_video=slowfast_config.read_video,
  preprocessing=_WINDOW_PREPROCESSING,
)
