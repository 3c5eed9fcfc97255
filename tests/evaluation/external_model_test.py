"""Somebody's model: its frames and texts, its scores, and the mistakes that its code may have."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.stats

from tests.earlier_run_test import saved_config as earlier_config
from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax import api, experiment
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation import external_model
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.evaluation.predictions import load
from zsar_jax.evaluation.scoring import ModelScorer
from zsar_jax.models.from_config import build_model
from zsar_jax.ops.photometric import CLIP_MEAN, CLIP_STD, normalize, to_float
from zsar_jax.ops.prepare import painted_frames
from zsar_jax.recipes import language
from zsar_jax.recipes.regions import OBJECT, PERSON
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import ClassTexts
from zsar_jax.weights import runs

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = ('none', 'background=black,object=#ff8000')


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


class OurModel:
  """A model of this project with random weights, as somebody's."""

  def __init__(self, config):
    self.model = build_model(config)
    self.params = self.model.init(jax.random.key(1))
    self.texts = ClassTexts.from_config(config, self.model)
    self.embed_video, self.embed_text = map(
      jax.jit, (self.model.encode_video, self.model.encode_text)
    )
    self.batches, self.calls = [], 0

  def encode_video(self, frames):
    assert frames.dtype == np.uint8
    assert frames.flags.writeable
    self.batches.append(frames)
    return self.embed_video(self.params, normalize(to_float(frames)))['embedding']

  def encode_text(self, texts):
    self.calls += 1
    assert isinstance(texts, list)
    assert all(type(text) is str for text in texts)
    return self.embed_text(self.params, self.texts.tokenizer(texts))


def evaluate_with(monkeypatch, config, workdir, model):
  """Evaluates an object as the external model."""
  monkeypatch.setattr(external_model, '_import_function', lambda name: lambda: model)
  config.model.external = 'some.module:load'
  results = experiment.run(config, workdir, 'eval')
  return load(workdir / 'predictions' / 'toy.npz'), results


def external_config(data_dir, **changes):
  config = toy_config(data_dir, model__temporal='mean', **changes)
  config.eval.recipes = RECIPES
  config.eval.datasets.toy.classes = 'all'
  return config


@pytest.mark.parametrize('view_changes', [{}, {'eval__clips': 2, 'eval__crops': 3}])
def test_our_own_model_as_somebodys(data_dir, tmp_path, monkeypatch, view_changes):
  config = external_config(data_dir, **view_changes)
  model = OurModel(config)
  mesh = sharding.make_mesh(config.mesh)
  scorer = ModelScorer(config, model.model, model.texts, mesh)
  # Cosines have another scale than an external model's.
  scale = np.float32(np.log(external_model.LOGIT_SCALE))
  params = jax.device_put(model.params | {'logit_scale': scale}, sharding.replicated(mesh))
  (expected,) = Evaluator(config, scorer, mesh, ()).run(params)
  actual, results = evaluate_with(monkeypatch, config, tmp_path, model)
  assert actual.ids == expected.ids
  for recipe in RECIPES:
    np.testing.assert_allclose(actual.logits[recipe], expected.logits[recipe], atol=2e-4)
    assert np.ptp(expected.logits[recipe], axis=0).max() > 0.05
  assert json.loads((tmp_path / 'results.json').read_text()) == results
  # Clips only, no padding: 11 clips, or 66 views, in batches of 8; texts once per template.
  views = 6 if view_changes else 1
  sizes = [len(frames) for frames in model.batches]
  assert sum(sizes) == len(RECIPES) * len(expected.ids) * views
  assert max(sizes) == config.eval.batch_size
  assert model.calls == len(config.text.templates)


def test_frames_are_those_of_the_data_set_painted(data_dir, tmp_path, monkeypatch):
  config = external_config(data_dir)
  model = OurModel(config)
  evaluate_with(monkeypatch, config, tmp_path, model)
  plain, painted = (np.concatenate(model.batches[n::2]) for n in range(2))
  subset = select(open_dataset(data_dir, 'toy', 'validation'), 'all', 'nearest', '')
  loader = ClipLoader(subset, View.from_config(config))
  for position in range(len(subset)):
    clip = loader.evaluation_clip(position)
    np.testing.assert_array_equal(plain[position], clip['frames'])
    person, thing = (clip['regions'] & bit > 0 for bit in (PERSON, OBJECT))
    expected = np.where((person | thing)[..., None], clip['frames'], 0)
    expected = np.where((thing & ~person)[..., None], [255, 128, 0], expected)
    np.testing.assert_array_equal(painted[position], expected)


def test_colors_that_do_not_fit_are_clipped():
  """The share of clipped values of `normal` colors, against the normal distribution."""
  count = 20000
  batch = {
    'frames': np.zeros((count, 1, 1, 1, 3), np.uint8),
    'regions': np.zeros((count, 1, 1, 1), np.uint8),
    'annotated': np.ones((count, 1), bool),
    'seed': np.arange(count, dtype=np.uint32),
  }
  key, recipe = jax.random.key(0), language.parse('background=normal')
  colors = np.asarray(painted_frames(key, batch, recipe)).reshape(count, 3)
  mean, std = np.array(CLIP_MEAN), np.array(CLIP_STD)
  # Values that round to 0 or 255.
  low = scipy.stats.norm.cdf((0.5 / 255 - mean) / std)
  high = scipy.stats.norm.sf((254.5 / 255 - mean) / std)
  tolerance = 4 * np.sqrt(0.1 * 0.9 / count)
  np.testing.assert_allclose((colors == 0).mean(axis=0), low, atol=tolerance)
  np.testing.assert_allclose((colors == 255).mean(axis=0), high, atol=tolerance)
  # The figure in docs/external_models.md: what lies outside of RGB.
  outside = scipy.stats.norm.cdf(-mean / std) + scipy.stats.norm.sf((1 - mean) / std)
  percent = [f'{100 * share:.1f}' for share in (*outside, outside.mean())]
  assert percent == ['6.3', '5.9', '8.5', '6.9']


class Scores:
  """Scores that tell which clip and which text they belong to; some are not finite."""

  def score(self, frames, texts):
    clips = frames.astype(np.float64).mean(axis=(1, 2, 3, 4))  # Grey levels, all different.
    scores = np.outer(clips, [len(text) for text in texts])
    scores[clips > 20] = np.nan
    return scores


def test_scores_are_averaged_over_templates(data_dir, tmp_path, monkeypatch, capsys):
  config = external_config(data_dir)
  config.eval.recipes = ('none',)
  predictions, results = evaluate_with(monkeypatch, config, tmp_path, Scores())
  subset = select(open_dataset(data_dir, 'toy', 'validation'), 'all', 'nearest', '')
  loader = ClipLoader(subset, View.from_config(config))
  means = [loader.evaluation_clip(n)['frames'].mean() for n in range(len(subset))]
  # The templates are '{}' and 'a video of {}.'.
  lengths = [len(name) + len('a video of .') / 2 for name in subset.classes]
  expected = np.where(np.array(means)[:, None] > 20, np.nan, np.outer(means, lengths))
  np.testing.assert_allclose(predictions.logits['none'], expected, rtol=1e-6)
  invalid = int(np.isnan(expected[:, 0]).sum())
  assert 0 < invalid < len(subset)
  assert (
    f"config.model.external: the scores of {invalid} of {len(subset)} clips of toy under 'none' are"
    ' not finite; these clips count as wrong'
  ) in capsys.readouterr().err
  longest = int(np.argmax(lengths))
  correct = np.isfinite(expected[:, 0]) & (subset.labels == longest)
  assert results['toy']['none']['top1'] == pytest.approx(correct.mean())


def model_file(**methods):
  """The text of a module whose function returns an object with the given methods."""
  lines = ['import numpy as np', 'class Model:', '  pass']
  for name, (arguments, expression) in methods.items():
    lines += [f'def {name}(self, {arguments}):', f'  return {expression}']
    lines.append(f'Model.{name} = {name}')
  return '\n'.join([*lines, 'def load():', '  return Model()', ''])


TEXT = ('texts', 'np.ones((len(texts), 4))')
VIDEO = ('frames', 'np.ones((len(frames), 4), np.float16)')


def encoders(text=TEXT[1], video=VIDEO[1]):
  return model_file(encode_text=('texts', text), encode_video=('frames', video))


@pytest.mark.parametrize(
  ('code', 'words'),
  [
    (None, 'there is no module .* in .*; start the command in the folder that has it'),
    ('import nowhere.at_all', r'cannot be imported: ModuleNotFoundError: .*\(.*m.py, line 1\)'),
    ('def load(:', r'cannot be imported: SyntaxError: .*\(.*m.py, line 1\)'),
    ('import sys\nsys.exit(3)', r'cannot be imported: SystemExit: 3 \(.*m.py, line 2\)'),
    ('x = 1', "has no function 'load'; name one of its functions"),
    ('load = 1', "has no function 'load'"),
    ('def load(size): pass', r'raised TypeError: load\(\) missing 1 required'),
    ('def load():\n  return 1 / 0', r'm:load raised ZeroDivisionError: .*\(.*m.py, line 2\)'),
    ('def load(): pass', 'returned a NoneType, which has neither the methods encode_video and'),
    (model_file(encode_text=TEXT), 'returned a Model, which has neither'),
    (
      encoders(video='__import__("json").loads("{")'),
      r'encode_video of .*m:load raised JSONDecodeError: .*\(.*m.py, line 8\); correct it',
    ),
    (encoders('np.ones((len(texts) + 1, 4))'), r'float64\[6, 4\], but it must be f32\[5, E\]'),
    (encoders('np.ones((len(texts), 0))'), r'float64\[5, 0\], but it must be'),
    (encoders('np.ones((len(texts), 4), int)'), r'int64\[5, 4\], but it must be f32\[5, E\]'),
    (encoders('None'), 'encode_text of .* returned a NoneType, but it must be'),
    (
      encoders('[[1.0], [1.0, 2.0]]'),
      r'a list that NumPy cannot read \(.*\); return a NumPy array',
    ),
    (
      encoders('np.eye(5) * [1, 0, 1, 1, np.nan]'),
      "an embedding of length 0, or one that is not finite, for 'moving left'",
    ),
    (encoders(video='np.ones((8, 3))'), 'embeddings of 3 numbers, and encode_text of 4'),
    (encoders(video='np.ones((8, 4, 1))'), r'float64\[8, 4, 1\], but it must be f32\[8, E\]'),
    (
      model_file(score=('frames, texts', 'np.ones((len(frames), 2))')),
      r'score of .* returned float64\[8, 2\], but it must be f32\[8, 5\]',
    ),
  ],
)
def test_mistakes_in_the_users_code(data_dir, tmp_path, monkeypatch, code, words, request):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  package = f'users_{abs(hash(request.node.name))}'  # A process imports a module only once.
  if code is not None:
    (tmp_path / package).mkdir()
    (tmp_path / package / '__init__.py').touch()
    (tmp_path / package / 'm.py').write_text(code)
  config = external_config(data_dir)
  config.model.external = f'{package}.m:load'
  with pytest.raises(UserError, match=words) as caught:
    experiment.run(config, tmp_path / 'run', 'eval')
  assert str(caught.value).startswith('config.model.external: ')


def test_an_installed_module_does_not_hide_the_users(data_dir, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  (tmp_path / 'json.py').write_text(encoders())
  config = external_config(data_dir)
  config.model.external = 'json:load'
  with pytest.raises(UserError, match='json is .*/json/__init__.py, which hides .*json.py; rename'):
    experiment.run(config, tmp_path / 'run', 'eval')


@pytest.mark.parametrize(
  ('mode', 'changes', 'words'),
  [
    ('eval', {'model__external': 'my_model.py'}, "'my_model.py' is not 'MODULE:FUNCTION'"),
    ('eval', {'model__external': '../my:load'}, "'../my:load' is not 'MODULE:FUNCTION'"),
    ('train', {}, "is not trained here; take mode 'eval'"),
    ('eval', {'eval__saliency': 8}, 'config.eval.saliency is 8, but .*; set it to 0'),
    ('eval', {'eval__interpolate': 0.5}, 'config.eval.interpolate is 0.5'),
    ('eval', {'model__init_from': 'runs/mine'}, "config.model.init_from is 'runs/mine'.*to ''"),
  ],
)
def test_settings_that_an_external_model_does_not_have(data_dir, tmp_path, mode, changes, words):
  config = external_config(data_dir, **{'model__external': 'never.imported:load'} | changes)
  with pytest.raises(UserError, match=words):
    experiment.run(config, tmp_path / 'run', mode)
  assert not (tmp_path / 'run').exists()


def test_files_of_runs_never_import_code(data_dir, tmp_path, monkeypatch):
  """Neither the API nor an evaluation follows a name in the config.json of a run."""
  run = tmp_path / 'run'
  shutil.copytree(ROOT / 'tests' / 'earlier_run', run)
  saved = json.loads((run / 'config.json').read_text())
  saved['model']['external'] = 'strangers_code:load'
  (run / 'config.json').write_text(json.dumps(saved))
  (tmp_path / 'strangers_code.py').write_text('raise AssertionError("executed")')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  assert not runs.saved_config(run).model.external
  assert len(api.load(run).encode_text(['a', 'b'])) == 2
  config = earlier_config(data_dir)
  assert experiment.run(config, run, 'eval')['toy']['none']['count'] == 4
  config.model.external = 'another:load'
  with pytest.raises(UserError, match='holds a trained run.*name another folder'):
    experiment.run(config, run, 'eval')


def test_the_flag_imports_from_the_current_folder(data_dir, tmp_path):
  """Also where Python, as the command `zsar`, does not look for modules there."""
  (tmp_path / 'mine.py').write_text(encoders())
  (tmp_path / 'small.py').write_text(
    'from zsar_jax.config import dataset_ref, default_config\n'
    'def get_config():\n'
    '  config = default_config()\n'
    f'  config.data.dir = {data_dir!r}\n'
    '  config.eval.datasets = type(config)()\n'
    '  config.view.num_frames, config.view.size, config.eval.batch_size = 2, 16, 4\n'
    "  config.eval.datasets.toy = dataset_ref('toy', 'validation')\n"
    # As the packaged configs have it; the model replaces these weights.
    "  config.model.init_from = 'weights/x'\n"
    '  return config\n'
  )
  done = subprocess.run(
    [sys.executable, '-P', '-m', 'zsar_jax.main', '--config=small.py', '--workdir=run']
    + ['--model=mine:load'],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert 'results.json' in done.stdout
  predictions = load(tmp_path / 'run' / 'predictions' / 'toy.npz')
  np.testing.assert_allclose(predictions.logits['none'], external_model.LOGIT_SCALE, rtol=1e-3)
