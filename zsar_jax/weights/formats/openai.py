"""OpenAI's CLIP, and what is CLIP under another prefix: open_clip, Open-VCLIP, FROSTER."""

import re

from zsar_jax.weights.formats import slowfast
from zsar_jax.weights.formats.key_tables import (
  CONVOLUTION,
  HEADS_BIAS,
  HEADS_IN,
  HEADS_OUT,
  LINEAR,
  SAME,
  Format,
  Row,
  Table,
  dense,
  norm,
)
from zsar_jax.weights.formats.tensors import State
from zsar_jax.weights.formats.usage import Usage

# Sizes that the archives hold beside the weights, and the causal mask.
DROPPABLE = (
  r'(.*\.)?(input_resolution|context_length|vocab_size)',
  r'(.*\.)?attn_mask',
)


def attention(ours: str, theirs: str) -> list[Row]:
  """The rows of PyTorch's `MultiheadAttention`, as `split_projections` names its parts."""
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
  """The rows of a stack of residual blocks: paths of the transformers, ours and theirs."""
  ours, theirs = f'{ours}/resblocks/{{i}}', f'{theirs}.resblocks.{{i}}'
  return [
    *norm(f'{ours}/ln_1', f'{theirs}.ln_1'),
    *attention(f'{ours}/attn', f'{theirs}.attn'),
    *norm(f'{ours}/ln_2', f'{theirs}.ln_2'),
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.c_fc'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.c_proj'),
  ]


def clip_rows(visual: str, text: str, root: str) -> list[Row]:
  """The rows of CLIP.

  Args:
    visual: the prefix of the image tower.
    text: the prefix of the text tower.
    root: the prefix of what is in neither.
  """
  return [
    ('logit_scale', f'{root}logit_scale', SAME),
    ('visual/conv1/kernel', f'{visual}conv1.weight', CONVOLUTION),
    ('visual/class_embedding', f'{visual}class_embedding', SAME),
    ('visual/positional_embedding', f'{visual}positional_embedding', SAME),
    *norm('visual/ln_pre', f'{visual}ln_pre'),
    *blocks('visual/transformer', f'{visual}transformer'),
    *norm('visual/ln_post', f'{visual}ln_post'),
    # Used as x @ proj.
    ('visual/proj/kernel', f'{visual}proj', SAME),
    ('text/token_embedding/embedding', f'{text}token_embedding.weight', SAME),
    ('text/positional_embedding', f'{text}positional_embedding', SAME),
    *blocks('text/transformer', f'{text}transformer'),
    *norm('text/ln_final', f'{text}ln_final'),
    ('text/text_projection/kernel', f'{text}text_projection', SAME),
  ]


def split_projections(state: State) -> State:
  """Parts the stacked projections, so that every array of ours has one of theirs."""
  parted = {}
  for key, tensor in state.items():
    if re.search(r'\.in_proj_(weight|bias)$', key) and tensor.shape and tensor.shape[0] % 3 == 0:
      for number, name in enumerate(('query', 'key', 'value')):
        parted[f'{key}[{name}]'] = tensor.part(number, 3)
    else:
      parted[key] = tensor
  return parted


OPENAI = Format(
  name='openai',
  table=Table(clip_rows('visual.', '', '')),
  markers=('visual.conv1.weight', 'visual.class_embedding'),
  droppable=DROPPABLE,
  prepare=split_projections,
)

_CLIP = clip_rows('model.visual.', 'model.', 'model.')

# The short side becomes 224 pixels, of which the central square is seen.
_WINDOW_USAGE = Usage(interpolation='bilinear')

OPEN_VCLIP = Format(
  name='open_vclip',
  table=Table(_CLIP),
  markers=('model.visual.conv1.weight',),
  droppable=DROPPABLE,
  prepare=split_projections,
  temporal='window',
  video=slowfast.video,
  usage=_WINDOW_USAGE,
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
  # The frozen teacher; and, where nothing is distilled, what only distillation uses.
  droppable=(*DROPPABLE, r'raw_model\..*', r'projector_[vt]\..*'),
  prepare=split_projections,
  temporal='window',
  video=slowfast.video,
  usage=_WINDOW_USAGE,
)
