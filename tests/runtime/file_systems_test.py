"""File systems without locks, without replacing files, without fsync."""

import errno
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.toy import build_toy
from zsar_jax.data.dataset import open_dataset
from zsar_jax.runtime import checksums, file_systems, locks
from zsar_jax.runtime.files import write_file

ROOT = pathlib.Path(__file__).parents[2]


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


# TensorStore calls the system directly, so that a library must replace the functions.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
int flock(int file, int how) { errno = ENOLCK; return -1; }
int fsync(int file) { errno = ENOSYS; return -1; }
int fdatasync(int file) { errno = ENOSYS; return -1; }
int rename(const char *from, const char *to) {
  struct stat target;
  if (stat(to, &target) == 0 && S_ISREG(target.st_mode)) { errno = EEXIST; return -1; }
  return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
"""

SAVING = """
import pathlib, sys
import jax, jax.numpy as jnp
from zsar_jax.weights.checkpoint import Checkpoints

with Checkpoints(pathlib.Path(sys.argv[1]), keep=2) as checkpoints:
  for step in (1, 2):
    checkpoints.save(step, {'x': step * jnp.arange(1000.0), 'y': jnp.ones(3)}, {'step': step})
  checkpoints.wait()
  like = {name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=jax.sharding.SingleDeviceSharding(
    jax.devices()[0])) for name, shape in (('x', (1000,)), ('y', (3,)))}
  step, state = checkpoints.read_newest(lambda step: checkpoints.restore(step, like))
  print(step, float(state['x'][999]), checkpoints.meta(step))
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('gcc') or sys.platform != 'linux', reason='preloads a library')
def test_checkpoints_are_written_without_the_features(tmp_path):
  (tmp_path / 'shim.c').write_text(SHIM)
  shim = str(tmp_path / 'shim.so')
  subprocess.run(['gcc', '-shared', '-fPIC', '-o', shim, tmp_path / 'shim.c', '-ldl'], check=True)
  done = subprocess.run(
    [sys.executable, '-c', SAVING, tmp_path / 'run'],
    cwd=ROOT,
    env=os.environ | {'LD_PRELOAD': shim, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.stdout == "2 1998.0 {'step': 2}\n", done.stderr
  assert done.stderr.count('warning') == 1
