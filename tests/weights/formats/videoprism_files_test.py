"""VideoPrism-LvT from files of transformers and of the authors computes the same as transformers.

The authors' file is written by a conversion that is independent of the table under test.
"""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.weights.formats import states
from zsar_jax.errors import UserError
from zsar_jax.models import presets, videoprism
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.photometric import normalize
from zsar_jax.weights.formats import infer, load
from zsar_jax.weights.formats.read import read_weights

torch = states.torch
if not hasattr(states.transformers, 'VideoPrismClipModel'):
  pytest.skip('needs a transformers with VideoPrism', allow_module_level=True)

_SIZES = dict(hidden_size=48, intermediate_size=192, num_attention_heads=3)
_FRAMES, _SIDE, _LENGTH = 3, 36, 7


@pytest.fixture(scope='module')
def theirs():
  torch.manual_seed(0)
  vision = dict(
    **_SIZES,
    image_size=_SIDE,
    tubelet_size=[1, 12, 12],
    num_frames=_FRAMES,
    num_spatial_layers=2,
    num_temporal_layers=3,
    num_auxiliary_layers=1,
  )
  text = dict(**_SIZES, vocab_size=90, max_position_embeddings=_LENGTH, num_hidden_layers=2)
  config = states.transformers.VideoPrismConfig(vision_config=vision, text_config=text)
  model = states.disturbed(states.transformers.VideoPrismClipModel(config))
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if name.endswith(('q_proj.weight', 'k_proj.weight')):
        parameter *= 3  # So that logits reach the bound of 50.
    # transformers has other positions; see `videoprism.sinusoids`.
    model.text_model.embeddings.position_embedding.copy_(
      torch.from_numpy(videoprism.sinusoids(_LENGTH, 48))
    )
  return model


@pytest.fixture(scope='module')
def folder(theirs, tmp_path_factory):
  path = tmp_path_factory.mktemp('hf')
  theirs.save_pretrained(path)
  return path


@pytest.fixture(scope='module')
def inputs():
  rng = np.random.default_rng(0)
  clips = rng.uniform(size=(2, _FRAMES, _SIDE, _SIDE, 3)).astype(np.float32)
  tokens = rng.integers(1, 90, (4, _LENGTH)).astype(np.int32)
  for row, length in zip(tokens, (3, 1, _LENGTH, 5), strict=True):
    row[length:] = 0
  return clips, tokens


@pytest.fixture(scope='module')
def expected(theirs, inputs):
  clips, tokens = inputs
  with torch.no_grad():
    video = theirs.get_video_features(torch.from_numpy(clips).permute(0, 1, 4, 2, 3))
    ids = torch.from_numpy(tokens).long()
    # Without a mask, attention is not causal.
    text = theirs.get_text_features(ids, attention_mask=(ids != 0).long())
  return video.pooler_output[:, 0].numpy(), text.pooler_output.numpy()


def read(path):
  weights = read_weights(str(path), 'SRC')
  model = VideoModel(*infer.infer_spec(weights))
  return (model, *load.fit_to_model(weights, model))


def outputs(model, params, inputs):
  clips, tokens = inputs
  video = jax.jit(model.encode_video)(params, normalize(clips))['embedding']
  return video, jax.jit(model.encode_text)(params, tokens)


def difference(ours, theirs):
  return max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))


def test_transformers_files(folder, inputs, expected):
  model, params, report = read(folder)
  assert report.matched == len(jax.tree.leaves(model.abstract_params)), report
  assert not report.missing + report.left_over + report.interpolated
  assert {key.rsplit('.', 1)[-1] for key in report.dropped} <= {
    'position_embedding',
    'position_ids',
  }
  assert model.spec.architecture == 'videoprism'
  assert (model.video.temporal, model.video.num_frames) == ('videoprism', _FRAMES)
  assert (model.spec.time_layers, model.spec.auxiliary_layers) == (3, 1)
  # The scale of the authors' demonstration.
  np.testing.assert_allclose(np.exp(params['logit_scale']), 100, rtol=1e-6)
  assert difference(outputs(model, params, inputs), expected) < 2e-5


def test_differences_would_be_noticed(folder, inputs, expected, monkeypatch):
  model, params, _ = read(folder)
  pool = params['visual']['attn_pool']
  scale = pool['attn']['query']['per_dim_scale']
  plain = jax.tree.map(lambda leaf: 0 * leaf if leaf is scale else leaf, pool)
  changed = params | {'visual': params['visual'] | {'attn_pool': plain}}
  assert difference(outputs(model, changed, inputs)[:1], expected[:1]) > 1e-3

  original = presets.get_architecture
  monkeypatch.setattr(
    presets, 'get_architecture', lambda name: dataclasses.replace(original(name), logit_cap=0.0)
  )
  uncapped = VideoModel(model.spec, model.video)
  for ours, theirs in zip(outputs(uncapped, params, inputs), expected, strict=True):
    assert difference([ours], [theirs]) > 1e-3


def authors_arrays(theirs):
  """Returns the parameters of a model of transformers as the authors' .npz files hold them."""
  state = {key: value.numpy() for key, value in theirs.state_dict().items()}

  def attention(name, stored):
    arrays = {}
    for key in ('query', 'key', 'value'):
      weight, bias = (stored[f'{name}.{key[0]}_proj.{leaf}'] for leaf in ('weight', 'bias'))
      arrays[f'{key}/w'] = weight.T.reshape(weight.shape[1], 3, -1)
      arrays[f'{key}/b'] = bias.reshape(3, -1)
    weight = stored[f'{name}.o_proj.weight']
    return arrays | {
      'post/w': weight.reshape(len(weight), 3, -1),
      'post/b': stored[f'{name}.o_proj.bias'],
    }

  def norm(prefix, name):
    return {f'{prefix}/scale': state[f'{name}.weight'], f'{prefix}/bias': state[f'{name}.bias']}

  def stack(name, count):
    layers = []
    for number in range(count):
      layer = f'{name}.{number}'
      arrays = {f'self_attention/{k}': v for k, v in attention(f'{layer}.attention', state).items()}
      arrays |= norm('layer_norm', f'{layer}.layernorm_before')
      arrays |= norm('ff_layer/layer_norm', f'{layer}.layernorm_after')
      for ours, fc in (('ffn_layer1', 'fc1'), ('ffn_layer2', 'fc2')):
        arrays[f'ff_layer/{ours}/linear/kernel'] = state[f'{layer}.mlp.{fc}.weight'].T
        arrays[f'ff_layer/{ours}/linear/bias'] = state[f'{layer}.mlp.{fc}.bias']
      layers.append(arrays)
    return {f'x_layers/{key}': np.stack([layer[key] for layer in layers]) for key in layers[0]}

  def under(prefix, arrays):
    return {f'{prefix}/{key}': array for key, array in arrays.items()}

  video, head, text = 'video_model.vision_model', 'video_model.head', 'text_model'
  patches = f'{video}.spatial_embeddings.patch_embeddings.projection'
  kernel = state[f'{patches}.weight'][:, :, 0]  # (D, 3, P, P)
  arrays = {
    'vision_encoder/patch_projection/linear/kernel': kernel.transpose(2, 3, 1, 0).reshape(-1, 48),
    'vision_encoder/patch_projection/linear/bias': state[f'{patches}.bias'],
    'vision_encoder/spatial_pos_emb/emb_var': state[
      f'{video}.spatial_embeddings.position_embeddings'
    ][0],
    'vision_encoder/temporal_pos_emb/emb_var': state[
      f'{video}.temporal_embeddings.position_embeddings'
    ][0],
    'text_encoder/token_emb/emb_var': state[f'{text}.embeddings.token_embedding.weight'],
    'text_encoder/cls_emb': state[f'{text}.embeddings.cls_emb'],
    **norm('vision_encoder/spatial_ln', f'{video}.layernorm1'),
    **norm('vision_encoder/temporal_ln', f'{video}.layernorm2'),
    **norm('text_encoder/unimodal_ln', f'{text}.layernorm'),
    **under('text_encoder/unimodal_transformer', stack(f'{text}.layers', 2)),
  }
  for theirs_name, name, count in (
    ('vision_encoder/spatial_encoder', f'{video}.spatial_layers', 2),
    ('vision_encoder/temporal_encoder', f'{video}.temporal_layers', 3),
    ('auxiliary_encoder', 'video_model.auxiliary_layers', 1),
  ):
    arrays |= under(f'{theirs_name}/transformers_stack', stack(name, count))
  pooler = 'contrastive_vision_pooler'
  arrays |= under(f'{pooler}/pooling_attention', attention(head, state))
  arrays |= {
    f'{pooler}/pooling_attention/per_dim_scale/per_dim_scale': state[f'{head}.per_dim_scale'],
    f'{pooler}/pooling_attention_query': state[f'{head}.pooling_attention_query'][0],
    **norm(f'{pooler}/pooling_attention_layer_norm', 'video_model.head_layernorm'),
  }
  return under('params', arrays)


@pytest.fixture(scope='module')
def authors(theirs):
  return authors_arrays(theirs)


@pytest.fixture(scope='module')
def npz(authors, tmp_path_factory):
  path = tmp_path_factory.mktemp('flax') / 'flax_lvt_tiny_repeated.npz'
  np.savez(path, **authors)
  return path


def test_authors_files(npz, inputs, expected):
  model, params, report = read(npz)
  assert report.format == 'videoprism'
  assert report.matched == len(jax.tree.leaves(model.abstract_params)), report
  assert not report.missing + report.left_over + report.dropped + report.interpolated
  assert model.spec.patch == 12
  assert model.spec.context_length == 64
  assert difference(outputs(model, params, inputs), expected) < 2e-5


def test_a_block_of_the_authors_files_with_their_equations(npz, authors):
  """The equations of `videoprism.layers`, which transformers' layout does not show."""
  model, params, _ = read(npz)
  prefix = 'params/vision_encoder/temporal_encoder/transformers_stack/x_layers/'
  block = {
    key.removeprefix(prefix): array[1].astype(float)
    for key, array in authors.items()
    if key.startswith(prefix)
  }
  x = np.random.default_rng(1).normal(size=(2, 4, 48))

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * (1 + block[f'{name}/scale']) + block[f'{name}/bias']

  normed = norm(x, 'layer_norm')
  query, key, value = (
    np.einsum('btD,DNH->btNH', normed, block[f'self_attention/{name}/w'])
    + block[f'self_attention/{name}/b']
    for name in ('query', 'key', 'value')
  )
  logits = np.einsum('BTNH,BSNH->BNTS', query * 16**-0.5, key)
  assert np.abs(logits).max() > 25  # Where a bound of 50 makes a difference.
  weights = np.exp(50 * np.tanh(logits / 50))
  mixed = np.einsum('BNTS,BSNH->BTNH', weights / weights.sum(-1, keepdims=True), value)
  y = x + np.einsum('BTNH,DNH->BTD', mixed, block['self_attention/post/w'])
  y = y + block['self_attention/post/b']
  hidden = norm(y, 'ff_layer/layer_norm') @ block['ff_layer/ffn_layer1/linear/kernel']
  hidden = hidden + block['ff_layer/ffn_layer1/linear/bias']
  hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
  expected = y + hidden @ block['ff_layer/ffn_layer2/linear/kernel']
  expected = expected + block['ff_layer/ffn_layer2/linear/bias']

  with model._network(params) as network:
    ours = network.visual.temporal_transformer.resblocks['1'](jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_clips_of_other_sizes_interpolate_positions(folder, theirs):
  """Bilinearly with anti-aliasing, in space and time, as in transformers and the authors' code."""
  weights = read_weights(str(folder), 'SRC')
  spec, video = infer.infer_spec(weights)
  model = VideoModel(
    dataclasses.replace(spec, resolution=60), dataclasses.replace(video, num_frames=5)
  )
  params, report = load.fit_to_model(weights, model)
  assert len(report.interpolated) == 2
  clips = np.random.default_rng(3).uniform(size=(2, 5, 60, 60, 3)).astype(np.float32)
  with torch.no_grad():
    pixels = torch.from_numpy(clips).permute(0, 1, 4, 2, 3)
    expected = theirs.get_video_features(pixels, interpolate_pos_encoding=True).pooler_output
  ours = jax.jit(model.encode_video)(params, normalize(clips))['embedding']
  np.testing.assert_allclose(ours, expected[:, 0], atol=2e-5)


@pytest.mark.parametrize(
  ('section', 'key', 'value'),
  [
    ('vision_config', 'attn_logit_softcapping', 30.0),
    ('text_config', 'hidden_act', 'gelu'),
    ('vision_config', 'layer_norm_eps', 1e-5),
  ],
)
def test_other_models_are_refused(section, key, value, folder, tmp_path):
  save_file(load_file(folder / 'model.safetensors'), tmp_path / 'model.safetensors')
  config = json.loads((folder / 'config.json').read_text())
  config[section][key] = value
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match=f'{section}.{key} is {value!r}'):
    read(tmp_path)
