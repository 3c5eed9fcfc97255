"""Logits of exported clips: the figures against those of `zsar eval`, and refusals."""

import pytest
from ml_collections import ConfigDict

from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax.config import dataset_ref
from zsar_jax.pantomime import worlds


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('toy')
  worlds.build_worlds(folder, ['pantomime/scenes'])
  return build_toy(folder)


def make_config(data_dir, **changes):
  config = toy_config(data_dir, model__temporal='mean', **changes)
  config.eval.recipes = ('none', 'background=normal', 'background=swap')
  config.eval.datasets = ConfigDict(
    {'scenes': dataset_ref('pantomime/scenes', 'test'), 'toy': dataset_ref('toy', 'validation')}
  )
  return config
