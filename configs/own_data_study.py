"""A bias study of your own videos; docs/own_data.md lists the commands, from videos to the report.

    configs/own_data_study.py          ViT-B/16 with CLIP's weights; needs a GPU
    configs/own_data_study.py:small    a tiny model with random weights, some minutes on a CPU

    zsar study --config=own_data_study --workdir=studies/own

The variant `small` checks the data; its accuracies mean nothing. Copy this file and change it:
zsar_jax/config.py explains every setting.
"""

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref
from zsar_jax.configs.full_size import full_size, shrink
from zsar_jax.errors import UserError
from zsar_jax.study.plan import default_study, experiment, finding, run

VARIANTS = ('', 'small')

# The data set in config.data.dir, and the file with its classes for training ('base') and for
# zero-shot evaluation ('novel'). As no clip of a novel class is trained on, both may use the same
# split. If the data set has a test split, set TEST_SPLIT to it.
DATASET, CLASSES = 'own', 'splits/own.json'
TRAIN_SPLIT = TEST_SPLIT = 'train'

# The recipe in training and in evaluation; 'person' and 'object' are what the masks show.
PAINTED = 'background=normal'


def get_config(variant: str = '') -> ConfigDict:
  """Returns the study of a variant; the docstring of this file lists them."""
  if variant not in VARIANTS:
    raise UserError(f'the config own_data_study has no variant {variant!r}; there is small')
  base = full_size()
  base.data.batch_size, base.optim.accumulation = 32, 2
  base.data.workers = 4
  base.augment.flip = 0.5
  base.steps, base.optim.warmup_steps = 500, 50
  if variant:
    shrink(base, 'smoke')
    base.data.batch_size, base.steps = 8, 100
  base.data.train = dataset_ref(DATASET, TRAIN_SPLIT, f'{CLASSES}:base')
  base.eval.datasets = ConfigDict({'novel': dataset_ref(DATASET, TEST_SPLIT, f'{CLASSES}:novel')})
  # 'person=mean' and 'background=mean' give the report's BOR and HOR.
  base.eval.recipes = ('none', PAINTED, 'person=mean', 'background=mean')

  study = default_study()
  study.title = 'Does the model see the action? Our own videos'
  study.seeds = (1, 2) if variant else (1, 2, 3)
  study.experiments.own = experiment(
    base,
    'plain',
    {'plain': run('as they are'), 'painted': run('background painted', {'recipe': PAINTED})},
  )
  study.findings = (
    finding(
      'The model leans on the background',
      'Painting the background at validation costs the plainly trained model accuracy.',
      better=('own', 'plain', 'novel', 'none'),
      worse=('own', 'plain', 'novel', PAINTED),
      threshold=0.0,
    ),
    finding(
      'Painting backgrounds in training helps',
      'Training with the background painted gains accuracy on clips as they are.',
      better=('own', 'painted', 'novel', 'none'),
      worse=('own', 'plain', 'novel', 'none'),
      threshold=0.0,
    ),
  )
  return study
