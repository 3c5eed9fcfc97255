"""Zero-shot evaluation against one clip and one class at a time; views and seen classes."""

import functools
import os
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.toy import CLASSES, build_toy
from tests.training.loop_test import toy_config
from zsar_jax.config import dataset_ref
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation.eval_mode import evaluate_checkpoint
from zsar_jax.evaluation.evaluator import COLOR_SEED, Evaluator
from zsar_jax.evaluation.run_results import compute_results, format_table
from zsar_jax.models.from_config import build_model
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import ClassTexts
from zsar_jax.training import loop
from zsar_jax.weights.checkpoint import Checkpoints, load_meta


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def test_against_one_clip_at_a_time(data_dir):
  config = toy_config(data_dir)
  config.eval.recipes = ('none', 'background=normal,object=uniform')
  config.eval.datasets = ConfigDict(
    {
      'all': dataset_ref('toy', 'validation'),
      'novel': dataset_ref('toy', 'validation', 'novel'),
    }
  )
  model = build_model(config)
  params = model.init(jax.random.key(1))
  texts = ClassTexts.from_config(config, model)
  mesh = sharding.make_mesh(config.mesh)
  placed = jax.device_put(params, sharding.replicated(mesh))
  predictions = Evaluator(config, model, texts, mesh, ()).run(placed)
  results = compute_results(predictions, {})

  encode_text, encode_video = jax.jit(model.encode_text), jax.jit(model.encode_video)
  for name, classes in (('all', CLASSES), ('novel', CLASSES[3:])):
    embeddings = []
    for label in classes:
      prompts = [template.format(label) for template in config.text.templates]
      mean = np.mean(encode_text(params, texts.tokenizer(prompts)), axis=0)
      embeddings.append(mean / np.linalg.norm(mean))
    subset = select(open_dataset(data_dir, 'toy', 'validation'), classes, 'nearest', '')
    loader = ClipLoader(subset, View.from_config(config))
    for text in config.eval.recipes:
      right = []
      for position in range(len(subset)):
        clip = jax.tree.map(lambda x: np.asarray(x)[None], loader.evaluation_clip(position))
        video = evaluation_input(jax.random.key(COLOR_SEED), clip, language.parse(text))
        scores = np.stack(embeddings) @ np.asarray(encode_video(params, video)['embedding'])[0]
        right.append(scores.argmax() == clip['label'][0])
      got = results[name][text]
      assert got['count'] == len(subset)
      np.testing.assert_allclose(got['top1'], np.mean(right))
  assert format_table(results).count('background=normal,object=uniform') == 2


def use_devices(monkeypatch, count):
  """Lets meshes have the first `count` devices."""
  make_mesh = functools.partial(jax.make_mesh, devices=jax.devices()[:count])
  monkeypatch.setattr(jax, 'device_count', lambda: count)
  monkeypatch.setattr(jax, 'make_mesh', make_mesh)


def random_model(config, monkeypatch, devices):
  """An evaluator on so many devices as a function of nothing: its predictions at random weights."""
  with monkeypatch.context() as patch:
    use_devices(patch, devices)
    mesh = sharding.make_mesh(config.mesh)
  model = build_model(config)
  params = jax.jit(model.init, out_shardings=sharding.replicated(mesh))(jax.random.key(1))
  evaluator = Evaluator(config, model, ClassTexts.from_config(config, model), mesh, ())
  return lambda: evaluator.run(params)


def test_views_against_an_average_by_hand(data_dir, monkeypatch):
  """Single views are evaluated by moving the one view there; softmax or logits are averaged.

  The views are evaluated together on another number of devices, in batches of another size.
  """
  config = toy_config(data_dir, model__temporal='mean')
  config.eval.datasets = ConfigDict({'all': dataset_ref('toy', 'validation')})
  config.eval.recipes = ('background=uniform',)
  load = ClipLoader.evaluation_clip
  logits, probabilities = [], []
  evaluate = random_model(config, monkeypatch, 1)
  for moment in (0.25, 0.75):
    for place in (0.0, 0.5, 1.0):

      def moved(self, position, _moment, _place, moment=moment, place=place):
        return load(self, position, moment, place)

      with monkeypatch.context() as patch:
        patch.setattr(ClipLoader, 'evaluation_clip', moved)
        (alone,) = evaluate()
      logits.append(alone.logits['background=uniform'].astype(np.float64))
      exponentials = np.exp(logits[-1])
      probabilities.append(exponentials / exponentials.sum(axis=1, keepdims=True))
  assert max(np.abs(one - probabilities[0]).max() for one in probabilities[1:]) > 1e-3

  config.eval.clips, config.eval.crops, config.eval.batch_size = 2, 3, 10
  evaluate = random_model(config, monkeypatch, 2)
  (together,) = evaluate()
  found = np.exp(together.logits['background=uniform'])
  np.testing.assert_allclose(found, np.mean(probabilities, axis=0), rtol=2e-5)
  assert len(together.ids) == 11
  config.eval.view_mean = 'logits'
  (together,) = evaluate()
  found = together.logits['background=uniform']
  np.testing.assert_allclose(found, np.mean(logits, axis=0), atol=2e-5)


def test_seen_classes_are_refused_or_named(data_dir, tmp_path, capsys, monkeypatch):
  """Before a run, in a run that starts from another, and when a trained run is evaluated."""
  monkeypatch.setattr(Evaluator, 'run', lambda self, params: {})
  use_devices(monkeypatch, 1)
  # What training does is of no interest here, and takes long to compile.
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
  assert load_meta(first, '')['computed_with']['threads'] == len(os.sched_getaffinity(0))

  # The same classes, of a trained run alone and of one that starts from its weights.
  with pytest.raises(UserError, match=sentence):
    evaluate_checkpoint(toy(**seen, view__centre_crop=0.5), first)
  assert 'config.view.centre_crop: 0.5 here, and 0.875 in its training' in capsys.readouterr().err
  with pytest.raises(UserError, match=sentence):
    evaluate_checkpoint(toy(**seen, model__init_from=str(first)), second)
  further = {'data__train__classes': 'novel', 'model__init_from': str(first)}
  with pytest.raises(UserError, match=r'3 of 3 .*seen'):
    loop.train(toy(**seen, **further), second)
  evaluate_checkpoint(toy(), first)
  said = capsys.readouterr().err
  assert 'seen in training' not in said
  assert 'in its training' not in said

  # A checkpoint that does not say what it was trained on.
  with Checkpoints(first, keep=2) as checkpoints:
    template = sharding.sharded_shapes(
      {'params': build_model(config).abstract_params}, sharding.make_mesh(config.mesh), 1
    )
    state = checkpoints.restore(1, template)
    checkpoints.save(2, state, {'clips': load_meta(first, '')['clips']})
    checkpoints.wait()
  evaluate_checkpoint(toy(**seen), first)
  assert 'is not known' in capsys.readouterr().err


def test_a_workdir_that_cannot_be_written_to_is_refused_before_the_evaluation(data_dir):
  config = toy_config(data_dir)
  config.model.init_from = 'weights that are not there'
  with pytest.raises(UserError, match='^--workdir: /proc/self cannot be written to'):
    evaluate_checkpoint(config, pathlib.Path('/proc/self'))
