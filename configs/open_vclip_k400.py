"""Attention to neighboring frames: Open-VCLIP (arXiv 2302.00624) and FROSTER (2402.03241), B/16.

    configs/open_vclip_k400.py            22 epochs of 8 frames; the text tower is frozen
    configs/open_vclip_k400.py:froster    both towers are trained, with distillation from CLIP
    configs/open_vclip_k400.py:smoke      the same code in a minute on a CPU: a tiny model

Both evaluate the average of the weights after each epoch from the second on; Open-VCLIP evaluates
half-way between this average and CLIP's weights. Not included are Open-VCLIP's interpolated weight
optimization (a second training loss at interpolated weights), its 28 templates, and FROSTER's class
descriptions by a language model (set config.text.templates to your own texts). A clip is one frame
of each of 8 segments; the originals take 8 frames at a stride of 16 from a random start.
"""

from ml_collections import ConfigDict

from zsar_jax.configs.full_size import (
  KINETICS_CLIPS,
  full_size,
  kinetics_epochs,
  kinetics_evaluation,
  shrink_kinetics,
)

VARIANTS = ('', 'froster', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
  config = full_size()
  config.data.batch_size = 64
  kinetics_epochs(config, epochs=22, warmup=2)
  kinetics_evaluation(config)
  config.view.interpolation = 'bilinear'
  # A crop of 224 pixels from a short side of 224 to 256, in evaluation from one of 224.
  config.view.crop_side = (0.875, 1.0)
  config.view.centre_crop = 1.0
  config.augment.flip = 0.5
  config.augment.jitter = 0.0
  config.augment.greyscale = 0.0
  config.model.temporal = 'window'
  config.optim.lr = 3.33e-6
  config.optim.cosine_from = 'warmup'
  config.optim.b2 = 0.999
  config.optim.max_logit_scale = 1e6
  config.optim.weight_decay = 0.01
  # Weight decay applies to everything but vectors; the logit scale, a scalar, decays too.
  config.optim.decay_rules = (('.*/(bias|scale|class_embedding)', 0.0),)
  config.optim.accumulation = 1
  epoch = KINETICS_CLIPS // config.data.batch_size
  config.optim.average_every, config.optim.average_from = epoch, 2 * epoch
  config.eval.clips = 3
  config.eval.view_mean = 'logits'
  if variant == 'froster':
    config.optim.distillation = 2.0
    config.model.allow_missing = ('distillation/.*',)
    return config
  config.optim.lr_rules = (('text/.*', 0.0),)
  config.eval.interpolate = 0.5
  if variant:
    shrink_kinetics(config, variant)
    config.eval.interpolate = 0.0
    config.optim.average_every, config.optim.average_from = 10, 10
  return config
