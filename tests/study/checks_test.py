"""Data that a study refuses."""

import pytest
from ml_collections import ConfigDict

from tests.toy import Toy, ToyTask, build_toy
from tests.training.loop_test import toy_config
from zsar_jax.config import dataset_ref
from zsar_jax.datasets.build import build
from zsar_jax.errors import UserError
from zsar_jax.study.checks import check_data
from zsar_jax.study.plan import default_study, experiment, plan, run


class Unmasked(Toy):
  """A data set with regions, whose clips are not annotated."""

  name = 'unmasked'

  def tasks(self):
    """Six of each split."""
    return {
      split: [ToyTask(f'{split}{i}', i % 5, 6, (False,)) for i in range(6)]
      for split in ('train', 'validation')
    }


class Unknown(Unmasked):
  """A data set without regions."""

  name = 'unknown'
  region_names = ()


@pytest.fixture(scope='module', name='data_dir')
def _data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  build(Unmasked(folder), workers=0)
  build(Unknown(folder), workers=0)
  return build_toy(folder)


def _jobs(data_dir, tmp_path, dataset='toy', classes='all', **changes):
  base = toy_config(data_dir, recipe='none')
  base.eval.recipes = ('none', 'background=normal')
  base.eval.datasets = ConfigDict({'here': dataset_ref(dataset, 'validation', classes)})
  base.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
  study = default_study()
  study.experiments.exp = experiment(base, 'none', {'none': run('unmasked')})
  return plan(study, tmp_path)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'dataset': 'nothing'}, 'nothing'),
    ({'classes': ('resting',)}, "it has only the class 'resting'"),
    ({'classes': ('sleeping', 'resting')}, 'sleeping'),
    ({'dataset': 'unmasked'}, 'no frame of the 6 clips of unmasked is annotated'),
    ({'dataset': 'unmasked', 'view__unannotated': 'drop'}, 'no clip of unmasked'),
    ({'dataset': 'unknown'}, 'is annotated with nothing'),
    ({'data__train__dataset': ''}, 'config.data.train.dataset names no data set'),
  ],
)
def test_unusable_data_is_refused(data_dir, tmp_path, changes, words):
  with pytest.raises(UserError) as error:
    check_data(_jobs(data_dir, tmp_path, **changes))
  assert words in str(error.value)


def test_data_with_masks_passes(data_dir, tmp_path):
  check_data(_jobs(data_dir, tmp_path))
