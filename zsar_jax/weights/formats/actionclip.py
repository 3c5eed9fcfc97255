"""ActionCLIP (arXiv 2109.08472) as its authors and mmaction2 save it: CLIP and a temporal head."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import SAME, Layout, Row, Shape, Table
from zsar_jax.weights.formats.lazy_arrays import StateDict
from zsar_jax.weights.formats.preprocessing import Preprocessing

# Every file of the authors has this key. It is empty if a clip is the mean of its frames (meanP).
HEAD = 'fusion_model_state_dict'
# The head has as many positions as CLIP's texts; files do not say how many of them are used.
_NUM_POSITIONS = 77


@dataclasses.dataclass(frozen=True)
class _FirstRows(Layout):
  """(T, D) is stored in the first rows of (77, D)."""

  def their_shape(self, shape: Shape) -> Shape:
    return (_NUM_POSITIONS, *shape[1:])

  def load(self, array: np.ndarray, shape: Shape) -> np.ndarray:
    return array[: shape[0]]


def _rows(head: str, positions: Layout) -> list[Row]:
  return [
    *openai.clip_rows('visual.', '', ''),
    ('temporal/positional_embedding', f'{head}.frame_position_embeddings.weight', positions),
    *openai.blocks('temporal/transformer', f'{head}.transformer'),
  ]


def _read_video(path: pathlib.Path, extras: Mapping[str, Any], state: StateDict) -> dict[str, Any]:
  """Tells the transformer over frames from the mean; see `Format.read_video`."""
  del path, extras
  has_head = any(key.startswith(f'{HEAD}.') for key in state)
  return {'temporal': 'transformer' if has_head else 'mean'}


ACTIONCLIP = Format(
  name='actionclip',
  table=Table(_rows(HEAD, _FirstRows())),
  markers=('visual.conv1.weight', HEAD),
  droppable=openai.DROPPABLE,
  prepare=openai.split_projections,
  temporal='transformer',
  read_video=_read_video,
  # The short side is resized to 256 pixels, then the central 224 are cropped.
  preprocessing=Preprocessing(centre_crop=224 / 256),
)

MMACTION2 = dataclasses.replace(
  ACTIONCLIP,
  name='mmaction2',
  table=Table(_rows('adapter', SAME)),
  markers=('visual.conv1.weight', 'adapter.frame_position_embeddings.weight'),
  read_video=lambda path, extras, state: {},
)
