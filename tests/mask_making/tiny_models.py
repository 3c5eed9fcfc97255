"""Tiny models of `transformers` with random weights, saved as the folders that makers load.

Import this module after `pytest.importorskip('torchvision')`.
"""

import pathlib

import torch
import transformers

# The class of people is neither the first nor the last.
LABELS = {0: 'bicycle', 1: 'person', 2: 'dog'}

_SWIN = {
  'embed_dim': 8,
  'depths': [1, 1, 1, 1],
  'num_heads': [1, 1, 2, 2],
  'window_size': 4,
  'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
}


def save(folder, model, *parts):
  """Saves a model, its processor and whatever else belongs to it; returns the folder."""
  folder = pathlib.Path(folder)
  model.eval().save_pretrained(folder)
  for part in parts:
    part.save_pretrained(folder)
  return folder


def rf_detr(folder, labels=LABELS, seed=0):
  """Saves an RF-DETR model for instance segmentation."""
  torch.manual_seed(seed)
  config = transformers.RfDetrConfig(
    backbone_config={
      'model_type': 'rf_detr_dinov2',
      'hidden_size': 16,
      'num_hidden_layers': 2,
      'num_attention_heads': 2,
      'image_size': 56,
      'patch_size': 14,
      'num_windows': 2,
      'num_register_tokens': 0,
      'out_features': ['stage1', 'stage2'],
    },
    d_model=16,
    decoder_layers=2,
    decoder_ffn_dim=16,
    decoder_self_attention_heads=2,
    decoder_cross_attention_heads=2,
    decoder_n_points=2,
    num_queries=12,
    group_detr=1,
    intermediate_size=16,
    c2f_num_blocks=1,
    id2label=labels,
  )
  model = transformers.RfDetrForInstanceSegmentation(config)
  processor = transformers.RfDetrImageProcessor(size={'height': 56, 'width': 56})
  return save(folder, model, processor)


def mask2former(folder, labels=LABELS, seed=0):
  """Saves a Mask2Former model; its processor resizes the shorter side to 64 pixels."""
  torch.manual_seed(seed)
  config = transformers.Mask2FormerConfig(
    backbone_config={'model_type': 'swin', **_SWIN},
    feature_size=32,  # It has group norms of 32 groups.
    mask_feature_size=32,
    hidden_dim=32,
    encoder_feedforward_dim=16,
    encoder_layers=1,
    decoder_layers=2,
    num_attention_heads=2,
    dim_feedforward=16,
    num_queries=12,
    id2label=labels,
  )
  model = transformers.Mask2FormerForUniversalSegmentation(config)
  size = {'shortest_edge': 64, 'longest_edge': 128}
  return save(folder, model, transformers.Mask2FormerImageProcessor(size=size))
