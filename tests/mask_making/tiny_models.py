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
  transformers.utils.logging.disable_progress_bar()
  model.eval().save_pretrained(folder)
  for part in parts:
    part.save_pretrained(folder)
  return folder


def _diversify(model, heads):
  """Enlarges some parameters, so that queries differ in their classes and masks.

  Args:
    model: the module.
    heads: {a part of a parameter's name: the factor}.
  """
  with torch.no_grad():
    for name, array in model.named_parameters():
      for part, factor in heads.items():
        if part in name:
          array.mul_(factor)
  return model


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
  _diversify(model, {'class_embed.weight': 30, 'class_embed.bias': 0.2})
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
  _diversify(model, {'class_predictor.weight': 5})
  size = {'shortest_edge': 64, 'longest_edge': 128}
  return save(folder, model, transformers.Mask2FormerImageProcessor(size=size))


def oneformer(folder, labels=LABELS, seed=0):
  """Saves a OneFormer model, whose processor names a file of class names on the hub."""
  torch.manual_seed(seed)
  config = transformers.OneFormerConfig(
    backbone_config={'model_type': 'swin', **_SWIN},
    conv_dim=32,
    mask_dim=32,
    hidden_dim=32,
    encoder_feedforward_dim=16,
    encoder_layers=1,
    decoder_layers=2,
    num_attention_heads=2,
    dim_feedforward=16,
    num_queries=12,
    text_encoder_width=16,
    text_encoder_context_length=8,
    text_encoder_num_layers=1,
    text_encoder_vocab_size=600,
    text_encoder_n_ctx=2,
    query_dec_layers=1,
    id2label=labels,
  )
  model = transformers.OneFormerForUniversalSegmentation(config)
  _diversify(model, {'decoder.class_embed.weight': 5})
  images = transformers.OneFormerImageProcessor(
    size={'shortest_edge': 64, 'longest_edge': 128},
    repo_path='',
    class_info_file=None,
    num_text=2,
  )
  processor = transformers.OneFormerProcessor(images, _clip_tokenizer())
  return save(folder, model, processor)


def _clip_tokenizer():
  """Returns a tokenizer with the bytes as its vocabulary, as CLIP's but without merges."""
  letters = [chr(code) for code in range(33, 127)]
  tokens = [*letters, *(f'{letter}</w>' for letter in letters), '<|startoftext|>', '<|endoftext|>']
  return transformers.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def eomt(folder, labels=LABELS, seed=0):
  """Saves an EoMT model, whose processor pads frames to a square."""
  return _save_eomt(folder, 'Eomt', labels, seed)


def eomt_dinov3(folder, labels=LABELS, seed=0):
  """Saves an EoMT model with DINOv3's encoder."""
  return _save_eomt(folder, 'EomtDinov3', labels, seed, intermediate_size=32)


def _save_eomt(folder, name, labels, seed, **options):
  torch.manual_seed(seed)
  config = getattr(transformers, f'{name}Config')(
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    image_size=64,
    patch_size=16,
    num_blocks=1,
    num_queries=12,
    num_upscale_blocks=1,
    num_register_tokens=1,
    id2label=labels,
    **options,
  )
  model = getattr(transformers, f'{name}ForUniversalSegmentation')(config)
  _diversify(model, {'class_predictor.weight': 5})
  size = {'shortest_edge': 64, 'longest_edge': 64}
  return save(folder, model, transformers.EomtImageProcessor(size=size, do_pad=True))
