"""ActionCLIP (arXiv 2109.08472), as its authors save it: CLIP, and beside it the temporal head."""

import dataclasses

import numpy as np

from zsar_jax.interop import openai
from zsar_jax.interop.tables import Format, Layout, Shape, Table
from zsar_jax.interop.usage import Usage

_HEAD = 'fusion_model_state_dict'
# As many positions as CLIP's texts have: how many of them were used is not told.
_POSITIONS = 77


@dataclasses.dataclass(frozen=True)
class _FirstRows(Layout):
  """(T, D) are the first rows of (77, D)."""

  def their_shape(self, shape: Shape) -> Shape:
    return (_POSITIONS, *shape[1:])

  def load(self, array: np.ndarray, shape: Shape) -> np.ndarray:
    return array[: shape[0]]


ACTIONCLIP = Format(
  name='actionclip',
  table=Table(
    [
      *openai.clip_rows('visual.', '', ''),
      (
        'temporal/positional_embedding',
        f'{_HEAD}.frame_position_embeddings.weight',
        _FirstRows(),
      ),
      *openai.blocks('temporal/transformer', f'{_HEAD}.transformer'),
    ]
  ),
  markers=(f'{_HEAD}.frame_position_embeddings.weight',),
  droppable=openai.DROPPABLE,
  prepare=openai.split_projections,
  temporal='transformer',
  # The short side becomes 256 pixels, of which the central 224 are seen.
  usage=Usage(centre_crop=224 / 256),
)
