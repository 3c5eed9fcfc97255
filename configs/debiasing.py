"""Published debiasing methods, as changes of any experiment.

    configs/debiasing.py:METHOD          METHOD on Kinetics400, otherwise as configs/k400_bgmask.py
    configs/debiasing.py:METHOD,smoke    the same code in a minute on a CPU

docs/bias.md explains each method and its differences from the publication. The study
configs/pantomime_study.py:baselines compares all methods.
"""

from typing import Any

from ml_collections import ConfigDict

from zsar_jax.config import set_value
from zsar_jax.configs import k400_bgmask
from zsar_jax.errors import UserError

# {method: (a phrase for the report, {config field: value})}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
  'colour': ('background painted (arXiv 2501.12681)', {'recipe': 'background=normal'}),
  'half': ('background painted in every second clip', {'recipe': 'background=normal@0.5'}),
  'mean': ('background filled with the mean color (HAT)', {'recipe': 'background=mean'}),
  'swap': ("another clip's background (HAT)", {'recipe': 'background=swap@0.5'}),
  'actorcutmix': ('ActorCutMix', {'recipe': 'actorcutmix@0.5'}),
  'be': ('background erasing (BE)', {'recipe': 'be@0.5'}),
  'fame': ('FAME', {'recipe': 'fame@0.5'}),
  'stillmix': ('StillMix with frames of other clips', {'recipe': 'stillmix@0.5'}),
  'stillmix_bank': (
    'StillMix with frames that give the action away',
    {'recipe': 'stillmix_bank@0.5'},
  ),
  'sdn': ('human-mask confusion loss (SDN)', {'optim.confusion': 0.5}),
  'albar': (
    'static-clip losses (ALBAR)',
    {
      'optim.still_clip.static': 1.0,
      'optim.still_clip.entropy': 4.25,
      'optim.still_clip.gradient': 10.0,
    },
  ),
}

VARIANTS = (*METHODS, *(f'{method},smoke' for method in METHODS))


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a method; see the docstring of this file."""
  method, _, size = variant.partition(',')
  if method not in METHODS:
    raise UserError(
      f'the config debiasing has no method {method!r}; there are {", ".join(METHODS)}'
    )
  config = k400_bgmask.get_config(size)
  config.recipe = 'none'
  for field, value in METHODS[method][1].items():
    set_value(config, field, value)
  return config
