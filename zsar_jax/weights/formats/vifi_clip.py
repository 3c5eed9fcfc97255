"""ViFi-CLIP (arXiv 2212.03640), with or without prompts.

Its files contain no token embedding, which is that of the CLIP model that training started from.
"""

from collections.abc import Mapping
from typing import Any

from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import SAME, Shape, Table
from zsar_jax.weights.formats.preprocessing import Preprocessing

_PROMPTS = [
  ('visual/prompts/inputs', 'image_encoder.VPT', SAME),
  ('visual/prompts/blocks/{i}', 'image_encoder.transformer.resblocks.{i}.VPT_shallow', SAME),
  ('text/prompts/inputs', 'prompt_learner.ctx', SAME),
  ('text/prompts/blocks/{i}', 'text_encoder.transformer.resblocks.{i}.VPT_shallow', SAME),
]

# The words of its template (CTX_INIT). Learned tokens replace them from the left.
_TEMPLATE_WORDS = ('a', 'photo', 'of', 'a')


def _preprocessing_from_shapes(shapes: Mapping[str, Shape]) -> dict[str, Any]:
  """Returns the template that follows the learned tokens (`VLPromptLearner`).

  It consists of the words that are not replaced, the class name and a full stop.
  """
  num_learned = shapes.get('text/prompts/inputs', (0,))[0]
  return {'templates': (' '.join([*_TEMPLATE_WORDS[num_learned:], '{}.']),)}


VIFI_CLIP = Format(
  name='vifi_clip',
  table=Table([*openai.clip_rows('image_encoder.', 'text_encoder.', ''), *_PROMPTS]),
  markers=('image_encoder.conv1.weight',),
  # The embedded tokens of the training class names.
  droppable=(
    *openai.DROPPABLE,
    r'prompt_learner\.(complete_text_embeddings|token_prefix|token_suffix)',
  ),
  prepare=openai.split_projections,
  normalization='imagenet',
  # The short side is resized to 256 pixels, then the central 224 are cropped.
  preprocessing=Preprocessing(interpolation='bilinear', centre_crop=224 / 256),
  preprocessing_from_shapes=_preprocessing_from_shapes,
)
