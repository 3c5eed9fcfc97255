"""Random models of every kind that a format supports are written and read back."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import serialization

from tests.models import architectures_test
from tests.weights.formats.written import random_params
from zsar_jax.errors import UserError
from zsar_jax.models.architectures import ARCHITECTURES
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime.trees import path_name
from zsar_jax.weights.formats import infer, load, save
from zsar_jax.weights.formats.key_tables import Table
from zsar_jax.weights.formats.read import read_weights
from zsar_jax.weights.formats.recognition import FORMATS


def random_spec(rng):
  patch, heads = rng.integers(2, 6), rng.integers(1, 4, 2)
  return TowerSpec(
    embed_dim=int(rng.integers(1, 3)) * 64,
    resolution=int(patch * rng.integers(2, 5)),
    patch=int(patch),
    image_width=int(heads[0]) * 64,
    image_layers=int(rng.integers(1, 12)),
    image_heads=int(heads[0]),
    text_width=int(heads[1]) * 64,
    text_layers=int(rng.integers(1, 3)),
    text_heads=int(heads[1]),
    context_length=int(rng.integers(4, 20)),
    vocab_size=int(rng.integers(4, 50)),
  )


def random_video(rng, temporal):
  frames = int(rng.integers(1, 9))
  layers = int(rng.integers(1, 4))
  if temporal == 'prompts':
    return VideoSpec(frames, image_prompts=2, text_prompts=1, prompt_depth=layers)
  if temporal == 'distillation':
    return VideoSpec(frames, 'window', residual_distillation=True)
  return VideoSpec(frames, temporal, layers)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(
  ('target', 'temporal'),
  [
    ('hf', 'mean'),
    ('hf', 'xclip'),
    ('scenic', 'mean'),
    ('zsar', 'mean'),
    ('zsar', 'transformer'),
    ('zsar', 'window'),
    ('zsar', 'xclip'),
    ('zsar', 'prompts'),
    ('zsar', 'distillation'),
  ],
)
def test_round_trip(target, temporal, seed, tmp_path):
  rng = np.random.default_rng(seed)
  spec = random_spec(rng)
  model = VideoModel(spec, random_video(rng, temporal))
  params = random_params(model, seed)
  save.save_weights(params, model, target, tmp_path / 'w')
  weights = read_weights(str(tmp_path / 'w'), 'SRC')
  inferred_spec, video = infer.infer_spec(weights)
  assert inferred_spec == spec
  kind = 'hf_xclip' if temporal == 'xclip' else 'hf_clip'
  assert weights.format.name == (kind if target == 'hf' else target)
  if target == 'zsar':
    assert video == model.video
  assert video.temporal == model.video.temporal
  loaded, report = load.fit_to_model(weights, VideoModel(inferred_spec, video))
  assert not report.missing + report.left_over + report.dropped + report.interpolated
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize(
  ('target', 'temporal', 'path'),
  [
    ('hf', 'transformer', 'temporal/positional_embedding'),
    ('hf', 'prompts', 'text/prompts/'),
    ('scenic', 'xclip', 'temporal/positional_embedding'),
  ],
)
def test_parameters_that_a_format_does_not_have(target, temporal, path, tmp_path):
  rng = np.random.default_rng(0)
  model = VideoModel(random_spec(rng), random_video(rng, temporal))
  with pytest.raises(UserError, match=f'has no {path}.*--to=zsar'):
    save.save_weights(random_params(model), model, target, tmp_path / 'w')
  assert not list(tmp_path.iterdir())


def test_paths_below_a_file_are_refused(tmp_path):
  model = VideoModel(random_spec(np.random.default_rng(0)), VideoSpec(2))
  (tmp_path / 'file').touch()
  for out in ('file/w', 'file/folder/w'):
    with pytest.raises(UserError, match=f'{out}: .*file.* cannot be a folder .*; name another'):
      save.save_weights(random_params(model), model, 'zsar', tmp_path / out)


def test_unrelated_configs_beside_a_file_are_not_read(tmp_path):
  rng = np.random.default_rng(0)
  model = VideoModel(random_spec(rng), VideoSpec(8))
  save.save_weights(random_params(model), model, 'scenic', tmp_path / 'w')
  (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
  for text in ('[]', 'no JSON'):
    (tmp_path / 'spec.json').write_text(text)
    weights = read_weights(str(tmp_path / 'w'), 'SRC')
    assert infer.infer_spec(weights) == (model.spec, model.video)


def test_parameters_of_training_are_not_exported(tmp_path):
  rng = np.random.default_rng(0)
  model = VideoModel(random_spec(rng), random_video(rng, 'distillation'))
  note = save.save_weights(random_params(model), model, 'scenic', tmp_path / 'w')
  assert 'frames do not attend to each other' in note
  tree = serialization.msgpack_restore((tmp_path / 'w').read_bytes())
  assert tree.keys() == {'params'}
  assert tree['params'].keys() == {'visual', 'text', 'logit_scale'}
  assert 'resblocks.0' in tree['params']['visual']['transformer']


def test_own_folders_serve_models_with_and_without_distillation(tmp_path):
  rng = np.random.default_rng(0)
  model = VideoModel(random_spec(rng), random_video(rng, 'distillation'))
  save.save_weights(random_params(model), model, 'zsar', tmp_path / 'w')
  plain = VideoModel(model.spec, dataclasses.replace(model.video, residual_distillation=False))
  _, report = load.load_weights(str(tmp_path / 'w'), plain, field='SRC')
  assert len(report.dropped) == 4
  spec = tmp_path / 'w' / 'spec.json'
  for text, words in (
    ('{"clip": {}}', 'does not describe a model'),
    ('{"clip": [1]}', 'does not describe a model'),
    ('[]', 'does not hold a JSON object'),
  ):
    spec.write_text(text)
    with pytest.raises(UserError, match=f'spec.json: {words}'):
      read_weights(str(tmp_path / 'w'), 'SRC')
  spec.unlink()
  with pytest.raises(UserError, match='w: spec.json, which describes the model, is missing'):
    infer.infer_spec(read_weights(str(tmp_path / 'w'), 'SRC'))


@pytest.mark.parametrize(
  ('section', 'field', 'value'),
  [
    ('video', 'num_frames', '8'),
    ('video', 'num_frames', 0),
    ('video', 'text_prompts', -1),
    ('video', 'prompt_depth', True),
    ('clip', 'patch', 8.0),
    ('clip', 'resolution', -48),
    ('clip', 'image_heads', 0),
  ],
)
def test_own_folders_with_odd_numbers_are_refused(section, field, value, tmp_path):
  rng = np.random.default_rng(0)
  model = VideoModel(random_spec(rng), VideoSpec(2))
  save.save_weights(random_params(model), model, 'zsar', tmp_path / 'w')
  path = tmp_path / 'w' / 'spec.json'
  saved = json.loads(path.read_text())
  saved[section][field] = value
  path.write_text(json.dumps(saved))
  with pytest.raises(UserError, match=f'spec.json: {section}.{field} is {value!r} but must be'):
    read_weights(str(tmp_path / 'w'), 'SRC')


@pytest.mark.parametrize('form', FORMATS, ids=lambda form: form.name)
def test_tables_are_one_to_one(form):
  """For the parameters of the first family that a table has all of."""
  for spec in map(architectures_test.tiny, ARCHITECTURES):
    temporal = 'xclip' if 'xclip' in form.name else spec.parts.temporal or 'mean'
    if temporal == 'xclip' and not spec.parts.class_token:
      continue
    params = VideoModel(spec, VideoSpec(2, temporal, 2)).abstract_params
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    missing = [path for path in paths if not form.table.to_theirs(path)]
    if not missing:
      break
  assert not missing
  keys = [form.table.to_theirs(path)[0] for path in paths]
  assert len(set(keys)) == len(paths)
  assert [form.table.to_ours(key)[0] for key in keys] == paths
  if form.name != 'zsar':
    assert form.table.to_ours('something.else') is None
    row = ('a', 'b', form.table.to_theirs(paths[0])[1])
    with pytest.raises(ValueError, match='two rows'):
      Table([row, row])
