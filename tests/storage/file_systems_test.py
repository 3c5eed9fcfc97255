"""File systems without locks, without replacing files, without fsync."""

import errno
import os

import pytest

from tests.toy import build_toy
from zsar_jax.data.dataset import open_dataset
from zsar_jax.errors import UserError
from zsar_jax.storage import checksums, file_systems, locks
from zsar_jax.storage.files import write_file


def remove_features(monkeypatch, number):
  """Makes locks, replacing and fsync fail in this process, as on a file system without them."""

  def fail(*args):
    raise OSError(number, os.strerror(number))

  replace = os.replace

  def rename(source, target):
    if os.path.isfile(target):
      raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source)
    replace(source, target)

  monkeypatch.setattr(file_systems.fcntl, 'flock', fail)
  monkeypatch.setattr(os, 'fsync', fail)
  monkeypatch.setattr(os, 'replace', rename)
  monkeypatch.setattr(os, 'rename', rename)
  monkeypatch.setattr(os, 'link', fail)
  monkeypatch.setattr(file_systems, '_missing', {})


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_files_are_written_with_one_warning(tmp_path, monkeypatch, capsys, number):
  remove_features(monkeypatch, number)
  with locks.lock_folder(tmp_path / 'run'), locks.lock_folder(tmp_path / 'run' / 'below'):
    for text in ('first', 'second'):
      write_file(tmp_path / 'run' / 'config.json', text)
      checksums.write(tmp_path / 'run')
  assert (tmp_path / 'run' / 'config.json').read_text() == 'second'
  assert checksums.find_damage(tmp_path / 'run') is None
  assert capsys.readouterr().err == (
    f'warning: the file system of {tmp_path / "run"} lacks locks, renaming over a file, fsync:'
    ' nothing keeps two processes from working in one folder; for a moment, other programs do'
    ' not find a file that is being replaced; what was written last may be lost where the machine'
    ' loses its power\n'
  )
  assert {path.name for path in (tmp_path / 'run').iterdir()} == {
    *('lock', 'below', 'config.json', 'checksums.json')
  }


def test_no_warning_for_other_file_systems(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(file_systems, '_missing', {})
  with locks.lock_folder(tmp_path):
    pass
  assert not capsys.readouterr().err


def test_other_errors_are_raised(tmp_path, monkeypatch):
  (tmp_path / 'source').touch()
  (tmp_path / 'target').mkdir()
  with pytest.raises(IsADirectoryError):
    file_systems.replace(tmp_path / 'source', tmp_path / 'target')
  remove_features(monkeypatch, errno.EIO)
  with (tmp_path / 'source').open() as file:
    for attempt in (lambda: file_systems.lock(file, wait=False), lambda: file_systems.sync(file)):
      with pytest.raises(OSError, match='Input/output'):
        attempt()


def test_data_sets_are_built_without_the_features(tmp_path, monkeypatch, capsys):
  for name in ('complete', 'limited'):
    (tmp_path / name).mkdir()
  build_toy(tmp_path / 'complete')
  remove_features(monkeypatch, errno.ENOSYS)
  build_toy(tmp_path / 'limited')
  assert capsys.readouterr().err.count('warning') == 1
  complete, limited = (tmp_path / name / 'toy' / '1.0.0' for name in ('complete', 'limited'))
  assert {path.name: path.read_bytes() for path in complete.iterdir()} == {
    path.name: path.read_bytes() for path in limited.iterdir()
  }
  assert len(open_dataset(tmp_path / 'limited', 'toy', 'train')) == 37


def test_a_process_that_dies_while_it_replaces_a_file_loses_nothing(tmp_path, monkeypatch):
  remove_features(monkeypatch, errno.ENOSYS)
  file_systems.missing_features(tmp_path)  # Renames files of its own.
  path = tmp_path / 'config.json'
  rename = os.rename

  class Killed(BaseException):
    pass

  def renaming_until(last):
    count = 0

    def renaming(source, target):
      nonlocal count
      count += 1
      if count == last:
        raise Killed
      rename(source, target)

    return renaming

  for last in (1, 2):
    write_file(path, 'old')
    monkeypatch.setattr(os, 'rename', renaming_until(last))
    with pytest.raises(Killed):
      write_file(path, 'new')
    monkeypatch.setattr(os, 'rename', rename)
    assert path.exists() == (last == 1)
    with locks.lock_folder(tmp_path):
      assert path.read_text() == 'old'
  write_file(path, 'new')
  (tmp_path / 'config.json.replaced').write_text('old')  # It died before it deleted this.
  with locks.lock_folder(tmp_path):
    assert path.read_text() == 'new'
  assert {path.name for path in tmp_path.iterdir()} == {'lock', 'config.json'}


def test_a_file_system_that_cannot_rename_folders_is_refused(tmp_path, monkeypatch):
  file_systems.check_moving(tmp_path, '--workdir')
  monkeypatch.setattr(file_systems, '_missing', {})
  rename = os.rename

  def renaming(source, target):
    # As gcsfuse, which renames empty folders.
    if os.path.isdir(source) and os.listdir(source):
      raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    rename(source, target)

  monkeypatch.setattr(os, 'rename', renaming)
  with pytest.raises(UserError, match='^--workdir: the file system of .* cannot rename a folder'):
    file_systems.check_moving(tmp_path, '--workdir')
  assert not list(tmp_path.iterdir())
