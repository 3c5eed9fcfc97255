"""X-CLIP's zero-shot training on Kinetics-400 (arXiv 2208.02816, B/16).

    configs/xclip_k400.py          10 epochs of 32 frames
    configs/xclip_k400.py:smoke    the same code in a minute on a CPU: a tiny model, few steps

The text tower and the logit scale are frozen, so class texts are encoded once. The learning rate of
what X-CLIP adds to CLIP is ten times as high. Epochs and frames are the paper's, because the code
has no zero-shot config. Deliberate differences: see configs/vifi_clip_k400.py.
"""

from ml_collections import ConfigDict

from zsar_jax.configs.full_size import full_size, shrink_kinetics, vifi_and_xclip_training

VARIANTS = ('', 'smoke')

# The parameters that X-CLIP adds to CLIP.
_ADDED = r'.*/message_\w+/.*|temporal/.*|video_prompts/.*'


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
  config = full_size()
  vifi_and_xclip_training(config)
  config.model.temporal = 'xclip'
  config.model.temporal_layers = 1
  config.model.allow_missing = (_ADDED,)
  config.text.templates = ('{}',)
  config.optim.lr_rules = (('text/.*|logit_scale', 0.0), (_ADDED, 10.0))
  config.optim.decay_rules = (('.*(bias|scale|embedding|alpha)', 0.0),)
  if variant:
    shrink_kinetics(config, variant)
  return config
