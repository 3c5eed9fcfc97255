"""Arrays that match, are missing, left over, interpolated or refused."""

import dataclasses
import sys
import types

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.weights.formats.written import random_params
from zsar_jax.errors import UserError
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime import trees
from zsar_jax.weights.formats import infer, load, position_embeddings, save
from zsar_jax.weights.formats.hints import PYTHON
from zsar_jax.weights.formats.read import read_weights

SPEC = preset('tiny', image_layers=2, image_width=64, image_heads=1, text_heads=1)
MODEL = VideoModel(SPEC, VideoSpec(4))


@pytest.fixture(scope='module', name='params')
def _params():
  return random_params(MODEL)


@pytest.fixture(name='folder')
def _folder(tmp_path, params):
  """A model folder of transformers; tests may change its arrays."""
  save.save_weights(params, MODEL, 'hf', tmp_path / 'w')
  return tmp_path / 'w'


def change(folder, function):
  arrays = load_file(folder / 'model.safetensors')
  function(arrays)
  save_file(arrays, folder / 'model.safetensors')


def read(folder, model=MODEL, **options):
  return load.load_weights(str(folder), model, field='config.model.init_from', **options)


def refused(folder, words, model=MODEL, **options):
  with pytest.raises(UserError, match=words) as caught:
    read(folder, model, **options)
  assert '\n' not in str(caught.value)


def test_missing_parts_keep_their_initial_values(folder, params):
  model = VideoModel(SPEC, VideoSpec(4, 'transformer', 2, image_prompts=2, prompt_depth=2))
  refused(folder, r'w: lacks temporal/positional_embedding .35 arrays missing', model)
  rules = ['temporal/.*', 'visual/prompts/.*']
  refused(folder, 'lacks visual/prompts/blocks/1 .2 arrays', model, allow_missing=rules[:1])
  loaded, report = read(folder, model, allow_missing=rules)
  assert report.matched == len(jax.tree.leaves(params))
  assert len(report.missing) == 35
  assert 'missing: 35 (temporal/positional_embedding, temporal/transformer/' in report.describe()
  assert 'resblocks/*/attn/key/bias x 2' in report.describe()
  assert len(report.describe().splitlines()) == 2

  initial = random_params(model, seed=1)
  merged = trees.merge(loaded, initial)
  assert jax.tree.structure(merged) == jax.tree.structure(model.abstract_params)
  np.testing.assert_array_equal(merged['logit_scale'], params['logit_scale'])
  for part in (lambda tree: tree['temporal'], lambda tree: tree['visual']['prompts']):
    jax.tree.map(np.testing.assert_array_equal, part(merged), part(initial))

  refused(folder, "allow_missing: 'tempral/.*' matches no parameter", allow_missing=['tempral/.*'])
  refused(folder, 'allow_missing: .* is no .regular expression', allow_missing=['('])


def test_renamed_and_left_over_keys(folder):
  def rename(arrays):
    arrays['visual_projection.wait'] = arrays.pop('visual_projection.weight')

  change(folder, rename)
  refused(folder, r'lacks visual/proj/kernel .1 array missing, 1 left over; read as hf_clip')
  refused(folder, 'also holds visual_projection.wait', allow_missing=['visual/proj/kernel'])
  rules = dict(allow_missing=['visual/proj/kernel'], allow_left_over=[r'visual_projection\..*'])
  loaded, report = read(folder, **rules)
  assert loaded['visual']['proj']['kernel'] is None
  assert report.left_over == ('visual_projection.wait',)
  assert 'left over: 1 (visual_projection.wait)' in report.describe()
  refused(folder, 'allow_left_over: not a regular expression', allow_left_over=['('])
  change(folder, lambda arrays: arrays.pop('vision_model.embeddings.patch_embedding.weight'))
  with pytest.raises(UserError, match='image_width, patch, resolution cannot be inferred'):
    infer.infer_spec(read_weights(str(folder), 'SRC'))


def test_missing_and_additional_layers(folder):
  deeper = VideoModel(dataclasses.replace(SPEC, image_layers=3), VideoSpec(4))
  refused(folder, 'lacks visual/transformer/resblocks/2/.*16 arrays missing, 0 left over', deeper)
  shallower = VideoModel(dataclasses.replace(SPEC, text_layers=1), VideoSpec(4))
  refused(folder, r'also holds text_model.encoder.layers.1..*0 arrays missing, 16', shallower)


@pytest.mark.parametrize(
  ('field', 'value'),
  [('image_width', 128), ('patch', 4), ('embed_dim', 32), ('image_heads', 2), ('vocab_size', 99)],
)
def test_weights_of_another_model(field, value, folder):
  model = VideoModel(dataclasses.replace(SPEC, **{field: value}), VideoSpec(4))
  there = getattr(SPEC, field)
  refused(folder, f'w: weights of another model: {field} is {there} there and {value} here', model)


def test_wrong_arrays(folder):
  key = 'vision_model.encoder.layers.1.mlp.fc1.weight'
  good = load_file(folder / 'model.safetensors')
  for value, words in (
    (good[key].T, rf'{key} has shape \(64, 256\) instead of \(256, 64\)'),
    (good[key][:-1], r'shape \(255, 64\)'),
    (good[key].reshape(-1), r'shape \(16384,\)'),
    (good[key].astype(np.int32), f'{key} contains int32 instead of floats'),
    (np.where(good[key] > 2, np.nan, good[key]), f'{key} contains values that are not finite'),
    (np.where(good[key] > 2, np.inf, good[key]), 'not finite'),
    (good[key].astype(np.float64) * 1e300, 'not finite'),
  ):
    change(folder, lambda arrays, value=value: arrays.update({key: np.ascontiguousarray(value)}))
    refused(folder, words)
  change(folder, lambda arrays: arrays.update({key: good[key].astype(np.float64)}))
  loaded, _ = read(folder)
  kernel = loaded['visual']['transformer']['resblocks']['1']['mlp']['c_fc']['kernel']
  np.testing.assert_array_equal(kernel, good[key].T)
  assert kernel.dtype == np.float32


def test_without_a_config_errors_name_no_config_field(folder):
  key = 'vision_model.encoder.layers.1.mlp.fc1.weight'
  change(folder, lambda arrays: arrays.update({key: arrays[key][:-1]}))
  weights = read_weights(str(folder), PYTHON.source, hints=PYTHON)
  with pytest.raises(UserError, match='instead of .*; fetch the file again') as caught:
    load.fit_to_model(weights, MODEL)
  assert 'config.' not in str(caught.value)


def test_every_parameter_is_contiguous_f32(folder, params):
  loaded, report = read(folder)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  for leaf, expected in zip(
    jax.tree.leaves(loaded), jax.tree.leaves(MODEL.abstract_params), strict=True
  ):
    assert isinstance(leaf, np.ndarray)
    assert (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype)
    assert leaf.flags.c_contiguous
  assert report.describe() == f'{folder}: hf_clip, {report.matched} arrays matched'


@pytest.mark.parametrize('size', [(7, 14), (7, 10), (14, 7), (24, 16)])
def test_positions_are_resized_as_open_clip_does(size):
  torch = pytest.importorskip('torch', reason='the reference needs the extra `parity`')
  old, new = size
  rows = np.random.default_rng(0).normal(size=(1 + old * old, 5)).astype(np.float32)
  ours = position_embeddings.resize_grid(rows, 1 + new * new)
  grid = torch.tensor(rows[1:].reshape(1, old, old, 5)).permute(0, 3, 1, 2)
  expected = torch.nn.functional.interpolate(
    grid, (new, new), mode='bicubic', align_corners=False, antialias=True
  )
  expected = expected.permute(0, 2, 3, 1).reshape(new * new, 5)
  np.testing.assert_allclose(ours[1:], expected, atol=2e-5)
  np.testing.assert_array_equal(ours[0], rows[0])


def test_frames_are_resized_linearly():
  torch = pytest.importorskip('torch', reason='the reference needs the extra `parity`')
  rows = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
  expected = torch.nn.functional.interpolate(
    torch.tensor(rows.T[None]), 32, mode='linear', align_corners=False
  )[0].T
  np.testing.assert_allclose(position_embeddings.resize_frames(rows, 32), expected, atol=1e-6)
  ramp = np.arange(8, dtype=np.float32)[:, None]
  fewer = position_embeddings.resize_frames(ramp, 4)[:, 0]
  np.testing.assert_allclose(fewer[1:3], [2.5, 4.5], atol=1e-5)  # Means of neighbors.
  assert np.all(np.diff(fewer) > 1)


def test_another_resolution_and_number_of_frames(tmp_path):
  model = VideoModel(SPEC, VideoSpec(4, 'xclip', 1))
  params = random_params(model)
  save.save_weights(params, model, 'hf', tmp_path / 'w')
  larger = VideoModel(dataclasses.replace(SPEC, resolution=64), VideoSpec(6, 'xclip', 1))
  loaded, report = read(tmp_path / 'w', larger)
  assert loaded['visual']['positional_embedding'].shape == (65, 64)
  np.testing.assert_allclose(
    loaded['temporal']['positional_embedding'],
    position_embeddings.resize_frames(params['temporal']['positional_embedding'], 6),
  )
  text = report.describe()
  assert 'interpolated: visual/positional_embedding, from (37, 64) to (65, 64)' in text
  assert 'interpolated: temporal/positional_embedding, from (1, 4, 64) to (6, 64)' in text

  def spoil(arrays):
    key = 'vision_model.embeddings.position_embedding.weight'
    arrays[key] = np.zeros((36, 64), np.float32)

  change(tmp_path / 'w', spoil)
  refused(tmp_path / 'w', r'position_embedding.weight has shape \(36, 64\) instead of', larger)


def test_names_of_the_hub(folder, params, monkeypatch):
  requests = []

  def download(name, *, revision, allow_patterns):
    requests.append((name, revision, allow_patterns[-1]))
    return str(folder)

  module = types.SimpleNamespace(snapshot_download=download)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', module)
  loaded, _ = read('hf://openai/clip-vit-base-patch16@main')
  np.testing.assert_array_equal(loaded['logit_scale'], params['logit_scale'])
  assert requests == [('openai/clip-vit-base-patch16', 'main', '*.safetensors')]

  (folder / 'model.safetensors').rename(folder / 'other')
  refused('hf://a/b', r'hf://a/b: has none of \*.safetensors, \*.bin, \*.npz, \*.pt')
  assert [patterns for _, _, patterns in requests[1:]] == [
    '*.safetensors',
    '*.bin',
    '*.npz',
    '*.pt',
  ]

  def fail(*_, **__):
    raise ConnectionError('no route\nto host')

  module.snapshot_download = fail
  refused('hf://a/b', 'hf://a/b: cannot be downloaded .no route.; check the name')
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  refused('hf://a/b', r'pip install .zsar_jax\[hub\]')
