"""Runs on Weights & Biases: its own files, or what its server got, against metrics.jsonl."""

import json
import sys

import PIL.Image
import pytest

from tests.training.wandb_server import serve
from zsar_jax.errors import UserError
from zsar_jax.training.metric_writer import MetricWriter
from zsar_jax.training.wandb_run import WandbRun, read_rows

CONFIG = {'steps': 10, 'optim': {'lr': 1e-3}, 'eval': {'recipes': ['none']}}
EVALUATION = {'toy/none/top1': 0.5, 'toy/none/top5': 1.0, 'toy/background=normal/top1': 0.25}


@pytest.fixture
def wandb(monkeypatch, tmp_path):
  """The module, in offline mode and without the settings of this machine's user."""
  wandb = pytest.importorskip('wandb')
  for name in ('WANDB_API_KEY', 'WANDB_DIR', 'WANDB_PROJECT', 'WANDB_NAME', 'WANDB_ENTITY'):
    monkeypatch.delenv(name, raising=False)
  for name in ('HOME', 'WANDB_CONFIG_DIR', 'WANDB_CACHE_DIR', 'WANDB_DATA_DIR'):
    monkeypatch.setenv(name, str(tmp_path / 'home'))
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('NETRC', str(tmp_path / 'home' / 'netrc'))
  yield wandb
  wandb.teardown()


class Start:
  """One start of a run, as the training loop does it: an evaluation after each third step."""

  def __init__(self, wandb, workdir, first_step):
    def draw():
      return {'clips': wandb.Image(PIL.Image.new('RGB', (8, 6), 'red'))}

    self.wandb = wandb
    self.writer = MetricWriter(workdir, first_step, tensorboard=False)
    lacks = bool(first_step) and first_step % 3 == 0 and 'toy/none/top1' not in self.writer.last
    self.writer.add(WandbRun(workdir, CONFIG, self.writer.kept, lacks, draw))
    if lacks:
      self.writer.write(first_step, EVALUATION)

  def train(self, first, last, evaluate_last=True):
    for step in range(first, last + 1):
      self.writer.write(step, {'loss': 1000.5 + step}, more=step % 3 == 0)
      if step % 3 == 0 and (evaluate_last or step < last):
        self.writer.write(step, EVALUATION)

  def end(self, failed=False):
    self.writer.close(failed)
    self.wandb.teardown()  # Waits until the files are complete.


def files(workdir):
  return sorted(
    workdir.glob('wandb/offline-run-*/*.wandb'), key=lambda file: file.stat().st_mtime_ns
  )


def metrics_of(row):
  """The metrics in a row of W&B: without its own fields, tables and pictures."""
  return {
    name: value
    for name, value in row.items()
    if not name.startswith(('_', 'evaluation/', 'clips/'))
  }


def test_every_line_is_sent_once_over_all_starts(tmp_path, wandb):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  first = Start(wandb, workdir, 0)
  first.train(1, 5)
  first.end(failed=True)
  # A process that is killed loses what W&B has not yet written; here from within step 4 on.
  (file,) = files(workdir)
  content = file.read_bytes()
  file.write_bytes(content[: content.index(b'1004.5') + 2])
  assert [row['_step'] for row in read_rows(file)] == [0, 1, 2, 3]

  # The checkpoint is one of step 5. It is interrupted before the evaluation after step 9.
  second = Start(wandb, workdir, 5)
  second.train(6, 9, evaluate_last=False)
  second.end(failed=True)
  # It resumes after step 7, although W&B has step 8; and again after step 9, whose row is due.
  third = Start(wandb, workdir, 7)
  third.train(8, 9, evaluate_last=False)
  third.end(failed=True)
  fourth = Start(wandb, workdir, 9)
  fourth.train(10, 10)
  fourth.end()
  # A finished run is started again, and its last line written again.
  fifth = Start(wandb, workdir, 10)
  fifth.train(10, 10)
  fifth.end()

  rows = [list(read_rows(file)) for file in files(workdir)]
  assert [[row['_step'] for row in part] for part in rows] == [
    [0, 1, 2, 3],
    [4, 5, 6, 7, 8],
    [],
    [9, 10],
    [],
  ]
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  sent = [metrics_of(row) | {'step': row['_step']} for part in rows for row in part]
  assert sent[1:] == lines
  assert EVALUATION.items() <= lines[8].items()

  # All files are of the same run, and only its first start draws the pictures.
  (run_id,) = json.loads((workdir / 'wandb.json').read_text()).values()
  assert {file.stem for file in files(workdir)} == {f'run-{run_id}'}
  (picture,) = workdir.glob('wandb/*/files/media/images/*.png')
  with PIL.Image.open(picture) as image:
    assert image.size == (8, 6)


def test_online_the_server_says_which_lines_it_has(tmp_path, wandb, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', 'online')
  monkeypatch.setenv('WANDB_API_KEY', '0' * 40)

  def train(first_step, last_step):
    writer = MetricWriter(tmp_path, first_step, tensorboard=False)
    writer.add(WandbRun(tmp_path, CONFIG, writer.kept, False, dict))
    for step in range(first_step + 1, last_step + 1):
      writer.write(step, {'loss': 1000.5 + step})
    writer.close(failed=False)
    wandb.teardown()

  with serve() as server:
    monkeypatch.setenv('WANDB_BASE_URL', f'http://127.0.0.1:{server.server_port}')
    train(0, 6)
    assert [row['_step'] for row in server.rows.values()] == [0, 1, 2, 3, 4, 5, 6]
    # The last rows did not arrive, and the run resumes after step 5, then after step 6 although
    # the server has step 8.
    for number in (4, 5, 6):
      del server.rows[number]
    train(5, 8)
    train(6, 10)
    rows = [server.rows[number] for number in sorted(server.rows)]
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [metrics_of(row) | {'step': row['_step']} for row in rows[1:]] == lines
  assert [line['step'] for line in lines] == list(range(1, 11))


def test_the_table_of_an_evaluation_and_the_config(tmp_path, wandb):
  start = Start(wandb, tmp_path, 0)
  start.train(1, 3)
  start.end()
  (file,) = files(tmp_path)
  row = list(read_rows(file))[-1]
  table = json.loads((file.parent / 'files' / row['evaluation/path']).read_text())
  assert table['columns'] == ['data set', 'recipe', 'top1', 'top5']
  assert table['data'] == [['toy', 'none', 0.5, 1.0], ['toy', 'background=normal', 0.25, None]]
  # The settings are in the same file, each with its JSON value.
  for name, value in CONFIG.items():
    text = json.dumps(value, separators=(',', ':')).encode()
    assert name.encode() in file.read_bytes()
    assert text in file.read_bytes()


@pytest.mark.parametrize('broken', ['init', 'log', 'finish'])
def test_a_failure_of_wandb_is_one_warning(tmp_path, wandb, monkeypatch, capsys, broken):
  def fail(*args, **kwargs):
    raise ConnectionResetError('Connection lost')

  monkeypatch.setattr(*((wandb, 'init') if broken == 'init' else (wandb.Run, broken)), fail)
  start = Start(wandb, tmp_path, 0)
  start.train(1, 4)
  start.end()
  assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 4
  err = capsys.readouterr().err
  assert err.count('warning: Weights & Biases fails (Connection lost); the run goes on') == 1


def test_pictures_that_cannot_be_drawn_are_left_out(tmp_path, wandb, capsys):
  run = WandbRun(tmp_path, CONFIG, [], False, lambda: 1 / 0)
  run.write(1, {'loss': 0.5}, more=False)
  run.close(False)
  wandb.teardown()
  (file,) = files(tmp_path)
  assert [metrics_of(row) for row in read_rows(file)] == [{}, {'loss': 0.5}]
  assert 'warning: no pictures on Weights & Biases (division by zero)' in capsys.readouterr().err


def test_a_service_that_does_not_answer_is_a_warning(tmp_path, wandb, monkeypatch, capsys):
  monkeypatch.setenv('WANDB_MODE', 'online')
  monkeypatch.setenv('WANDB_BASE_URL', 'http://127.0.0.1:9')
  monkeypatch.setenv('WANDB_API_KEY', '0' * 40)
  monkeypatch.setenv('WANDB_INIT_TIMEOUT', '1')
  start = Start(wandb, tmp_path, 0)
  start.train(1, 4)
  start.end()
  assert 'the run goes on without it' in capsys.readouterr().err


def test_without_a_key_or_the_package_the_run_does_not_start(tmp_path, wandb, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', 'online')
  with pytest.raises(UserError, match=r'config.log.wandb: .*No API key.* run wandb login'):
    WandbRun(tmp_path, CONFIG, [], False, dict)
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(UserError, match=r"not installed; pip install 'zsar_jax\[wandb\]'"):
    WandbRun(tmp_path, CONFIG, [], False, dict)


def test_rows_over_the_borders_of_blocks(tmp_path, wandb):
  """Records longer than W&B's blocks of 32 KiB are read as they were written."""
  run = WandbRun(tmp_path, CONFIG, [], False, dict)
  texts = {step: f'{step}' * 4000 * step for step in range(1, 12)}
  for step, text in texts.items():
    run.write(step, {'text': text}, more=False)
  run.close(False)
  wandb.teardown()
  (file,) = files(tmp_path)
  assert file.stat().st_size > 4 * 2**15
  assert {row['_step']: row['text'] for row in list(read_rows(file))[1:]} == texts
  cut = tmp_path / 'cut.wandb'
  for size in (0, 5, 7, 11, 40_000, 2**15 + 7, 100_000):
    cut.write_bytes(file.read_bytes()[:size])
    assert len(list(read_rows(cut))) < 12
