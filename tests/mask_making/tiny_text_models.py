"""Tiny models that read texts, with random weights, saved as the folders that makers load.

Import this module after `pytest.importorskip('torchvision')`.
"""

import pathlib
import string

import torch
import transformers

# What BERT's tokenizer knows, by its ids. Those of marks are the published ones, which are fixed in
# the code of Grounding DINO.
_BERT_WORDS = {
  **{0: '[PAD]', 100: '[UNK]', 101: '[CLS]', 102: '[SEP]', 103: '[MASK]', 1012: '.', 1029: '?'},
  **dict(enumerate(('hand', 'cup', 'box', 'person', 'tea', 'green', 'bottle', '##s', '-'), 200)),
}

# What the CLIP tokenizer knows: letters and digits, with and without the end of a word.
_CLIP_LETTERS = [
  char + end for end in ('', '</w>') for char in string.ascii_lowercase + '0123456789'
]
_CLIP_WORDS = ['!', *_CLIP_LETTERS, '<|startoftext|>', '<|endoftext|>']
_CLIP_MARKS = {'bos_token_id': len(_CLIP_WORDS) - 2, 'eos_token_id': len(_CLIP_WORDS) - 1}

_TEXT_TOWER = {
  'vocab_size': len(_CLIP_WORDS),
  'hidden_size': 16,
  'intermediate_size': 16,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  **_CLIP_MARKS,
}

# The side of SAM 3's input in pixels.
_SAM3_SIDE = 56


def grounding_dino(folder, mm=False, max_tokens=64):
  """Saves a Grounding DINO, or an MM-Grounding-DINO; its inputs have sides of 64 to 96 pixels."""
  torch.manual_seed(0)
  prefix = 'MMGroundingDino' if mm else 'GroundingDino'
  config = getattr(transformers, f'{prefix}Config')(
    backbone_config={
      'model_type': 'swin',
      'embed_dim': 8,
      'depths': [1, 1, 1, 1],
      'num_heads': [1, 1, 1, 1],
      'window_size': 2,
      'out_indices': [2, 3, 4],
    },
    text_config={
      'model_type': 'bert',
      'vocab_size': 1030,
      'hidden_size': 8,
      'num_hidden_layers': 1,
      'num_attention_heads': 1,
      'intermediate_size': 8,
      'max_position_embeddings': max_tokens,
    },
    max_text_len=max_tokens,
    num_queries=6,
    d_model=32,  # Its group norms have 32 groups.
    encoder_layers=1,
    decoder_layers=2,
    encoder_ffn_dim=8,
    decoder_ffn_dim=8,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_n_points=1,
    decoder_n_points=1,
  )
  model = getattr(transformers, f'{prefix}ForObjectDetection')(config)
  words = [_BERT_WORDS.get(index, f'[unused{index}]') for index in range(1030)]
  tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
  images = transformers.GroundingDinoImageProcessor(size={'shortest_edge': 64, 'longest_edge': 96})
  return _save(folder, model, transformers.GroundingDinoProcessor(images, tokenizer))


def owl(folder, version2=True):
  """Saves an OWLv2, whose processor pads frames to squares, or an OWL-ViT."""
  torch.manual_seed(0)
  prefix = 'Owlv2' if version2 else 'OwlViT'
  config = getattr(transformers, f'{prefix}Config')(
    text_config={**_TEXT_TOWER, 'max_position_embeddings': 16},
    vision_config={
      'hidden_size': 16,
      'intermediate_size': 16,
      'num_hidden_layers': 1,
      'num_attention_heads': 2,
      'image_size': 32,
      'patch_size': 8,
    },
    projection_dim=16,
  )
  model = getattr(transformers, f'{prefix}ForObjectDetection')(config)
  size = {'height': 32, 'width': 32}
  images = getattr(transformers, f'{prefix}ImageProcessor')(size=size)
  processor = getattr(transformers, f'{prefix}Processor')(images, _clip_tokenizer(16))
  return _save(folder, model, processor)


def sam3(folder):
  """Saves the image model of SAM 3."""
  torch.manual_seed(0)
  config = transformers.Sam3Config(**_sam3_parts())
  processor = transformers.Sam3Processor(_sam3_images(), _clip_tokenizer(32))
  return _save(folder, transformers.Sam3Model(config), processor)


def sam3_video(folder):
  """Saves the video model of SAM 3, which contains an image model."""
  torch.manual_seed(0)
  parts = _sam3_parts()
  tracker = {
    'vision_config': parts['vision_config'],
    'image_size': _SAM3_SIDE,
    'memory_attention_hidden_size': 32,
    'memory_attention_num_layers': 1,
    'memory_attention_feed_forward_hidden_size': 32,
    'memory_encoder_hidden_size': 32,
    'memory_encoder_output_channels': 16,
    'mask_downsampler_embed_dim': 32,
    'memory_fuser_num_layers': 1,
    'memory_fuser_embed_dim': 32,
    'memory_fuser_intermediate_dim': 32,
    'prompt_encoder_config': {
      'hidden_size': 32,
      'image_size': _SAM3_SIDE,
      'patch_size': 14,
      'mask_input_channels': 8,
    },
    'mask_decoder_config': {
      'hidden_size': 32,
      'mlp_dim': 32,
      'num_attention_heads': 2,
      'iou_head_hidden_dim': 16,
    },
  }
  config = transformers.Sam3VideoConfig(
    detector_config={'model_type': 'sam3', **parts}, tracker_config=tracker
  )
  size = {'height': _SAM3_SIDE, 'width': _SAM3_SIDE}
  processor = transformers.Sam3VideoProcessor(
    _sam3_images(), transformers.Sam2VideoVideoProcessor(size=size), _clip_tokenizer(32)
  )
  return _save(folder, transformers.Sam3VideoModel(config), processor)


def _sam3_parts():
  part = {'hidden_size': 32, 'num_attention_heads': 2}
  layers = {**part, 'num_layers': 1, 'intermediate_size': 16}
  return {
    'vision_config': {
      'model_type': 'sam3_vision_model',
      'backbone_config': {
        'model_type': 'sam3_vit_model',
        'hidden_size': 32,
        'intermediate_size': 16,
        'num_hidden_layers': 2,
        'num_attention_heads': 2,
        'image_size': _SAM3_SIDE,
        'patch_size': 14,
        'window_size': 2,
        'global_attn_indexes': [1],
        'pretrain_image_size': 28,
      },
      'fpn_hidden_size': 32,
      'backbone_feature_sizes': [[16, 16], [8, 8], [4, 4]],
    },
    'text_config': {
      'model_type': 'clip_text_model',
      **_TEXT_TOWER,
      'max_position_embeddings': 32,
      'projection_dim': 16,
    },
    'geometry_encoder_config': layers,
    'detr_encoder_config': layers,
    'detr_decoder_config': {**layers, 'num_queries': 5},
    'mask_decoder_config': part,
  }


def _sam3_images():
  return transformers.Sam3ImageProcessor(size={'height': _SAM3_SIDE, 'width': _SAM3_SIDE})


def _clip_tokenizer(max_tokens):
  vocab = {word: index for index, word in enumerate(_CLIP_WORDS)}
  return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=max_tokens)


def _save(folder, model, processor):
  folder = pathlib.Path(folder)
  model.eval().save_pretrained(folder)
  processor.save_pretrained(folder)
  return folder
