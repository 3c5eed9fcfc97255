"""Training of the jobs of a study: order, failures and interruptions.

A small program that writes the files of a run replaces the trainer.
"""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.bucket_copies import memory_bucket  # noqa: F401  A fixture.
from tests.study.plan_test import make_study
from zsar_jax import config
from zsar_jax.errors import UserError
from zsar_jax.storage import bucket_requests
from zsar_jax.storage.output_folder import OutputFolder
from zsar_jax.storage.paths import as_path
from zsar_jax.study import jobs
from zsar_jax.study.plan import BASELINE, model, plan

ROOT = pathlib.Path(__file__).parents[2]

# Argument 1 is the workdir. The run `color` fails if the file `fail` exists. Jobs write when they
# begin and end to order.txt.
TRAINER = """
import json, pathlib, signal, sys, time
sys.path.insert(0, {root!r})
from tests.study.jobs_test import jobs_of
from zsar_jax import config
workdir = pathlib.Path(sys.argv[1])
(job,) = [job for job in jobs_of(workdir) if sys.argv[2] == '--only=' + job.name]
signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))
with open(workdir / 'order.txt', 'a') as order:
  print('begin', job.name, file=order)
if (workdir / 'fail').exists() and 'color' in job.name:
  sys.exit('error: no space left')
time.sleep({seconds})
(job.folder / 'metrics.jsonl').write_text(json.dumps({{'step': job.config.steps}}) + '\\n')
(job.folder / 'config.json').write_text(config.to_json(job.config))
(job.folder / 'predictions').mkdir(exist_ok=True)
(job.folder / 'predictions' / 'toy.npz').write_bytes(b'')
results = {{'toy': {{recipe: {{}} for recipe in ('none', 'background=normal')}}}}
(job.folder / 'results.json').write_text(json.dumps(results))
with open(workdir / 'order.txt', 'a') as order:
  print('end', job.name, file=order)
"""


def jobs_of(workdir):
  """Two seeds of a baseline, a run that depends on it and one that does not; somebody's model."""
  study = make_study(
    after=('x', {'model.init_from': BASELINE}), color=('y', {'recipe': 'background=normal'})
  )
  study.experiments.exp.runs.code = model("somebody's code", 'my.module:load')
  return plan(study, workdir)


def _command(tmp_path, seconds=0.0):
  program = tmp_path / 'trainer.py'
  program.write_text(TRAINER.format(root=str(ROOT), seconds=seconds))
  return [sys.executable, str(program), str(tmp_path)]


def _order(tmp_path):
  return (tmp_path / 'order.txt').read_text().splitlines()


def test_a_job_waits_for_the_one_it_depends_on_and_finished_jobs_are_skipped(tmp_path):
  planned = jobs_of(tmp_path)
  jobs.train_all(planned, _command(tmp_path), processes=3)
  order = _order(tmp_path)
  assert len(order) == 14
  for seed in (4, 7):
    assert order.index(f'end exp/plain/{seed}') < order.index(f'begin exp/after/{seed}')
  assert all(jobs.is_finished(job) for job in planned)
  # Only a job with missing results is done again.
  (planned[2].folder / 'results.json').write_text('{"toy": {"none": {}}}')
  jobs.train_all(planned, _command(tmp_path), processes=2)
  assert _order(tmp_path)[14:] == [f'{event} {planned[2].name}' for event in ('begin', 'end')]


def test_a_failed_job_is_reported_with_its_last_line(tmp_path):
  (tmp_path / 'fail').touch()
  planned = jobs_of(tmp_path)
  with pytest.raises(UserError) as error:
    jobs.train_all(planned, _command(tmp_path), processes=1)
  assert 'the run exp/color/4 failed: no space left' in str(error.value)
  assert 'log.txt' in str(error.value)
  (tmp_path / 'fail').unlink()
  jobs.train_all(planned, _command(tmp_path), processes=1)
  assert all(jobs.is_finished(job) for job in planned)


def test_models_that_are_only_evaluated_come_first_and_have_no_steps(tmp_path, monkeypatch, capsys):
  # A job is seen several times while it runs, however busy the machine is.
  monkeypatch.setattr(jobs, '_POLL_SECONDS', 0.05)
  monkeypatch.setattr(jobs, '_LOG_SECONDS', 0.0)
  planned = [job for job in jobs_of(tmp_path) if job.run == 'code' or job.name == 'exp/plain/4']
  assert [job.mode for job in planned] == ['train', 'eval']
  jobs.train_all(planned, _command(tmp_path, 1.0), processes=1)
  assert _order(tmp_path)[0] == 'begin exp/code/evaluated'
  lines = capsys.readouterr().err.splitlines()
  assert '0 of 2 runs finished, exp/code/evaluated' in lines
  assert '1 of 2 runs finished, exp/plain/4 at 0/1000' in lines


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_continues(tmp_path, number):
  program = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.study.jobs_test import jobs_of
from zsar_jax.study import jobs
from zsar_jax.runtime.interruption import interruptible_program
with interruptible_program():
  jobs.train_all(jobs_of(pathlib.Path({str(tmp_path)!r})), {_command(tmp_path, 60)!r}, 2)
"""
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  process = subprocess.Popen([sys.executable, '-c', program], env=environment)
  deadline = time.monotonic() + 60
  while not (tmp_path / 'order.txt').exists() or len(_order(tmp_path)) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(number)
  assert process.wait(30) == (130 if number == signal.SIGINT else 0)
  planned = jobs_of(tmp_path)
  for job in planned[:2]:
    assert not jobs.is_finished(job)
  logs = [path.read_text() for path in tmp_path.rglob(jobs.LOG)]
  assert logs
  assert all('stopped' in log for log in logs)
  jobs.train_all(planned, _command(tmp_path), processes=4)
  assert all(jobs.is_finished(job) for job in planned)


def test_a_job_that_could_not_say_why_it_failed(tmp_path):
  job = jobs_of(tmp_path)[0]
  job.folder.mkdir(parents=True)
  (job.folder / 'log.txt').symlink_to('/dev/full')
  with pytest.raises(UserError, match=r'log\.txt cannot be written \(No space left on device\)'):
    jobs._check_ended(_failed(job))


def test_a_job_in_a_bucket_that_failed(bucket):
  (job, *_) = jobs_of(as_path(bucket, '--workdir'))
  failed = _failed(job)
  (failed.outputs.path / jobs.LOG).write_text('starting\nerror: no such data set\n')
  with pytest.raises(UserError, match=rf'failed: no such data set \(.*{bucket}/.*log\.txt\)'):
    jobs._check_ended(failed)
  assert (job.folder / jobs.LOG).read_text().endswith('\nended with status 2\n')


def test_a_bucket_that_fails_does_not_end_a_study_whose_progress_is_shown(bucket, monkeypatch):
  (job, *_) = jobs_of(as_path(bucket, '--workdir'))
  (job.folder / 'metrics.jsonl').write_text('{"step": 7}\n')
  assert jobs._last_step(job) == 7

  def fail(*_, **__):
    raise RuntimeError('not an OSError')

  monkeypatch.setattr(type(job.folder.fs), 'open', fail)
  assert jobs._last_step(job) == 0


def test_a_bucket_that_fails_makes_no_finished_job_a_failed_one(bucket, monkeypatch):
  (job, *_) = jobs_of(as_path(bucket, '--workdir'))
  results = {'toy': {recipe: {} for recipe in ('none', 'background=normal')}}
  for name, text in (
    ('config.json', config.to_json(job.config)),
    ('results.json', json.dumps(results)),
    ('predictions/toy.npz', ''),
  ):
    (job.folder / name).write_text(text)
  read, failures = type(job.folder.fs).cat_file, []

  def fail_once(*args, **options):
    if not failures:
      failures.append(1)
      raise OSError(errno.EBUSY, 'Please reduce your request rate.')
    return read(*args, **options)

  with monkeypatch.context() as patch:
    patch.setattr(type(job.folder.fs), 'cat_file', fail_once)
    assert jobs.is_finished(job)
  assert failures
  monkeypatch.setattr(bucket_requests, '_CREDENTIALS_SECONDS', 0.0)

  def forbid(*_, **__):
    raise PermissionError(13, 'Forbidden')

  monkeypatch.setattr(type(job.folder.fs), 'cat_file', forbid)
  with pytest.raises(UserError, match=rf'^{job.folder}/config.json: access is denied'):
    jobs.is_finished(job)
  ended = _ended(job, 0)
  with pytest.raises(UserError, match='access is denied'):
    jobs._check_ended(ended)
  assert not ended.outputs.path.exists()  # Nothing is left behind.


def _failed(job):
  return _ended(job, 2)


def _ended(job, status):
  process = subprocess.Popen([sys.executable, '-S', '-c', f'raise SystemExit({status})'])
  process.wait()
  return jobs._Running(job, process, OutputFolder(job.folder))
