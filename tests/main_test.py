"""The command line: every mistake gives one sentence and exit status 2."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PANTOMIME = '--config=configs/pantomime.py'


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    ([PANTOMIME, '--workdir='], ['--workdir']),
    ([PANTOMIME, '--workdir=nothing://run'], ['--workdir: nothing://run cannot be opened']),
    ([PANTOMIME, '--config.optim.lrr=3'], ['--config.optim.lrr', "did you mean 'lr'?"]),
    ([PANTOMIME, '--config.optim.lr=abc'], ["--config.optim.lr: 'abc' is no number"]),
    (['--config=configs/pantomine.py'], ['configs/pantomine.py', 'not there']),
    ([f'{PANTOMIME}:nope'], ["no variant 'nope'", 'tabletop']),
    ([PANTOMIME, '--config.recipe=background'], ['config.recipe', 'character 1']),
    (['--config=broken.py'], ['broken.py, line 2: ZeroDivisionError: division by zero']),
    (['--config=lacking.py'], ["lacking.py, line 1: ModuleNotFoundError: No module named 'nope'"]),
    (['--config=misspelt.py'], ['misspelt.py', "no key 'recipes'", "'recipe'"]),
    (
      ['--config=configs/ssv2_objmask.py', '--config.data.dir=nowhere'],
      ['nowhere', 'zsar build-dataset'],
    ),
  ],
)
def test_mistakes(tmp_path, flags, words):
  (tmp_path / 'misspelt.py').write_text(
    'from zsar_jax.config import default_config\n'
    'def get_config():\n'
    '  config = default_config()\n'
    "  config.recipes = 'none'\n"
    '  return config\n'
  )
  (tmp_path / 'broken.py').write_text('def get_config():\n  return 1 / 0\n')
  (tmp_path / 'lacking.py').write_text('import nope\n')
  for name in ('misspelt.py', 'broken.py', 'lacking.py'):
    flags = [flag.replace(name, str(tmp_path / name)) for flag in flags]
  done = subprocess.run(
    [sys.executable, '-m', 'zsar_jax.main', f'--workdir={tmp_path / "run"}', *flags],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  sentences = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
  assert len(sentences) == 1
  assert 'Traceback' not in done.stderr
  for word in words:
    assert word in sentences[0]
  assert not (tmp_path / 'run').exists()
