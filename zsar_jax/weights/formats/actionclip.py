"""ActionCLIP (arXiv 2109.08472), as its authors and mmaction2 save it: CLIP and a temporal head."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.key_tables import SAME, Format, Layout, Row, Shape, Table
from zsar_jax.weights.formats.tensors import State
from zsar_jax.weights.formats.usage import Usage

# The authors' files have it always; where a clip is the mean of its frames (meanP), it is empty.
HEAD = 'fusion_model_state_dict'
# As many positions as CLIP's texts have: how many of them were used is not told.
_POSITIONS = 77


@dataclasses.dataclass(frozen=True)
class _FirstRows(Layout):
  """(T, D) are the first rows of (77, D)."""

  def their_shape(self, shape: Shape) -> Shape:
    return (_POSITIONS, *shape[1:])

  def load(self, array: np.ndarray, shape: Shape) -> np.ndarray:
    return array[: shape[0]]


def _rows(head: str, positions: Layout) -> list[Row]:
  return [
    *openai.clip_rows('visual.', '', ''),
    ('temporal/positional_embedding', f'{head}.frame_position_embeddings.weight', positions),
    *openai.blocks('temporal/transformer', f'{head}.transformer'),
  ]


def _video(path: pathlib.Path, beside: Mapping[str, Any], state: State) -> dict[str, Any]:
  """Which head it is: the transformer over frames, or none; see `Format.video`."""
  del path, beside
  has_head = any(key.startswith(f'{HEAD}.') for key in state)
  return {'temporal': 'transformer' if has_head else 'mean'}


ACTIONCLIP = Format(
  name='actionclip',
  table=Table(_rows(HEAD, _FirstRows())),
  markers=('visual.conv1.weight', HEAD),
  droppable=openai.DROPPABLE,
  prepare=openai.split_projections,
  temporal='transformer',
  video=_video,
  # The short side becomes 256 pixels, of which the central 224 are seen.
  usage=Usage(centre_crop=224 / 256),
)

MMACTION2 = dataclasses.replace(
  ACTIONCLIP,
  name='mmaction2',
  table=Table(_rows('adapter', SAME)),
  markers=('visual.conv1.weight', 'adapter.frame_position_embeddings.weight'),
  video=lambda path, beside, state: {},
)
