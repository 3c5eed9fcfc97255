"""ViFi-CLIP (arXiv 2212.03640), with or without its prompts.

Its files hold no token embedding: it is that of the CLIP model that training began from.
"""

from collections.abc import Mapping
from typing import Any

from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.key_tables import SAME, Format, Shape, Table
from zsar_jax.weights.formats.usage import Usage

_PROMPTS = [
  ('visual/prompts/inputs', 'image_encoder.VPT', SAME),
  ('visual/prompts/blocks/{i}', 'image_encoder.transformer.resblocks.{i}.VPT_shallow', SAME),
  ('text/prompts/inputs', 'prompt_learner.ctx', SAME),
  ('text/prompts/blocks/{i}', 'text_encoder.transformer.resblocks.{i}.VPT_shallow', SAME),
]

# The words of its template (CTX_INIT), which learnt tokens replace from the left.
_WORDS = ('a', 'photo', 'of', 'a')


def _usage_of_arrays(shapes: Mapping[str, Shape]) -> dict[str, Any]:
  """The template behind learnt tokens: the bare name and a full stop (`VLPromptLearner`).

  Of fewer learnt tokens than `_WORDS`, the rest of the words stays in front of the name.
  """
  learnt = shapes.get('text/prompts/inputs', (0,))[0]
  return {'templates': (' '.join([*_WORDS[learnt:], '{}.']),)}


VIFI_CLIP = Format(
  name='vifi_clip',
  table=Table([*openai.clip_rows('image_encoder.', 'text_encoder.', ''), *_PROMPTS]),
  markers=('image_encoder.conv1.weight',),
  # The embedded tokens of the class names that it was trained with.
  droppable=(
    *openai.DROPPABLE,
    r'prompt_learner\.(complete_text_embeddings|token_prefix|token_suffix)',
  ),
  prepare=openai.split_projections,
  normalization='imagenet',
  # The short side becomes 256 pixels, of which the central 224 are seen.
  usage=Usage(interpolation='bilinear', centre_crop=224 / 256),
  usage_of_arrays=_usage_of_arrays,
)
