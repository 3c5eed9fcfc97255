"""Files that grow, in a bucket."""

import time
import uuid

import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime import output_folder
from zsar_jax.runtime.output_folder import OutputFolder
from zsar_jax.runtime.paths import as_path


@pytest.fixture
def folder():
  """A folder in fsspec's bucket in memory."""
  return as_path(f'memory://{uuid.uuid4().hex}/run', '--workdir')


def test_a_local_folder_is_written_in_place(tmp_path):
  outputs = OutputFolder(tmp_path)
  assert outputs.path is tmp_path
  assert outputs.fetch('log.txt') == tmp_path / 'log.txt'
  outputs.flush()
  outputs.close()
  assert tmp_path.is_dir()


def test_a_file_grows_over_several_starts(folder):
  for number in (1, 2):
    outputs = OutputFolder(folder)
    with outputs.fetch('log.txt').open('a') as file:
      file.write(f'start {number}\n')
      file.flush()
      outputs.flush()
      assert (folder / 'log.txt').read_text().endswith(f'start {number}\n')
      file.write('end\n')
    (outputs.path / 'log.txt.12345678.tmp').write_text('not complete')
    (outputs.path / 'deep').mkdir()
    (outputs.path / 'deep' / str(number)).write_text('x')
    outputs.close()
    assert not outputs.path.exists()
  assert (folder / 'log.txt').read_text() == 'start 1\nend\nstart 2\nend\n'
  assert sorted(path.name for path in (folder / 'deep').iterdir()) == ['1', '2']
  assert sorted(path.name for path in folder.iterdir()) == ['deep', 'log.txt']


def test_only_what_changes_is_copied_and_failures_are_repeated(folder, monkeypatch, capfd):
  monkeypatch.setattr(output_folder, '_SECONDS', 0.02)
  copied, failing = [], [True]
  put = type(folder.fs).pipe_file

  def pipe_file(fs, path, content, **more):
    if failing:
      raise ConnectionError('no answer')
    copied.append((path.rpartition('/')[2], content))
    return put(fs, path, content, **more)

  monkeypatch.setattr(type(folder.fs), 'pipe_file', pipe_file)
  outputs = OutputFolder(folder)
  (outputs.path / 'a').write_text('1')
  time.sleep(0.2)
  with pytest.raises(UserError, match='^--workdir: .*: it does not answer .no answer'):
    outputs.flush()
  failing.clear()
  time.sleep(0.2)
  (outputs.path / 'b').write_text('2')
  outputs.close()
  assert copied == [('a', b'1'), ('b', b'2')]
  assert capfd.readouterr().err.count('will be later') == 1


def test_an_error_of_the_run_is_not_hidden(folder, monkeypatch):
  outputs = OutputFolder(folder)
  (outputs.path / 'a').write_text('1')

  def refuse(*_, **__):
    raise PermissionError('Forbidden')

  monkeypatch.setattr(type(folder.fs), 'pipe_file', refuse)
  outputs.close(failed=True)
  assert not outputs.path.exists()
