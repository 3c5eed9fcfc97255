"""The study of arXiv 2501.12681 on Kinetics400 and Mimetics: background and people masked.

    configs/paper_k400_mimetics.py          ViT-B/16 from CLIP's weights, three seeds
    configs/paper_k400_mimetics.py:smoke    the same code in minutes on a CPU; one seed, tiny

    zsar study --config=paper_k400_mimetics --workdir=studies/k400

Training leaves out the 50 classes of Mimetics, so that both evaluations are zero-shot. For the data
and for settings that the paper does not specify, see configs/k400_bgmask.py.
"""

from ml_collections import ConfigDict

from zsar_jax.configs import k400_bgmask
from zsar_jax.configs.pantomime_study import PROBES
from zsar_jax.study.plan import default_study, experiment, finding, run

VARIANTS = ('', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """Returns the study of a variant; the docstring of this file lists them."""
  base = k400_bgmask.get_config(variant)
  base.recipe = 'none'
  # Only people are annotated, so everything else is background.
  probes = tuple(recipe.removesuffix(',object=mean') for recipe in PROBES)
  base.eval.recipes = ('none', 'background=normal', 'person=normal', *probes)
  base.eval.saliency = 256
  study = default_study()
  study.title = 'Does the model see the action? Kinetics400 and Mimetics'
  study.about = (
    'Trained on the classes of Kinetics400 that Mimetics does not have, evaluated on those that it'
    ' has: in the scenes where they usually happen, and mimed elsewhere.'
  )
  if variant:
    study.seeds = (1,)
  study.experiments.kinetics = experiment(
    base,
    'unmasked',
    {
      'unmasked': run('trained on unpainted clips'),
      'background': run('background painted', {'recipe': 'background=normal'}),
      'person': run('people painted', {'recipe': 'person=normal'}),
    },
    'Trained on Kinetics400.',
  )
  if not variant:
    study.findings = findings()
  return study


def findings() -> tuple[ConfigDict, ...]:
  """Returns the paper's findings; it gives no numbers for these data, so any gain counts."""
  painted = 'background=normal'
  return (
    finding(
      'Models lean on the background',
      'Painting the background at validation costs accuracy on Kinetics400.',
      better=('kinetics', 'unmasked', 'kinetics400_novel', 'none'),
      worse=('kinetics', 'unmasked', 'kinetics400_novel', painted),
      threshold=0.0,
    ),
    finding(
      'Painting backgrounds in training helps on Mimetics',
      'Training with the background painted gains on Mimetics.',
      better=('kinetics', 'background', 'mimetics', 'none'),
      worse=('kinetics', 'unmasked', 'mimetics', 'none'),
      threshold=0.0,
    ),
    finding(
      'Also when the background is painted at validation',
      'Training with the background painted gains on Mimetics with its background painted.',
      better=('kinetics', 'background', 'mimetics', painted),
      worse=('kinetics', 'unmasked', 'mimetics', painted),
      threshold=0.0,
    ),
  )
