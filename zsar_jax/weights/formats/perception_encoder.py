"""PE-Core (Perception Encoder, arXiv 2504.13181) as its authors save it."""

from collections.abc import Container
from typing import Any

import numpy as np

from zsar_jax.models.presets import PRESETS
from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import ONE_TOKEN, SAME, Table, dense, norm
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict
from zsar_jax.weights.formats.preprocessing import Preprocessing


def published_heads(*architectures: str) -> dict[int, int]:
  """Returns the numbers of heads of the presets of some architectures, by the width of a tower."""
  specs = [spec for spec in PRESETS.values() if spec.architecture in architectures]
  heads = {spec.image_width: spec.image_heads for spec in specs}
  return heads | {spec.text_width: spec.text_heads for spec in specs}


# No file gives them.
HEADS = published_heads('pe_core', 'pe_core_g')

# Frames are squashed to a square, and taken as in the authors' evaluation of Kinetics.
PREPROCESSING = Preprocessing(sampling='ends', interpolation='bilinear', resize='squash')

# Our bias of the projection, which the authors' models do not have.
_BIAS = 'visual.proj.bias'


def read_tower(paths: Container[str]) -> dict[str, Any]:
  """Returns the architecture of a model, given our paths of its arrays; see `Format.read_tower`."""
  has_class_token = 'visual/class_embedding' in paths
  return {'architecture': 'pe_core' if has_class_token else 'pe_core_g'}


def _prepare(state: StateDict) -> StateDict:
  """Splits stacked projections, and adds the bias, which is zero."""
  state = openai.split_projections(state)
  projection = state.get('visual.proj')
  if projection is not None and projection.shape:
    state[_BIAS] = LazyArray.of(np.zeros(projection.shape[-1], np.float32))
  return state


_POOL = 'visual.attn_pool'

PE_CORE = Format(
  name='pe_core',
  table=Table(
    [
      *openai.clip_rows('visual.', '', ''),
      ('visual/proj/bias', _BIAS, SAME),
      ('visual/attn_pool/probe', f'{_POOL}.probe', ONE_TOKEN),
      *openai.attention('visual/attn_pool/attn', f'{_POOL}.attn'),
      *norm('visual/attn_pool/ln', f'{_POOL}.layernorm'),
      *dense('visual/attn_pool/mlp/c_fc', f'{_POOL}.mlp.c_fc'),
      *dense('visual/attn_pool/mlp/c_proj', f'{_POOL}.mlp.c_proj'),
    ]
  ),
  markers=('visual.conv1.weight', f'{_POOL}.probe', 'token_embedding.weight'),
  droppable=openai.DROPPABLE,
  prepare=_prepare,
  tower_fields={'architecture': 'pe_core'},
  read_tower=read_tower,
  heads=HEADS,
  normalization='half',
  preprocessing=PREPROCESSING,
)
