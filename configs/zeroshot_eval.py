"""The usual zero-shot protocols for models trained on Kinetics-400.

    configs/zeroshot_eval.py           all classes, as in the literature
    configs/zeroshot_eval.py:unseen    UCF101 and HMDB51 without classes named as one of K400
    configs/zeroshot_eval.py:smoke     the same code in a minute on a CPU: a tiny model, two splits

Use it with --mode=eval on a trained run, and give config.model and config.view of that run if they
differ from configs/full_size.py. UCF101 and HMDB51 have three test splits each. The literature
includes all of their classes, although 22 and 2 of them have the name of a class of Kinetics-400.
Kinetics-600 stands for three draws of 160 of the 220 classes that Kinetics-400 does not have.
docs/evaluation.md has the commands that make the files in splits/.
"""

from ml_collections import ConfigDict

from zsar_jax.configs.full_size import full_size, kinetics_evaluation, shrink

VARIANTS = ('', 'unseen', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
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
