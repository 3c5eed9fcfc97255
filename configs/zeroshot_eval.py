"""The field's zero-shot protocols for models trained on Kinetics-400.

    configs/zeroshot_eval.py           all classes, as in the literature
    configs/zeroshot_eval.py:unseen    UCF101 and HMDB51 without the classes that have K400's names
    configs/zeroshot_eval.py:smoke     the same code in a minute on a CPU: a tiny model, two splits

For --mode=eval of a trained run, whose config.model and config.view must be given if they are not
those of configs/full_size.py. UCF101 and HMDB51 are three test splits each. The literature counts
all of their classes, though 22 and 2 have names that Kinetics-400 has too. Kinetics-600 is three
draws of 160 of the 220 classes that Kinetics-400 does not have. The commands that make the files
in splits/ are in docs/evaluation.md.
"""

from ml_collections import ConfigDict

from zsar_jax.configs.full_size import full_size, kinetics_evaluation, shrink

VARIANTS = ('', 'unseen', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """The config of one variant, see the head of this file."""
  config = full_size()
  config.text.templates = ('a video of a person {}.',)
  config.eval.recipes = ('none',)
  kinetics_evaluation(config)
  if variant == 'unseen':
    for reference in config.eval.datasets.values():
      if reference.dataset != 'kinetics600':
        reference.classes = f'splits/{reference.dataset}_outside_k400.json:difference'
    config.eval.allow_seen_classes = False
  elif variant:
    shrink(config, variant)
    names = ('ucf101_1', 'ucf101_2')
    config.eval.datasets = ConfigDict({name: config.eval.datasets[name] for name in names})
    config.eval.groups = ConfigDict({'ucf101': names})
  return config
