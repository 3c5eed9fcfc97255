"""Zero-shot evaluation against one clip and one class at a time; several views against each."""

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
from zsar_jax.evaluation import order_metrics
from zsar_jax.evaluation.evaluator import COLOR_SEED, Evaluator
from zsar_jax.evaluation.run_results import compute_results, format_table
from zsar_jax.evaluation.scoring import ModelScorer
from zsar_jax.models.from_config import build_model
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import ClassTexts


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def test_against_one_clip_at_a_time(data_dir):
  config = toy_config(data_dir, eval__choices=2)
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
  on_mesh = jax.device_put(params, sharding.replicated(mesh))
  scorer = ModelScorer(config, model, texts, mesh)
  predictions = Evaluator(config, scorer, mesh, ()).run(on_mesh)
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
      correct = []
      for position in range(len(subset)):
        clip = jax.tree.map(lambda x: np.asarray(x)[None], loader.evaluation_clip(position))
        video = evaluation_input(jax.random.key(COLOR_SEED), clip, language.parse(text))
        scores = np.stack(embeddings) @ np.asarray(encode_video(params, video)['embedding'])[0]
        correct.append(scores.argmax() == clip['label'][0])
      figures = results[name][text]
      assert figures['count'] == len(subset)
      np.testing.assert_allclose(figures['top1'], np.mean(correct))
      # 'novel' has only the two classes that are the choices.
      assert figures['choices'] == 2
      assert (figures['multiple_choice'] == figures['top1']) or name == 'all'
  assert format_table(results).count('background=normal,object=uniform') == 2
  config.eval.choices = 3
  with pytest.raises(UserError, match=r'eval.choices: 3 .* from the 2 classes of novel; take 2'):
    Evaluator(config, scorer, mesh, ())


def random_model(config, devices):
  """Returns a function that evaluates random weights on the first `devices` devices."""
  mesh = sharding.make_mesh(config.mesh, jax.devices()[:devices])
  model = build_model(config)
  params = jax.jit(model.init, out_shardings=sharding.replicated(mesh))(jax.random.key(1))
  texts = ClassTexts.from_config(config, model)
  scorer = ModelScorer(config, model, texts, mesh)
  evaluator = Evaluator(config, scorer, mesh, ())
  return lambda: evaluator.run(params)


def test_views_against_an_average_by_hand(data_dir, monkeypatch):
  """Six views together, against the mean of six evaluations that take one of them each.

  The views together run on more devices and in batches of another size.
  """
  config = toy_config(data_dir, model__temporal='mean')
  config.eval.datasets = ConfigDict({'all': dataset_ref('toy', 'validation')})
  config.eval.recipes = ('background=uniform',)
  load = ClipLoader.read_evaluation_clip
  logits, probabilities = [], []
  evaluate = random_model(config, 1)
  for moment in (0.25, 0.75):
    for crop in (0.0, 0.5, 1.0):

      def take_view(self, position, _moment, _crop, moment=moment, crop=crop):
        return load(self, position, moment, crop)

      with monkeypatch.context() as patch:
        patch.setattr(ClipLoader, 'read_evaluation_clip', take_view)
        (single,) = evaluate()
      logits.append(single.logits['background=uniform'].astype(np.float64))
      exponentials = np.exp(logits[-1])
      probabilities.append(exponentials / exponentials.sum(axis=1, keepdims=True))
  assert np.ptp(probabilities, axis=0).max() > 1e-3  # The views differ.

  config.eval.clips, config.eval.crops, config.eval.batch_size = 2, 3, 10
  evaluate = random_model(config, 2)
  (together,) = evaluate()
  mean = np.exp(together.logits['background=uniform'])
  np.testing.assert_allclose(mean, np.mean(probabilities, axis=0), rtol=2e-5)
  assert len(together.ids) == 11
  config.eval.view_mean = 'logits'
  (together,) = evaluate()
  mean = together.logits['background=uniform']
  np.testing.assert_allclose(mean, np.mean(logits, axis=0), atol=2e-5)


@pytest.mark.parametrize(
  ('temporal', 'blind'),
  [
    ('mean', {'reverse', 'shuffle'}),
    ('window', {'reverse'}),
    ('transformer', {}),
    ('xclip', {}),
    ('joint', {'reverse', 'shuffle'}),
  ],
)
def test_what_a_model_sees_of_the_order_of_frames(data_dir, temporal, blind):
  """A mean sees nothing of it, bit for bit. A frame that attends to both its neighbors is the same
  in the reversed clip, up to rounding. 'joint' has no positions of frames before its training."""
  config = toy_config(data_dir, model__temporal=temporal, view__num_frames=8)
  config.eval.datasets = ConfigDict({'all': dataset_ref('toy', 'validation')})
  orders = {'reverse': 'none', 'shuffle': 'none', 'background=normal,shuffle': 'background=normal'}
  config.eval.recipes = (*orders, *sorted(set(orders.values())))
  (p,) = random_model(config, 1)()
  for recipe, original in orders.items():
    changed, unchanged = p.logits[recipe], p.logits[original]
    if recipe.rpartition(',')[2] not in blind:
      assert np.abs(changed - unchanged).max() > 1e-4
    elif temporal == 'mean':
      np.testing.assert_array_equal(changed, unchanged)
    else:
      np.testing.assert_allclose(changed, unchanged, atol=1e-5)
  if temporal == 'mean':
    figures = order_metrics.order_metrics(p)
    values = [figure.value for name, figure in figures.items() if 'resist' not in name]
    assert values == [0.0] * 9


def test_frozen_clips_change_no_bit_of_other_results(data_dir):
  config = toy_config(data_dir, model__temporal='mean', view__num_frames=8)
  config.eval.datasets = ConfigDict({'all': dataset_ref('toy', 'validation')})
  config.eval.recipes = ('none',)
  (alone,) = random_model(config, 1)()
  config.eval.recipes = ('none', 'freeze')
  (beside,) = random_model(config, 1)()
  np.testing.assert_array_equal(beside.logits['none'], alone.logits['none'])
