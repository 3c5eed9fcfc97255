"""Pantomime, the embedded data set: figures that act in scenes, and hands that move objects.

    configs/pantomime.py                  trains on `scenes` with the background painted
    configs/pantomime.py:none             trains on unpainted `scenes`
    configs/pantomime.py:tabletop         trains on `tabletop` with background and object painted
    configs/pantomime.py:tabletop_none    trains on unpainted `tabletop`

Training uses the base classes; the novel classes are zero-shot.
"""

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref, default_config
from zsar_jax.errors import UserError

VARIANTS = {
  '': ('scenes', 'background=normal'),
  'none': ('scenes', 'none'),
  'tabletop': ('tabletop', 'background=normal,object=normal'),
  'tabletop_none': ('tabletop', 'none'),
}


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
  if variant not in VARIANTS:
    raise UserError(
      f'the config pantomime has no variant {variant!r}; there are'
      f' {", ".join(filter(None, VARIANTS))}'
    )
  world, recipe = VARIANTS[variant]
  config = default_config()
  config.data.embedded = True
  config.data.train = dataset_ref(f'pantomime/{world}', 'train', 'base')
  config.data.batch_size = 64
  config.view.num_frames = 4
  config.view.size = 48
  # The figures already vary in position, size and side from clip to clip.
  config.view.crop_scale = (0.95, 1.0)
  config.view.crop_ratio = (1.0, 1.0)
  config.view.centre_crop = 0.99
  config.recipe = recipe

  config.model.preset = 'tiny'
  config.model.temporal = 'transformer'
  config.model.temporal_layers = 2
  config.text.tokenizer = 'words'
  config.text.templates = ('{}',)

  config.optim.lr = 1e-3
  config.optim.warmup_steps = 50
  config.optim.weight_decay = 0.05
  config.steps = 500
  config.checkpoint.every = 100
  config.log.every = 20

  worlds = ('tabletop',) if world == 'tabletop' else ('scenes', 'mimes')
  config.eval.batch_size = 100
  # The data sets `*_all` include the base classes, for comparison with zero-shot classes.
  config.eval.allow_seen_classes = True
  config.eval.recipes = ('none', 'background=normal')
  if world == 'tabletop':
    config.eval.recipes += ('object=normal', 'background=normal,object=normal')
  config.eval.datasets = ConfigDict(
    {
      f'{world}_{classes}': dataset_ref(f'pantomime/{world}', 'validation', classes)
      for world in worlds
      for classes in ('novel', 'all')
    }
  )
  return config
