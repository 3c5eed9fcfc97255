"""Pantomime is built for a run if its current version does not exist."""

import tensorflow_datasets as tfds

from zsar_jax.data import catalog, dataset
from zsar_jax.pantomime import worlds
from zsar_jax.pantomime.worlds import Pantomime


class _Small(Pantomime, skip_registration=True):
  name = Pantomime.name

  def __init__(self, data_dir, world):
    super().__init__(data_dir, world, train_clips=2, validation_clips=2, test_clips=2)


class _Old(_Small, skip_registration=True):
  name = Pantomime.name
  VERSION = tfds.core.Version('1.0.0')


def test_worlds_of_an_older_version_are_built_again_beside_it(tmp_path, monkeypatch):
  names = ['pantomime/scenes', 'other']
  monkeypatch.setattr(worlds, 'Pantomime', _Old)
  worlds.build_worlds(tmp_path, names)
  old = catalog.find_dataset(tmp_path, names[0])
  monkeypatch.setattr(worlds, 'Pantomime', _Small)
  worlds.build_worlds(tmp_path, names)
  new = catalog.find_dataset(tmp_path, names[0])
  assert (old.name, new.name) == ('1.0.0', str(Pantomime.VERSION))
  assert old.is_dir()
  assert len(dataset.open_dataset(tmp_path, names[0], 'test')) == 2
  written = (new / 'dataset_info.json').stat().st_mtime_ns
  worlds.build_worlds(tmp_path, names)
  assert (new / 'dataset_info.json').stat().st_mtime_ns == written
  assert catalog.list_datasets(tmp_path) == names[:1]
