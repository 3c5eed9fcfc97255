"""Tiny SAM 2 models with random weights, saved as `tiny_models` saves others.

Weights are larger than those of a new model, whose masks would be alike for all boxes.
"""

import pathlib
from typing import Any

import torch
import transformers as tf

from tests.mask_making.tiny_models import save

# The side of the network's input in pixels.
SIDE = 64

# Of features. The video model supports only memories of the width 64, and wider features.
_WIDTH = 128

# The standard deviation of what is added to the weights.
_NOISE = 0.03


def save_sam2(folder: pathlib.Path) -> pathlib.Path:
  """Saves a `Sam2Model` and its processor."""
  config = tf.Sam2Config(**_parts())
  return _save(folder, tf.Sam2Model, config, tf.Sam2Processor(image_processor()))


def save_sam2_video(folder: pathlib.Path) -> pathlib.Path:
  """Saves a `Sam2VideoModel` and its processor."""
  config = tf.Sam2VideoConfig(
    **_parts(),
    image_size=SIDE,
    memory_attention_hidden_size=_WIDTH,
    memory_attention_num_layers=1,
    memory_attention_feed_forward_hidden_size=32,
    memory_attention_rope_feat_sizes=[4, 4],
    memory_encoder_hidden_size=_WIDTH,
    memory_encoder_output_channels=64,
    mask_downsampler_embed_dim=_WIDTH,
    memory_fuser_num_layers=1,
    memory_fuser_embed_dim=_WIDTH,
    memory_fuser_intermediate_dim=32,
  )
  video_processor = tf.Sam2VideoVideoProcessor(size={'height': SIDE, 'width': SIDE})
  processor = tf.Sam2VideoProcessor(image_processor(), video_processor)
  return _save(folder, tf.Sam2VideoModel, config, processor)


def image_processor() -> Any:
  """Returns the `Sam2ImageProcessor` of the small models."""
  size = {'height': SIDE, 'width': SIDE}
  return tf.Sam2ImageProcessor(size=size, mask_size={'height': SIDE // 4, 'width': SIDE // 4})


def _save(folder: pathlib.Path, model_class: Any, config: Any, processor: Any) -> pathlib.Path:
  with torch.random.fork_rng(devices=[]), torch.no_grad():
    torch.manual_seed(0)
    model = model_class(config)
    for parameter in model.parameters():
      parameter.add_(_NOISE * torch.randn(parameter.shape))
  return save(folder, model, processor)


def _parts() -> dict[str, Any]:
  backbone = {
    'model_type': 'sam2_hiera_det_model',
    'hidden_size': 8,
    'image_size': [SIDE, SIDE],
    'blocks_per_stage': [1, 1, 2, 1],
    'embed_dim_per_stage': [8, 16, 32, 64],
    'num_attention_heads_per_stage': [1, 1, 2, 2],
    'window_size_per_stage': [4, 4, 4, 2],
    'window_positional_embedding_background_size': [4, 4],
    'global_attention_blocks': [3],
  }
  return {
    'vision_config': {
      'backbone_config': backbone,
      'backbone_channel_list': [64, 32, 16, 8],
      'backbone_feature_sizes': [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
      'fpn_hidden_size': _WIDTH,
    },
    'prompt_encoder_config': {
      'hidden_size': _WIDTH,
      'image_size': SIDE,
      'patch_size': 16,
      'mask_input_channels': 8,
    },
    'mask_decoder_config': {
      'hidden_size': _WIDTH,
      'mlp_dim': 32,
      'num_attention_heads': 2,
      'iou_head_hidden_dim': 16,
    },
  }
