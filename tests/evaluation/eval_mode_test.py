"""Evaluation of existing weights: classes that were seen in training, and unusable workdirs."""

import functools
import os
import pathlib

import numpy as np
import pytest

from tests.toy import CLASSES, build_toy
from tests.training.loop_test import toy_config
from zsar_jax import config as config_lib
from zsar_jax.errors import UserError
from zsar_jax.evaluation import protocol
from zsar_jax.evaluation.eval_mode import evaluate_checkpoint
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.models.from_config import build_model
from zsar_jax.runtime import sharding
from zsar_jax.storage.files import write_file
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


@pytest.mark.slow
def test_weights_describe_the_model_with_the_preset_auto(data_dir, tmp_path):
  """The predictions are those of the config of the training, of the run and of its weights."""
  light = {'recipe': 'none', 'augment__flip': 0.0, 'steps': 1, 'optim__accumulation': 1}
  config = toy_config(data_dir, **light)
  first = loop.train(config, tmp_path / 'run')
  # Settings that the weights replace.
  auto = toy_config(
    data_dir, model__preset='auto', model__temporal='mean', view__size=64, text__templates=()
  )
  of_run = evaluate_checkpoint(auto, tmp_path / 'run')
  auto.model.init_from = str(tmp_path / 'run')
  of_weights = evaluate_checkpoint(auto, tmp_path / 'other')
  for expected, *others in zip(first, of_run, of_weights, strict=True):
    for other in others:
      assert other.recipes == expected.recipes
      for recipe, logits in expected.logits.items():
        np.testing.assert_array_equal(other.logits[recipe], logits)
  described = protocol.load(tmp_path / 'other')
  assert described['source'] == str(tmp_path / 'run')
  assert described['view']['size'] == config.view.size
  assert described['templates'] == list(config.text.templates)
  assert described['video']['temporal'] == config.model.temporal
  assert described['license'] is None
  auto.eval.clips, config.view.sampling = 2, 'ends'
  write_file(tmp_path / 'run' / 'config.json', config_lib.to_json(config))
  with pytest.raises(UserError, match="config.eval.clips: config.view.sampling 'ends' gives one"):
    evaluate_checkpoint(auto, tmp_path / 'other')
  config.view.sampling = 'segments'
  write_file(tmp_path / 'run' / 'config.json', config_lib.to_json(config))
  # A config that describes the model gives the same description, from which a study makes a card.
  config.model.init_from = str(tmp_path / 'run')
  evaluate_checkpoint(config, tmp_path / 'named')
  named = protocol.load(tmp_path / 'named')
  assert named == {name: described[name] for name in named}
  assert {'source', 'towers', 'view', 'templates'} < named.keys()


def test_the_preset_auto_is_for_evaluations(data_dir, tmp_path):
  config = toy_config(data_dir, model__preset='auto')
  with pytest.raises(UserError, match=r"config.model.preset: 'auto' .*--mode=eval.*tiny"):
    loop.train(config, tmp_path / 'run')
  with pytest.raises(UserError, match='--workdir: .* holds no checkpoint'):
    evaluate_checkpoint(config, tmp_path / 'empty')
  config.eval.interpolate = 0.5
  config.model.init_from = str(tmp_path)
  with pytest.raises(UserError, match='config.eval.interpolate: .*auto'):
    evaluate_checkpoint(config, tmp_path / 'empty')
