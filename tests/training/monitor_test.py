"""Failed steps, clips that do not decode, and a stop that one host was asked for."""

import json

import jax
import numpy as np
import pytest

from tests.data.pipeline_test import assert_same, loader, take
from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.frame_table import ClipFrames
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.training import loop
from zsar_jax.training import step as step_lib
from zsar_jax.training.monitor import StepMonitor
from zsar_jax.training.setup import open_training_subset
from zsar_jax.weights.checkpoint import Checkpoints


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def outputs(**changes):
  return {
    'loss': np.float32(1),
    'gradient_norm': np.float32(1),
    'clip': np.array([3, 0], np.int32),
    'replaced': np.array([-1, -1], np.int32),
    'stop': np.bool_(False),
    **changes,
  }


@pytest.mark.parametrize('figure', ['loss', 'gradient_norm'])
def test_a_failed_step_is_reported_one_step_later(data_dir, tmp_path, figure):
  monitor = StepMonitor(loader(data_dir), tmp_path, 0)
  monitor.submit(1, outputs())
  monitor.submit(2, outputs(**{figure: np.float32('nan')}))
  words = f'the {figure.replace("_", " ")} is nan at step 2; its clips are in .*failed_batch.json'
  with pytest.raises(UserError, match=words):
    monitor.submit(3, outputs())
  failed = json.loads((tmp_path / 'failed_batch.json').read_text())
  assert failed['step'] == 2
  assert failed[figure] == 'nan'
  assert failed['clips'] == ['train3', 'train0']


def test_a_stop_is_reported_one_step_later(data_dir, tmp_path):
  monitor = StepMonitor(loader(data_dir), tmp_path, 0)
  monitor.submit(1, outputs(stop=np.bool_(True)))
  assert not monitor.stop
  monitor.submit(2, outputs())
  assert monitor.stop


def test_clips_that_do_not_decode(data_dir, tmp_path, monkeypatch):
  """They are replaced alike from any step on, listed once, and end the run if they are too many."""
  clips = loader(data_dir)
  undamaged = take(training_batches(clips, 4, 0, 0, 0), 20)
  sizes = {len(clips.subset.frames(position)): position for position in (5, 9)}
  frame = ClipFrames.frame

  def damaged(self, number):
    jpeg = frame(self, number)
    return jpeg[:-20] if len(self) in sizes else jpeg

  monkeypatch.setattr(ClipFrames, 'frame', damaged)
  batches = take(training_batches(clips, 4, 0, 0, 0), 20)
  assert_same(take(training_batches(clips, 4, 0, 11, 0), 9), batches[11:])
  for before, after in zip(undamaged, batches, strict=True):
    bad = np.isin(before['clip'], (5, 9))
    np.testing.assert_array_equal(after['replaced'], np.where(bad, before['clip'], -1))
    np.testing.assert_array_equal(after['frames'][~bad], before['frames'][~bad])
    assert not np.isin(after['clip'], (5, 9)).any()
    assert (after['weight'] == 1).all()
  assert sum((batch['replaced'] >= 0).sum() for batch in batches) >= 4

  monitor = StepMonitor(clips, tmp_path, 1 / 37)
  monitor.submit(1, outputs(replaced=np.array([5, -1], np.int32)))
  monitor.submit(2, outputs(replaced=np.array([5, -1], np.int32)))
  monitor.flush()
  # The next start reads the list.
  monitor = StepMonitor(clips, tmp_path, 1 / 37)
  monitor.submit(3, outputs(replaced=np.array([5, -1], np.int32)))
  monitor.submit(4, outputs(replaced=np.array([-1, 9], np.int32)))
  with pytest.raises(
    UserError, match='clip train9: .*complete JPEG.*; 2 of 37 clips.*max_bad_clips'
  ):
    monitor.flush()
  lines = [json.loads(line) for line in (tmp_path / 'bad_clips.jsonl').read_text().splitlines()]
  assert [(line['clip'], line['step']) for line in lines] == [('train5', 1), ('train9', 4)]
  assert all('not a complete JPEG' in line['reason'] for line in lines)


def test_too_many_in_a_row(data_dir, monkeypatch):
  monkeypatch.setattr(ClipFrames, 'frame', lambda self, number: b'')
  with pytest.raises(UserError, match='not a complete JPEG'):
    loader(data_dir).training_clip(0, np.random.default_rng(0))


@pytest.mark.slow
def test_a_failed_run_leaves_its_last_good_checkpoint(data_dir, tmp_path, monkeypatch):
  """The loss is NaN at step 4, which is neither logged nor saved; steps 3 and 6 are saved."""
  make = step_lib.make_train_step

  def failing(*arguments):
    step = make(*arguments)

    def fail(state, *rest, **options):
      after, metrics = step(state, *rest, **options)
      failed = jax.numpy.where(state['step'] == 3, jax.numpy.nan, 1.0)
      after['params'] = jax.tree.map(lambda leaf: leaf * failed, after['params'])
      return after, metrics | {'loss': metrics['loss'] * failed}

    return fail

  monkeypatch.setattr(step_lib, 'make_train_step', failing)
  config = toy_config(
    data_dir, log__every=100, recipe='none', checkpoint__keep=1, checkpoint__every=3
  )
  with pytest.raises(UserError, match='the loss is nan at step 4'):
    loop.train(config, tmp_path)
  failed = json.loads((tmp_path / 'failed_batch.json').read_text())
  batches = take(training_batches(train_loader(config), 16, 0, 0, 0), 4)
  subset = train_loader(config).subset
  assert failed['clips'] == [subset.clip_id(position) for position in batches[3]['clip']]
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest == 3
    assert checkpoints.read_newest(checkpoints.meta)[0] == 3


def train_loader(config):
  return ClipLoader(open_training_subset(config), View.from_config(config))
