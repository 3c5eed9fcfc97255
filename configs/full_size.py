"""What the experiments on real data have in common, and their variant `smoke`."""

from ml_collections import ConfigDict

from zsar_jax.config import default_config
from zsar_jax.errors import UserError


def full_size() -> ConfigDict:
  """A ViT-B/16 that starts from CLIP's weights, with ViFi-CLIP's optimizer (arXiv 2212.03640)."""
  config = default_config()
  config.data.batch_size = 256
  config.data.workers = 14
  config.view.num_frames = 8
  config.view.interpolation = 'bicubic'
  config.augment.jitter = 0.8
  config.augment.greyscale = 0.2
  config.model.preset = 'vit_b16'
  config.model.dtype = 'bfloat16'
  config.model.init_from = 'weights/clip_vit_b16'
  config.optim.lr = 8e-6
  config.optim.accumulation = 8
  config.eval.batch_size = 128
  return config


def shrink(config: ConfigDict, variant: str) -> None:
  """Shrinks an experiment to about a minute on two CPU cores and a handful of clips.

  Args:
    config: changed in place.
    variant: what the config file was asked for.

  Raises:
    UserError: if that is not 'smoke'.
  """
  if variant != 'smoke':
    raise UserError(f'the config has no variant {variant!r}; there is smoke')
  config.data.batch_size = 4
  config.data.workers = 0
  config.view.num_frames = 4
  config.view.size = 48
  config.model.preset = 'tiny'
  config.model.dtype = 'float32'
  config.model.init_from = ''
  config.text.tokenizer = 'words'
  config.optim.lr = 1e-3
  config.optim.warmup_steps = 5
  config.optim.accumulation = 2
  config.steps = 40
  config.checkpoint.every = 5
  config.log.every = 1
  config.eval.batch_size = 4
