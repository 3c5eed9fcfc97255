"""ViFi-CLIP's zero-shot training on Kinetics-400 (arXiv 2212.03640, B/16).

    configs/vifi_clip_k400.py            both towers are trained; the published 10 epochs
    configs/vifi_clip_k400.py:prompts    CLIP is frozen and prompts are learnt in both towers
    configs/vifi_clip_k400.py:smoke      the same code in a minute on a CPU: a tiny model, few steps

What differs from its code on purpose, here and in the other published recipes (docs/models.md says
more): frames are normalised with CLIP's constants, not ImageNet's; colour jitter is drawn once for
a clip, not for each frame; mixing is drawn for each clip, not for each micro-batch of 4; no clip is
dropped at evaluation.
"""

from ml_collections import ConfigDict

from configs.full_size import full_size, kinetics_epochs, kinetics_evaluation, shrink_kinetics

VARIANTS = ('', 'prompts', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """The config of one variant, see the head of this file."""
  config = full_size()
  kinetics_epochs(config, epochs=10, warmup=5)
  kinetics_evaluation(config)
  config.view.num_frames = 32
  # MultiScaleCrop's squares, 1 to 0.66 of the short side, of 4:3 videos.
  config.view.crop_scale = (0.33, 0.75)
  config.view.crop_ratio = (1.0, 1.0)
  config.augment.flip = 0.5
  config.augment.mixup = 0.8
  config.augment.cutmix = 1.0
  config.text.templates = ('a photo of a {}.',)
  config.optim.label_smoothing = 0.1
  config.optim.clip_norm = 0.0
  # Its class embeddings begin with the embeddings of tokens as a constant.
  config.optim.lr_rules = (('text/token_embedding/.*', 0.0),)
  if variant == 'prompts':
    config.model.prompts.image = config.model.prompts.text = 10
    config.model.prompts.depth = 12
    config.model.allow_missing = ('(visual|text)/prompts/.*',)
    config.text.templates = ('{}.',)
    config.optim.lr = 8e-3
    config.optim.lr_rules = (('(visual|text)/prompts/.*', 1.0), ('.*', 0.0))
  elif variant:
    shrink_kinetics(config, variant)
  return config
