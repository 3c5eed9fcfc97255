"""A config: CLIP's B/16 with two blocks in each tower on Pantomime's clips at 224 pixels.

It is large enough to load a GPU, and compiles in seconds.

    shallow.py            in bfloat16
    shallow.py:float32    in float32, so slow on a GPU that the host has time to load the clips
"""

import functools

from ml_collections import ConfigDict

from configs import pantomime
from zsar_jax.models import from_config, presets


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config, and has programs of this process build the preset with fewer blocks."""
  from_config.preset = functools.partial(presets.preset, image_layers=2, text_layers=2)
  config = pantomime.get_config('none')
  config.model.preset = 'vit_b16'
  config.model.temporal = 'mean'
  config.model.dtype = variant or 'bfloat16'
  config.view.num_frames = 8
  config.view.size = 224
  config.data.batch_size = 32
  config.data.embedded = False
  config.eval.datasets = ConfigDict()
  config.checkpoint.every = config.steps = 30
  config.log.every = 1
  return config
