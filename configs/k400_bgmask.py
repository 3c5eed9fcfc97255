"""Kinetics400 with the background painted over, evaluated on Kinetics400 and on Mimetics.

    configs/k400_bgmask.py          the setting of arXiv 2501.12681
    configs/k400_bgmask.py:smoke    the same code in a minute on a CPU: a tiny model, few steps

First build both data sets with person masks (zsar build-dataset --dataset=kinetics400 ...
--out=DIR, and the same with --dataset=mimetics) and set config.data.dir to DIR. Training leaves out
the 50 classes of Mimetics (kinetics400 has the class splits mimetics and without_mimetics), so that
both evaluations are zero-shot. Settings that the paper does not specify (frames, schedule, class
split) follow ViFi-CLIP (arXiv 2212.03640).
"""

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref
from zsar_jax.configs.full_size import full_size, shrink_kinetics

VARIANTS = ('', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
  config = full_size()
  config.data.train = dataset_ref('kinetics400', 'train', 'without_mimetics')
  config.augment.flip = 0.5
  config.recipe = 'background=normal'
  config.text.templates = ('a video of a person {}.',)
  # 10 epochs of about 210,000 clips, half of them warm-up.
  config.steps = 8200
  config.optim.warmup_steps = 4100

  config.eval.recipes = ('none', 'background=normal', 'person=normal')
  config.eval.datasets = ConfigDict(
    {
      'kinetics400_novel': dataset_ref('kinetics400', 'validation', 'mimetics'),
      'mimetics': dataset_ref('mimetics', 'test'),
    }
  )
  if variant:
    shrink_kinetics(config, variant)
  return config
