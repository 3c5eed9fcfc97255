"""The command `zsar`, the names of packaged configs, and completion in shells."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from zsar_jax import command_line
from zsar_jax.errors import UserError
from zsar_jax.tools import completion, zsar

ROOT = pathlib.Path(__file__).parents[2]


def test_every_command_is_a_program():
  for command in zsar.COMMANDS.values():
    spec = importlib.util.find_spec(command.module)
    assert "if __name__ == '__main__':" in pathlib.Path(spec.origin).read_text()
  programs = {path.stem for path in (ROOT / 'tools').glob('*.py') if '__main__' in path.read_text()}
  modules = {command.module.rpartition('.')[2] for command in zsar.COMMANDS.values()}
  assert programs - {'zsar'} == modules - {'main'}


def test_tools_and_configs_do_not_import_each_other_by_top_level_names():
  """A wheel has no packages `tools` and `configs`."""
  for path in [*(ROOT / 'tools').rglob('*.py'), *(ROOT / 'configs').glob('*.py')]:
    for node in ast.walk(ast.parse(path.read_text())):
      names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      if isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module]
      assert not {name.partition('.')[0] for name in names} & {'tools', 'configs'}, path


def test_the_list_of_commands_and_a_misspelled_command(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['zsar'])
  zsar.main()
  listed = capsys.readouterr().out
  assert all(f'  {name} ' in listed for name in zsar.COMMANDS)
  monkeypatch.setattr(sys, 'argv', ['zsar', 'predikt', 'clip.mp4'])
  with pytest.raises(SystemExit) as status:
    zsar.main()
  assert status.value.code == 2
  assert capsys.readouterr().err == "error: zsar has no command 'predikt'; did you mean predict?\n"


def test_packaged_configs_have_names(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text('')
  (tmp_path / 'pantomime').mkdir()
  packaged = ROOT / 'zsar_jax' / 'configs' / 'pantomime.py'
  assert command_line.resolve_config_file('pantomime') == str(packaged)
  assert command_line.resolve_config_file('pantomime:none') == f'{packaged}:none'
  assert command_line.resolve_config_file('mine.py:a:b') == 'mine.py:a:b'
  assert command_line.resolve_config_file('./mine.py') == './mine.py'
  for text, words in (
    ('pantomine', "no packaged config is named 'pantomine'; did you mean pantomime"),
    ('nothing', 'there are debiasing, k400_bgmask'),
    ('configs/pantomime.py', 'configs/pantomime.py is not there; .*--config=pantomime$'),
    ('yours.py', 'yours.py is not there'),
  ):
    with pytest.raises(UserError, match=words):
      command_line.resolve_config_file(text)
  assert {'pantomime', 'zeroshot_eval'} <= set(command_line.config_names(studies=False))
  assert {'pantomime_study', 'paper_ssv2'} <= set(command_line.config_names(studies=True))
  assert 'full_size' not in command_line.config_names(studies=False)  # It has no experiment.


# (words before the cursor, completions)
COMPLETIONS = [
  (['pre'], ['predict']),
  (['train', '--w'], ['--workdir']),
  (['train', '--config', '=', 'pan'], ['pantomime']),
  (['train', '--config', 'pan'], ['pantomime']),
  (['train', '--mode', '=', ''], ['train', 'eval']),
  (['predict', '--'], ['--classes']),
]


@pytest.mark.parametrize(('words', 'offered'), COMPLETIONS)
def test_bash_completes(words, offered):
  commands = {
    'train': {
      '--config': ['pantomime', 'ssv2_objmask'],
      '--mode': ['train', 'eval'],
      '--workdir': [],
    },
    'predict': {'--classes': []},
  }
  script = completion.SCRIPTS['bash'](commands)
  quoted = ' '.join(f"'{word}'" for word in ['zsar', *words])
  script += f'COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _zsar; echo "${{COMPREPLY[@]}}"'
  done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True)
  assert done.stdout.split() == offered


def test_completed_flags_are_those_of_the_help():
  flags = completion.flags_of('split')
  assert flags['--kind'] == ['base-to-novel', 'difference', 'intersection', 'random']
  assert flags['--out'] == []
  # Programs with absl flags, of which a process can define each name only once.
  for name in ('train', 'plan'):
    assert 'pantomime' in completion.flags_of(name)['--config']
  assert completion.flags_of('train')['--mode'] == ['train', 'eval']
  assert 'pantomime_study' in completion.flags_of('study')['--config']


@pytest.mark.slow
def test_a_wheel_works_beside_packages_of_the_same_names(tmp_path):
  """The current folder has packages `tools` and `configs` of the user's own."""
  pytest.importorskip('setuptools')
  build = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation']
  copy = tmp_path / 'source'
  listed = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True)
  for name in listed.stdout.splitlines():
    target = copy / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if (ROOT / name).is_symlink():
      target.symlink_to(os.readlink(ROOT / name))
    else:
      target.write_bytes((ROOT / name).read_bytes())
  subprocess.run([*build, f'--wheel-dir={tmp_path}', str(copy)], check=True)
  (wheel,) = tmp_path.glob('*.whl')
  with zipfile.ZipFile(wheel) as file:
    file.extractall(tmp_path / 'installed')
  tops = {path.name for path in (tmp_path / 'installed').iterdir()}
  assert {name for name in tops if not name.endswith('.dist-info')} == {'zsar_jax'}
  for name in ('tools', 'configs'):
    (tmp_path / 'user' / name).mkdir(parents=True)
    (tmp_path / 'user' / name / '__init__.py').write_text('raise ImportError("the user\'s own")')
  environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'installed'), 'JAX_PLATFORMS': 'cpu'}
  for words, expected in (
    (['train', '--config=pantomime:none', '--workdir=w', '--config.steps=0'], 'config.steps: 0'),
    (['study', '--config=pantomime_study', '--workdir=w', '--only=a/b/1'], "'a/b/1' is not a run"),
    (['show', '--dataset-dir=nowhere', '--out=a.png'], 'nowhere is not a folder'),
  ):
    done = subprocess.run(
      [sys.executable, '-m', 'zsar_jax.tools.zsar', *words],
      cwd=tmp_path / 'user',
      env=environment,
      capture_output=True,
      text=True,
      check=False,
    )
    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
