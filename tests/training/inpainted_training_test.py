"""Training and evaluation with inpainted frames, from the records to the model and the results."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.evaluation.evaluator_test import random_model
from tests.inpainted_clips import NO_MASKS, build, write_clips
from tests.training.loop_test import assert_same_training, take_steps, toy_config
from zsar_jax import experiment
from zsar_jax.config import dataset_ref
from zsar_jax.errors import UserError
from zsar_jax.evaluation.predictions import check_same_clips, load
from zsar_jax.evaluation.run_results import format_table, save_results, summarize_group
from zsar_jax.performance import planner, topologies
from zsar_jax.training import loop

RECIPE = 'background=swap@0.5,person=inpaint@0.5'


@pytest.fixture(name='roots', scope='module')
def _roots(tmp_path_factory):
  """Two builds of the same clips, with and without inpainted frames."""
  roots = {}
  for inpaint in (True, False):
    roots[inpaint] = tmp_path_factory.mktemp(f'inpaint_{inpaint}')
    write_clips(roots[inpaint], count=19, inpaint=inpaint, unknown=None)
    build(roots[inpaint])
  return roots


def scenes_config(root, **changes):
  config = toy_config(root / 'data', **changes)
  config.data.train = dataset_ref('scenes', 'train')
  config.eval.datasets = ConfigDict({'scenes': dataset_ref('scenes', 'train')})
  config.eval.allow_seen_classes = True
  config.eval.recipes = ('none', 'person=inpaint', 'background=swap')
  return config


@pytest.mark.slow
def test_a_step_is_the_same_on_two_devices(roots):
  config = scenes_config(roots[True], recipe=RECIPE, augment__mixup=0.5)
  one, two = take_steps(config, 1), take_steps(config, 2)
  assert_same_training(one, two)


@pytest.mark.slow
def test_a_run_shows_inpainted_frames(roots, tmp_path):
  config = scenes_config(roots[True], recipe=RECIPE, steps=2, data__workers=1)
  experiment.run(config, tmp_path)
  results = json.loads((tmp_path / 'results.json').read_text())['scenes']
  assert {recipe: figures.get('scenes') for recipe, figures in results.items()} == {
    'none': None,
    'person=inpaint': None,
    'background=swap': 'inpainted',
  }
  saved = load(tmp_path / 'predictions' / 'scenes.npz')
  assert saved.inpainted_scenes
  # The clip without masks counts under no recipe that needs them.
  unmasked = saved.ids.index(NO_MASKS)
  for recipe, logits in saved.logits.items():
    assert np.isfinite(logits[unmasked]).all() == (recipe == 'none')
  with pytest.raises(
    UserError, match='config.recipe: .* scenes has none; make them with zsar make'
  ):
    loop.train(scenes_config(roots[False], recipe='person=inpaint'), tmp_path / 'other')


def test_results_say_how_backgrounds_were_made(roots, tmp_path):
  recipes = ('none', 'background=swap')
  evaluated = {}
  for inpaint, root in roots.items():
    config = scenes_config(root)
    config.eval.recipes = recipes
    (evaluated[inpaint],) = random_model(config, 1)()
    config.eval.recipes = (*recipes, 'person=inpaint')
    if inpaint:
      # On two devices, and with the clips' own inpainted frames in the batch.
      (again,) = random_model(config, 2)()
      for recipe in recipes:
        np.testing.assert_allclose(
          again.logits[recipe], evaluated[inpaint].logits[recipe], rtol=1e-4, atol=1e-4
        )
      assert not np.allclose(again.logits['person=inpaint'], again.logits['none'], equal_nan=True)
    else:
      with pytest.raises(UserError, match='config.eval.recipes, scenes: .* scenes has none'):
        random_model(config, 1)
  filled, inpainted = evaluated[False], evaluated[True]
  assert filled.partners == inpainted.partners
  np.testing.assert_allclose(filled.logits['none'], inpainted.logits['none'], atol=1e-5)
  swapped = [predictions.logits['background=swap'] for predictions in (filled, inpainted)]
  assert not np.allclose(*swapped, atol=1e-3, equal_nan=True)
  with pytest.raises(UserError, match="under 'background=swap', one of two runs saw the inpainted"):
    check_same_clips(filled, inpainted)
  tables = {}
  for name, predictions in (('filled', filled), ('inpainted', inpainted)):
    tables[name] = format_table(save_results([predictions], {}, tmp_path / name))
    again = load(tmp_path / name / 'predictions' / 'scenes.npz')
    assert again.inpainted_scenes == predictions.inpainted_scenes == (name == 'inpainted')
    check_same_clips(again, predictions)
  assert 'background=swap (scenes inpainted) ' in tables['inpainted']
  assert 'scenes inpainted' not in tables['filled']
  files = [set(np.load(tmp_path / name / 'predictions' / 'scenes.npz').files) for name in tables]
  assert files[1] - files[0] == {'inpainted_scenes'}


def test_groups_name_backgrounds_of_several_kinds():
  figures = {'top1': 0.5, 'top5': 1.0, 'mean_class': 0.5, 'count': 4}
  inpainted = {'background=swap': figures | {'scenes': 'inpainted'}}
  filled = {'background=swap': figures}
  scenes = [
    summarize_group(members)['background=swap'].get('scenes')
    for members in ([filled, filled], [filled, inpainted], [inpainted, inpainted])
  ]
  assert scenes == [None, 'inpainted in 1 of 2 data sets', 'inpainted']


def test_a_plan_has_the_batch_with_inpainted_frames(roots, monkeypatch):
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda name: None)
  memory = {}
  for recipe in ('person=mean', 'person=inpaint'):
    config = scenes_config(roots[True], recipe=recipe)
    config.eval.recipes = (recipe, 'background=swap')
    config.mesh.data = 8
    config.optim.accumulation = 1
    plan = planner.make_plan(config, topologies.parse('gpu:8xH100'), 20)
    memory[recipe] = [plan[mode]['memory']['batch'] for mode in ('train', 'evaluation')]
  frames = 2 * 16 * 16 * 3
  # Two clips of the training batch on each device; one of the evaluation, with its partner.
  difference = np.subtract(memory['person=inpaint'], memory['person=mean'])
  assert difference.tolist() == [2 * frames, 2 * frames]
