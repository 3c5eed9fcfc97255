"""A bias study of your own videos; docs/own_data.md is the way there, command by command.

    configs/own_data_study.py          ViT-B/16 that starts from CLIP's weights; wants a GPU
    configs/own_data_study.py:small    a tiny model from random weights, some minutes on a CPU

    zsar study --config=own_data_study --workdir=studies/own

The small one shows that the data is right; its accuracies mean nothing. Copy this file and change
it: all settings and their meaning are in zsar_jax/config.py.
"""

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref
from zsar_jax.configs.full_size import full_size, shrink
from zsar_jax.errors import UserError
from zsar_jax.study.plan import default_study, experiment, finding, run

VARIANTS = ('', 'small')

# The data set below config.data.dir, and the file of its classes for training ('base') and for
# zero-shot evaluation ('novel'). No clip of a novel class is trained on, so that both may be of one
# split; with a split of its own for testing, name that in TEST_SPLIT.
DATASET, CLASSES = 'own', 'splits/own.json'
TRAIN_SPLIT = TEST_SPLIT = 'train'

# In training and in evaluation; 'person' and 'object' are what the masks show.
PAINTED = 'background=normal'


def get_config(variant: str = '') -> ConfigDict:
  """The study of one variant, see the head of this file."""
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
  # Without the people and without the background: the report's BOR and HOR.
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
