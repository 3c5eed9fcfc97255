"""ViCLIP (arXiv 2307.06942) as its authors save it: CLIP with joint attention among all patches."""

import numpy as np

from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import BATCH_OF_ONE, Table
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict
from zsar_jax.weights.formats.preprocessing import Preprocessing

_VIDEO, _TEXT = 'vision_encoder.', 'text_encoder.'
_PATCHES = f'{_VIDEO}conv1.weight'


def _prepare(state: StateDict) -> StateDict:
  """Gives every array of ours one of theirs."""
  prepared = {}
  for key, array in openai.split_projections(state).items():
    if key == _PATCHES and len(array.shape) == 5 and array.shape[2] == 1:
      prepared[key] = array.reshape(*array.shape[:2], *array.shape[3:])
    elif key == 'temp':
      prepared['logit_scale'] = _logarithm_of_inverse(array)
    else:
      prepared[key] = array
  return prepared


def _logarithm_of_inverse(temperature: LazyArray) -> LazyArray:
  """Returns the logarithm of the scale of the logits; of a file's nonsense, no finite number."""

  def read() -> np.ndarray:
    with np.errstate(all='ignore'):
      return -np.log(temperature.read().astype(np.float32))

  return LazyArray(temperature.shape, np.dtype(np.float32), read)


VICLIP = Format(
  name='viclip',
  table=Table(
    [
      *openai.clip_rows(_VIDEO, _TEXT, ''),
      ('visual/temporal_embedding', f'{_VIDEO}temporal_positional_embedding', BATCH_OF_ONE),
    ]
  ),
  markers=(_PATCHES, f'{_VIDEO}temporal_positional_embedding'),
  droppable=openai.DROPPABLE,
  prepare=_prepare,
  temporal='joint',
  normalization='imagenet',
  # Frames are resized to a square; class texts are bare names.
  preprocessing=Preprocessing(resize='squash', templates=('{}',)),
)
