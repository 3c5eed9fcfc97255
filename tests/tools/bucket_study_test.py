"""A study in a bucket that is killed and resumed: the same as one on a disk."""

import json
import time

import pytest

from tests.tools.bias_study_test import _config, _start  # noqa: F401, the fixture `config`
from zsar_jax.storage.paths import as_path


def finish(process):
  out, err = process.communicate()
  assert process.returncode == 0, err
  return out.splitlines()[-1]


@pytest.mark.slow
def test_a_killed_study_in_a_bucket_equals_one_on_a_disk(config, tmp_path, s3_bucket):
  disk = tmp_path / 'study'
  finish(_start(config, disk))
  workdir = as_path(s3_bucket, '--workdir')
  process = _start(config, workdir)
  complete = 'toy/*/seed1/checkpoints/*/commit_success.txt'
  while process.poll() is None and not list((workdir / 'runs').glob(complete)):
    time.sleep(0.1)
  process.kill()
  process.communicate()
  assert not (workdir / 'study.json').exists()
  assert finish(_start(config, workdir)) == f'{workdir}/report.html'

  def study(folder):
    content = json.loads((folder / 'study.json').read_text())
    del content['created'], content['command']
    return json.loads(json.dumps(content).replace(str(folder), 'FOLDER'))

  assert study(workdir) == study(disk)

  def files(folder):
    paths = (path for path in folder.rglob('*') if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return {name for name in names if not name.startswith('runs/')}

  assert files(workdir) == files(disk)
  for name in files(disk):
    # Pages state when they were made.
    if name.startswith(('paper/', 'gallery/')) and not name.endswith('.pdf'):
      assert (workdir / name).read_bytes() == (disk / name).read_bytes(), name
  log = ''.join(path.read_text() for path in (workdir / 'runs').glob('toy/*/seed1/log.txt'))
  assert 'resuming' in log
