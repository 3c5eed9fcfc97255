"""zsar status: running, ended, silent and broken runs, on a disk and in a bucket."""

import json
import os
import sys

import pytest

from tools import status

NOW = 1_800_000_000.0


def write(folder, name, content):
  folder.mkdir(parents=True, exist_ok=True)
  text = content if isinstance(content, str) else json.dumps(content)
  (folder / name).write_text(text)
  os.utime(folder / name, (NOW - 300, NOW - 300))


def running(**fields):
  return {
    'state': 'training',
    'time': NOW - 5,
    'host': 'pod-0',
    'step': 120,
    'steps': 600,
    'step_time': NOW - 10,
    'clips_per_second': 64.0,
    'seconds_per_step': 0.5,
    'next': {'checkpoint': 200},
    'evaluation': {'step': 100, 'top1': {'toy': {'none': 0.5, 'background=normal': 0.25}}},
  } | fields


def line_of(workdir):
  (line,) = status.format_lines([status.describe(workdir, NOW)])
  return line


def test_a_running_run(tmp_path):
  write(tmp_path, 'status.json', running())
  known = status.describe(tmp_path, NOW)
  assert known['seconds_left'] == 480 * 0.5 - 10
  assert known['next'] == {'checkpoint': 200}
  assert line_of(tmp_path) == (
    f'{tmp_path}  training  step 120/600  64.0 clips/s  4 min left  toy none 50.0 % (+1)  5 s ago'
  )


def test_runs_that_have_ended_or_vanished(tmp_path):
  write(tmp_path, 'status.json', running(time=NOW - 3600))
  assert line_of(tmp_path).split('  ')[1:] == [
    'silent',
    'step 120/600',
    'toy none 50.0 % (+1)',
    '1 h ago',
  ]
  write(tmp_path, 'status.json', running(state='failed', time=NOW - 3600, error='disk full'))
  assert line_of(tmp_path).endswith(
    'failed  step 120/600  toy none 50.0 % (+1)  1 h ago  disk full'
  )


def test_a_run_of_an_earlier_version(tmp_path):
  """Without status.json, the other files tell."""
  write(tmp_path, 'config.json', {'steps': 4})
  lines = [
    {'step': 2, 'loss': 1.0, 'toy/none/top1': 0.75, 'toy/none/moving/top1': 0.1},
    {'step': 3, 'loss': 1.0},
  ]
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  write(tmp_path, 'metrics.jsonl', text + '{"step": 4, "lo')
  assert line_of(tmp_path) == f'{tmp_path}  unknown  step 3/4  toy none 75.0 %  5 min ago'
  write(tmp_path, 'metrics.jsonl', '{"step": 4}\n')
  write(tmp_path, 'results.json', {'toy': {'none': {'top1': 0.5, 'count': 3}}})
  assert line_of(tmp_path) == f'{tmp_path}  finished  step 4/4  toy none 50.0 %  5 min ago'


def test_only_the_end_of_long_metrics_is_read(tmp_path):
  lines = [{'step': step, 'loss': 1.0, 'toy/none/top1': step / 1e5} for step in range(20_000)]
  write(tmp_path, 'metrics.jsonl', ''.join(json.dumps(line) + '\n' for line in lines))
  known = status.describe(tmp_path, NOW)
  assert known['step'] == 19_999
  assert known['evaluation'] == {'step': 19_999, 'top1': {'toy': {'none': 0.19999}}}


@pytest.mark.parametrize(
  'content',
  [
    '',
    '{"state": "trai',
    '[]',
    '[' * 100_000,
    '{"state": "training", "time": "now", "step": [], "steps": {}, "evaluation": 3, "next": 7}',
    '{"state": ["training"], "time": 1e999, "step": NaN, "evaluation": {"top1": [1]}}',
    '{"state": "training", "time": -1e300, "step": true, "evaluation": {"top1": {"a": {"b": {}}}}}',
    '{"state": "failed", "error": ["x"], "host": {}, "clips_per_second": "fast", "time": 3}',
    '{"state": "training", "time": 1' + '0' * 5000 + '}',
  ],
)
def test_broken_files_give_a_line(tmp_path, monkeypatch, capsys, content):
  for name in ('status.json', 'metrics.jsonl', 'results.json', 'config.json'):
    write(tmp_path, name, content)
  monkeypatch.setattr(sys, 'argv', ['status', str(tmp_path)])
  status.main()
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(str(tmp_path))


def test_a_study_and_what_is_no_run(tmp_path, monkeypatch, capsys):
  for run in ('none', 'painted'):
    write(tmp_path / 'study' / 'runs' / 'scenes' / run / 'seed0', 'status.json', running())
  write(tmp_path / 'study', 'study.json', {})
  write(
    tmp_path / 'study' / 'runs' / 'scenes' / 'none' / 'seed0' / 'checkpoints', 'metrics.jsonl', ''
  )
  arguments = ['status', str(tmp_path / 'study'), str(tmp_path / 'absent'), '--json']
  monkeypatch.setattr(sys, 'argv', arguments)
  monkeypatch.setattr(status.time, 'time', lambda: NOW)
  status.main()
  runs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [(run['run'].removeprefix(str(tmp_path)), run['state']) for run in runs] == [
    ('/study/runs/scenes/none/seed0', 'training'),
    ('/study/runs/scenes/painted/seed0', 'training'),
    ('/absent', 'no run'),
  ]
  assert set(runs[0]) == set(status.FIELDS)


def test_a_bucket(tmp_path):
  upath = pytest.importorskip('upath')
  bucket = upath.UPath('memory://status-test/runs')
  for name in ('a', 'b'):
    (bucket / name).mkdir(parents=True, exist_ok=True)
    (bucket / name / 'status.json').write_text(json.dumps(running()))
    (bucket / name / 'metrics.jsonl').write_text('{"step": 1}\n')
  runs = status.find_runs(bucket)
  assert [run.name for run in runs] == ['a', 'b']
  known = status.describe(runs[1], NOW)
  write(tmp_path, 'status.json', running())
  assert known | {'run': ''} == status.describe(tmp_path, NOW) | {'run': ''}
  (bucket / 'a' / 'status.json').unlink()
  assert status.describe(runs[0], NOW)['step'] == 1
