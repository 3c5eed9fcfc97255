"""X-CLIP (arXiv 2208.02816) as its authors save it."""

from zsar_jax.weights.formats import openai
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  BATCH_OF_ONE,
  SAME,
  Row,
  Table,
  dense,
  norm,
  projections,
)
from zsar_jax.weights.formats.preprocessing import Preprocessing


def prompt_generator(norm_key: str) -> list[Row]:
  """Returns the rows of the video-specific prompts; formats differ in the key of the norm."""
  ours, theirs = 'video_prompts/decoder/{i}', 'prompts_generator.decoder.{i}'
  return [
    *norm('video_prompts/norm', f'prompts_generator.{norm_key}'),
    ('video_prompts/alpha', 'prompts_generator.alpha', SAME),
    *norm(f'{ours}/norm1', f'{theirs}.norm1'),
    *projections(f'{ours}/cross_attn', f'{theirs}.cross_attn', 'proj', input_bias=False),
    *norm(f'{ours}/norm3', f'{theirs}.norm3'),
    # Layers 1 and 2 of the MLP are the activation and a dropout, without parameters.
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.0'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.3'),
  ]


_BLOCK, _THEIR_BLOCK = 'visual/transformer/resblocks/{i}', 'visual.transformer.resblocks.{i}'

XCLIP = Format(
  name='xclip',
  table=Table(
    [
      *openai.clip_rows('visual.', '', ''),
      *dense(f'{_BLOCK}/message_fc', f'{_THEIR_BLOCK}.message_fc'),
      *norm(f'{_BLOCK}/message_ln', f'{_THEIR_BLOCK}.message_ln'),
      *openai.attention(f'{_BLOCK}/message_attn', f'{_THEIR_BLOCK}.message_attn'),
      ('temporal/positional_embedding', 'mit.positional_embedding', BATCH_OF_ONE),
      *openai.blocks('temporal/transformer', 'mit'),
      *norm('video_prompts/visual_ln', 'prompts_visual_ln'),
      ('video_prompts/visual_proj/kernel', 'prompts_visual_proj', SAME),
      *prompt_generator('norm'),
    ]
  ),
  markers=('visual.conv1.weight', 'mit.positional_embedding'),
  droppable=openai.DROPPABLE,
  prepare=openai.split_projections,
  temporal='xclip',
  normalization='imagenet',
  # The short side is resized to 256 pixels, then the central 224 are cropped; class texts are bare
  # names.
  preprocessing=Preprocessing(interpolation='bilinear', centre_crop=224 / 256, templates=('{}',)),
)
