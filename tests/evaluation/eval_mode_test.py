"""Evaluation of existing weights: classes that were seen in training, and unusable workdirs."""

import functools
import os
import pathlib

import pytest

from tests.toy import CLASSES, build_toy
from tests.training.loop_test import toy_config
from zsar_jax.errors import UserError
from zsar_jax.evaluation.eval_mode import evaluate_checkpoint
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.models.from_config import build_model
from zsar_jax.runtime import sharding
from zsar_jax.training import loop
from zsar_jax.weights.checkpoint import Checkpoints, load_meta


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def test_classes_that_were_seen_are_refused_or_logged(data_dir, tmp_path, capsys, monkeypatch):
  """Before a training, in one that starts from another run, and in an evaluation."""
  monkeypatch.setattr(Evaluator, 'run', lambda self, params: {})
  # A light training, which compiles fast.
  light = {
    'model__temporal': 'mean',
    'recipe': 'none',
    'augment__flip': 0.0,
    'steps': 1,
    'optim__accumulation': 1,
    'optim__lr_rules': (('.*', 0.0),),
  }
  toy = functools.partial(toy_config, data_dir, **light)
  seen = {'eval__datasets__toy__classes': ('Moving_Left', 'resting', 'turning')}
  sentence = (
    r"config.eval.datasets.toy: 2 of 3 classes were seen in training \('moving left', 'resting'\)"
    r'.*another class split.*--config.eval.allow_seen_classes=True'
  )
  first, second = tmp_path / 'first', tmp_path / 'second'
  with pytest.raises(UserError, match=sentence):
    loop.train(toy(**seen), first)
  assert not first.exists()
  config = toy(**seen, eval__allow_seen_classes=True)
  loop.train(config, first)
  assert '2 of 3 classes were seen in training' in capsys.readouterr().err
  assert load_meta(first, '')['seen_classes'] == sorted(CLASSES[:3])
  computed_with = load_meta(first, '')['computed_with']
  assert computed_with['threads'] == len(os.sched_getaffinity(0))
  assert (computed_with['attention'], computed_with['deterministic']) == ('xla', True)

  # The evaluation of the run, and of a workdir that starts from its weights.
  with pytest.raises(UserError, match=sentence):
    evaluate_checkpoint(toy(**seen, view__centre_crop=0.5), first)
  assert 'config.view.centre_crop: 0.5 here, and 0.875 in its training' in capsys.readouterr().err
  with pytest.raises(UserError, match=sentence):
    evaluate_checkpoint(toy(**seen, model__init_from=str(first)), second)
  further = {'data__train__classes': 'novel', 'model__init_from': str(first)}
  with pytest.raises(UserError, match=r'3 of 3 .*seen'):
    loop.train(toy(**seen, **further), second)
  evaluate_checkpoint(toy(), first)
  err = capsys.readouterr().err
  assert 'seen in training' not in err
  assert 'in its training' not in err

  # A checkpoint without a list of classes.
  with Checkpoints(first, keep=2) as checkpoints:
    template = sharding.sharded_shapes(
      {'params': build_model(config).abstract_params}, sharding.make_mesh(config.mesh), 1
    )
    state = checkpoints.restore(1, template)
    checkpoints.save(2, state, {'clips': load_meta(first, '')['clips']})
    checkpoints.wait()
  evaluate_checkpoint(toy(**seen), first)
  assert 'are unknown' in capsys.readouterr().err


def test_an_unwritable_workdir_is_refused_before_the_evaluation(data_dir):
  config = toy_config(data_dir)
  config.model.init_from = 'weights that are not there'
  with pytest.raises(UserError, match='^--workdir: /proc/self cannot be written to'):
    evaluate_checkpoint(config, pathlib.Path('/proc/self'))
