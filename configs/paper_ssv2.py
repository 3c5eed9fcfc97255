"""The study of arXiv 2501.12681 on Something-Something v2: background and objects masked.

    configs/paper_ssv2.py          ViT-B/16 from CLIP's weights, three seeds
    configs/paper_ssv2.py:smoke    the same code in minutes on a CPU; one seed, tiny

    zsar study --config=paper_ssv2 --workdir=studies/ssv2

Objects are masked by their boxes, by their shapes, and together with the background in a second
color. If the data has only boxes, they are used as shapes. For settings that the paper does not
specify, see configs/ssv2_objmask.py.
"""

from ml_collections import ConfigDict

from zsar_jax.configs import ssv2_objmask
from zsar_jax.configs.pantomime_study import PROBES
from zsar_jax.study.plan import default_study, experiment, finding, run

VARIANTS = ('', 'smoke')


def get_config(variant: str = '') -> ConfigDict:
  """Returns the study of a variant; the docstring of this file lists them."""
  base = ssv2_objmask.get_config(variant)
  base.recipe = 'none'
  base.eval.recipes += PROBES
  base.eval.saliency = 256
  study = default_study()
  study.title = 'Does the model see the action? Something-Something v2'
  study.about = (
    'Hands that do something with something: what is handled gives much of the action away. Half of'
    ' the classes are in training, the other half is evaluated.'
  )
  if variant:
    study.seeds = (1,)
  study.experiments.ssv2 = experiment(
    base,
    'unmasked',
    {
      'unmasked': run('trained on unpainted clips'),
      'background': run('background painted', {'recipe': 'background=normal'}),
      'object_box': run("objects' boxes painted", {'recipe': 'object_box=normal'}),
      'object': run("objects' shapes painted", {'recipe': 'object=normal'}),
      'both': run(
        'background and objects in two colors', {'recipe': 'background=normal,object=normal'}
      ),
    },
    'Trained on Something-Something v2.',
  )
  if not variant:
    study.findings = (
      finding(
        'Two colors help',
        'Training with background and objects painted in two colors gains accuracy.',
        better=('ssv2', 'both', 'ssv2_novel', 'none'),
        worse=('ssv2', 'unmasked', 'ssv2_novel', 'none'),
        threshold=0.0,
      ),
    )
  return study
