"""SigLIP of transformers, open_clip and big_vision: read, written, and the same numbers."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import zsar_jax
from tests.weights.formats import states
from tests.weights.formats.hugging_face_test import read
from zsar_jax.errors import UserError
from zsar_jax.models import architectures
from zsar_jax.models.presets import NORMALIZATIONS, VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.weights.formats import infer, load, save, siglip_open_clip
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.read import read_weights

torch = states.torch

# Heads of widths 24 and 20, and MLPs that are not 4 times as wide, as in So400m. As in g-opt, the
# text tower is not as wide as the embeddings.
_SHARED = {'hidden_act': 'gelu_pytorch_tanh', 'layer_norm_eps': 1e-6}
_TEXT = dict(hidden_size=80, intermediate_size=100, num_hidden_layers=2, num_attention_heads=4)
_TEXT |= dict(vocab_size=99, max_position_embeddings=9, projection_size=96, **_SHARED)
_TEXT |= dict(bos_token_id=None, eos_token_id=1, pad_token_id=1)
_VISION = dict(hidden_size=96, intermediate_size=150, num_hidden_layers=3, num_attention_heads=4)
_VISION |= dict(image_size=48, patch_size=16, **_SHARED)
_NAMES = ('query', 'key', 'value', 'out')


@functools.cache
def siglip():
  """A model in which no norm, bias or query has its initial value."""
  torch.manual_seed(0)
  config = states.transformers.SiglipConfig(text_config=_TEXT, vision_config=_VISION)
  model = states.transformers.SiglipModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
    model.logit_scale.fill_(np.log(117.3))
    model.logit_bias.fill_(-12.9)
  return model


def inputs(model):
  rng = np.random.default_rng(1)
  size = model.spec.resolution
  images = rng.normal(size=(3, 1, size, size, 3)).astype(np.float32)
  tokens = rng.integers(0, model.spec.vocab_size, (4, model.spec.context_length))
  return images, tokens.astype(np.int32)


def outputs(model, params):
  """Returns the embeddings of images and texts, and their logits."""
  images, tokens = inputs(model)
  # The model gets frames in CLIP's normalization.
  mean, std = map(np.array, NORMALIZATIONS['clip'])
  frames = ((images * 0.5 + 0.5 - mean) / std).astype(np.float32)
  encoded = jax.jit(model.encode_video)(params, frames)
  texts = jax.jit(model.encode_text)(params, tokens)
  return encoded['embedding'], texts, model.logits(params, encoded, texts)


def expected_outputs(theirs, model):
  images, tokens = inputs(model)
  with torch.no_grad():
    result = theirs(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      pixel_values=torch.tensor(images[:, 0].transpose(0, 3, 1, 2)),
    )
  return result.image_embeds, result.text_embeds, result.logits_per_image


def check(ours, expected):
  # Logits are up to 117 times as large as cosines.
  for value, other, atol in zip(ours, expected, (2e-5, 2e-5, 2e-3), strict=True):
    assert np.asarray(other).std() > 1e-2
    np.testing.assert_allclose(value, other, atol=atol)


def test_siglip_in_and_out(tmp_path):
  theirs = siglip()
  theirs.save_pretrained(tmp_path / 'in')
  model, params = read(tmp_path / 'in')
  spec = model.spec
  assert (spec.architecture, spec.normalization) == ('siglip', 'half')
  assert (spec.image_heads, spec.text_heads, spec.image_mlp, spec.text_mlp) == (4, 4, 150, 100)
  assert (spec.resolution, spec.patch, spec.embed_dim, spec.context_length) == (48, 16, 96, 9)
  check(outputs(model, params), expected_outputs(theirs, model))

  save.save_weights(params, model, 'hf', tmp_path / 'out', preprocessing=Preprocessing())
  again = states.transformers.SiglipModel.from_pretrained(tmp_path / 'out')
  assert again.state_dict().keys() == theirs.state_dict().keys()
  for key, value in theirs.state_dict().items():
    assert torch.equal(again.state_dict()[key], value), key
  check(outputs(model, params), expected_outputs(again.eval(), model))

  save.save_weights(params, model, 'zsar', tmp_path / 'zsar')
  check(outputs(*read(tmp_path / 'zsar')), expected_outputs(theirs, model))


@pytest.mark.parametrize('changes', [{'activation': 'gelu'}, {'epsilon': 1e-4}, {'pool_heads': 8}])
def test_another_architecture_is_noticed(changes, tmp_path, monkeypatch):
  siglip().save_pretrained(tmp_path)
  parts = dataclasses.replace(architectures.get_architecture('siglip'), **changes)
  monkeypatch.setattr(architectures, 'ARCHITECTURES', {'siglip': parts})
  model, params = read(tmp_path)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    check(outputs(model, params), expected_outputs(siglip(), model))


def test_what_follows_a_text_matters(tmp_path):
  siglip().save_pretrained(tmp_path)
  model, params = read(tmp_path)
  tokens = np.ones((2, 9), np.int32)
  tokens[1, 7] = 5
  first, second = model.encode_text(params, tokens)
  assert np.abs(first - second).max() > 1e-3


def heads_of(theirs, name, kernel):
  """Returns a projection of PyTorch, [out, in] or [out], in big_vision's layout."""
  count, value = 4, kernel.numpy()
  if name == 'out':
    return value.T.reshape(count, -1, len(value)) if value.ndim == 2 else value
  if value.ndim == 1:
    return value.reshape(count, -1)
  return value.T.reshape(value.shape[1], count, -1)


def big_vision_arrays(model, scanned):
  """Converts a state dict of transformers to big_vision's names and layouts."""
  state, arrays = model.state_dict(), {}

  def layer(theirs, ours):
    weight = state[f'{ours}.weight'].numpy()
    if weight.ndim == 1:
      arrays[f'{theirs}/scale'] = weight
    else:
      arrays[f'{theirs}/kernel'] = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)
    arrays[f'{theirs}/bias'] = state[f'{ours}.bias'].numpy()

  def mlp(theirs, ours):
    layer(f'{theirs}/MlpBlock_0/Dense_0', f'{ours}.fc1')
    layer(f'{theirs}/MlpBlock_0/Dense_1', f'{ours}.fc2')

  def attention(theirs, parts):
    for name, (weight, bias) in zip(_NAMES, parts, strict=True):
      path = f'{theirs}/MultiHeadDotProductAttention_0/{name}'
      arrays[f'{path}/kernel'] = heads_of(theirs, name, weight)
      arrays[f'{path}/bias'] = heads_of(theirs, name, bias)

  for theirs, ours, count in (
    ('params/img/Transformer', 'vision_model', 3),
    ('params/txt/Encoder_0', 'text_model', 2),
  ):
    for number in range(count):
      path, block = f'{theirs}/encoderblock_{number}', f'{ours}.encoder.layers.{number}'
      layer(f'{path}/LayerNorm_0', f'{block}.layer_norm1')
      layer(f'{path}/LayerNorm_1', f'{block}.layer_norm2')
      mlp(path, f'{block}.mlp')
      names = ('q_proj', 'k_proj', 'v_proj', 'out_proj')
      parts = [[state[f'{block}.self_attn.{n}.{x}'] for x in ('weight', 'bias')] for n in names]
      attention(path, parts)
    if scanned:
      leaves = [key for key in arrays if key.startswith(f'{theirs}/encoderblock_0/')]
      for leaf in leaves:
        keys = [leaf.replace('encoderblock_0', f'encoderblock_{i}') for i in range(count)]
        stacked = np.stack([arrays.pop(key) for key in keys])
        arrays[leaf.replace('encoderblock_0', 'encoderblock')] = stacked
  layer('params/img/embedding', 'vision_model.embeddings.patch_embedding')
  layer('params/img/Transformer/encoder_norm', 'vision_model.post_layernorm')
  layer('params/txt/Encoder_0/encoder_norm', 'text_model.final_layer_norm')
  layer('params/txt/head', 'text_model.head')
  pool = 'params/img/MAPHead_0'
  layer(f'{pool}/LayerNorm_0', 'vision_model.head.layernorm')
  mlp(pool, 'vision_model.head.mlp')
  stacked = [state[f'vision_model.head.attention.in_proj_{x}'].chunk(3) for x in ('weight', 'bias')]
  parts = list(zip(*stacked, strict=True))
  out = 'vision_model.head.attention.out_proj'
  attention(pool, [*parts, (state[f'{out}.weight'], state[f'{out}.bias'])])
  arrays[f'{pool}/probe'] = state['vision_model.head.probe'].numpy()
  positions = '_model.embeddings.position_embedding.weight'
  arrays['params/img/pos_embedding'] = state[f'vision{positions}'].numpy()[None]
  arrays['params/txt/pos_embedding'] = state[f'text{positions}'].numpy()[None]
  embedding = state['text_model.embeddings.token_embedding.weight']
  arrays['params/txt/Embed_0/embedding'] = embedding.numpy()
  arrays['params/t'] = state['logit_scale'].numpy()
  arrays['params/b'] = state['logit_bias'].numpy()
  return arrays


@pytest.mark.parametrize('scanned', [False, True])
def test_big_vision_is_the_same_model(scanned, tmp_path):
  arrays = big_vision_arrays(siglip(), scanned)
  np.savez(tmp_path / 'siglip.npz', **arrays)
  model, params = read(tmp_path / 'siglip.npz')
  assert (model.spec.image_heads, model.spec.architecture) == (4, 'siglip')
  expected = Preprocessing(resize='squash', interpolation='bilinear')
  assert read_weights(str(tmp_path / 'siglip.npz'), 'SRC').preprocessing == expected
  check(outputs(model, params), expected_outputs(siglip(), model))

  for compressed in (False, True):
    arrays['params/img/embedding/kernel'] = np.zeros((768, 96), np.float32)
    (np.savez_compressed if compressed else np.savez)(tmp_path / 'naflex.npz', **arrays)
    words = 'compressed' if compressed else 'a NaFlex model, whose images keep their proportions'
    with pytest.raises(UserError, match=words):
      read_weights(str(tmp_path / 'naflex.npz'), 'SRC')


def test_a_stack_of_too_many_blocks_is_not_taken_apart(tmp_path):
  arrays = big_vision_arrays(siglip(), scanned=True)
  scale = 'img/Transformer/encoderblock/LayerNorm_0/scale'
  arrays[f'params/{scale}'] = np.zeros((10**9, 0), np.float32)
  np.savez(tmp_path / 'siglip.npz', **arrays)
  weights = read_weights(str(tmp_path / 'siglip.npz'), 'SRC')
  assert list(weights.unmapped) == [scale]


def open_clip_model(activation):
  """An image tower of timm and a text tower of open_clip, with their state dict."""
  timm = pytest.importorskip('timm')
  towers = pytest.importorskip('open_clip.transformer')
  torch.manual_seed(0)
  trunk = timm.models.vision_transformer.VisionTransformer(
    img_size=48,
    patch_size=16,
    embed_dim=96,
    depth=3,
    num_heads=4,
    mlp_ratio=150 / 96,
    class_token=False,
    global_pool='map',
    act_layer=activation,
    num_classes=0,
  )
  norm = functools.partial(towers.LayerNorm, eps=1e-6)
  text = towers.TextTransformer(
    context_length=9,
    vocab_size=99,
    width=80,
    heads=4,
    layers=2,
    mlp_ratio=1.25,
    output_dim=96,
    no_causal_mask=True,
    pool_type='last',
    proj_bias=True,
    act_layer=functools.partial(torch.nn.GELU, approximate='tanh'),
    norm_layer=norm,
  )
  with torch.no_grad():
    for parameter in [*trunk.parameters(), *text.parameters()]:
      parameter += 0.1 * torch.randn_like(parameter)
  state = {f'visual.trunk.{key}': value for key, value in trunk.state_dict().items()}
  state |= {f'text.{key}': value for key, value in text.state_dict().items()}
  state |= {'logit_scale': torch.tensor(2.0), 'logit_bias': torch.tensor(-9.0)}
  return trunk.eval(), text.eval(), state


def write_open_clip(folder, state, text=(), **vision):
  folder.mkdir(exist_ok=True)
  arrays = {key: np.ascontiguousarray(value.numpy()) for key, value in state.items()}
  save_file(arrays, folder / 'open_clip_model.safetensors')
  vision = {'timm_model_name': 'vit_base_patch16_siglip_224', 'timm_pool': 'map'} | vision
  config = {
    'model_cfg': {
      'embed_dim': 96,
      'vision_cfg': {'image_size': 48, 'timm_proj': 'none'} | vision,
      'text_cfg': {'heads': 4, 'width': 80, 'no_causal_mask': True, 'pool_type': 'last'}
      | {'norm_kwargs': {'eps': 1e-6}}
      | dict(text),
    },
    'preprocess_cfg': {
      'mean': [0.5] * 3,
      'std': [0.5] * 3,
      'interpolation': 'bicubic',
      'resize_mode': 'squash',
    },
  }
  (folder / 'open_clip_config.json').write_text(json.dumps(config))


def test_open_clip_is_the_same_model(tmp_path, monkeypatch):
  trunk, text, state = open_clip_model('gelu_tanh')
  # The heads follow from timm's name of the model.
  monkeypatch.setitem(siglip_open_clip._TIMM_MODELS, 'base', 4)
  write_open_clip(tmp_path / 'in', state)
  model, params = read(tmp_path / 'in')
  images, tokens = inputs(model)
  pixels = torch.tensor(images[:, 0].transpose(0, 3, 1, 2))

  def expected(trunk):
    with torch.no_grad():
      embedded = trunk(pixels), text(torch.tensor(tokens, dtype=torch.long))
    video, texts = (torch.nn.functional.normalize(x, dim=-1).numpy() for x in embedded)
    return video, texts, np.exp(2.0) * video @ texts.T - 9

  ours = outputs(model, params)
  check(ours, expected(trunk))
  assert read_weights(str(tmp_path / 'in'), 'SRC').preprocessing == Preprocessing(resize='squash')

  # timm's exact GELU, with which the weights were not trained, gives other numbers.
  exact = open_clip_model('gelu')[0]
  exact.load_state_dict(trunk.state_dict())
  assert np.abs(ours[0] - expected(exact)[0]).max() > 2e-5

  for vision, words in (
    ({'timm_model_name': 'naflexvit_base_patch16_siglip'}, 'a NaFlex model'),
    ({'timm_model_name': 'vit_base_patch16_clip_224'}, 'is none of SigLIP that zsar_jax'),
    ({'timm_pool': 'avg'}, "timm_pool is avg, but SigLIP has 'map'"),
    ({'timm_drop': 0.1}, 'does not support the setting timm_drop'),
    ({'text': {'norm_kwargs': {'eps': 1e-5}}}, 'norm_kwargs is .*1e-05.*, but SigLIP has .*1e-06'),
    ({'text': {'act_kwargs': {'approximate': 'none'}}}, 'act_kwargs is .*none.*, but .*tanh'),
  ):
    write_open_clip(tmp_path / 'other', state, **vision)
    with pytest.raises(UserError, match=words):
      read_weights(str(tmp_path / 'other'), 'SRC')


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'model_type': 'siglip2'}, 'config.json: a NaFlex model, whose images keep their proportions'),
    ({'model_type': 'clip'}, "model_type is 'clip', but the weights are those of siglip"),
    ({'vision_config': {'hidden_act': 'gelu'}}, "vision_config.hidden_act is 'gelu', but zsar_jax"),
    ({'vision_config': {'vision_use_head': False}}, 'vision_config.vision_use_head is False'),
    ({'text_config': {'layer_norm_eps': 1e-5}}, 'text_config.layer_norm_eps is 1e-05'),
  ],
)
def test_models_that_compute_something_else_are_refused(changes, words, tmp_path):
  siglip().save_pretrained(tmp_path)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  with pytest.raises(UserError, match=words):
    read_weights(str(tmp_path), 'SRC')


def test_heads_without_a_config_are_those_of_published_models(tmp_path):
  siglip().save_pretrained(tmp_path)
  (tmp_path / 'config.json').unlink()
  weights = read_weights(str(tmp_path), 'SRC')
  with pytest.raises(UserError, match='heads of the image tower is not given, and its width, 96'):
    infer.infer_spec(weights)
  # So400m: 1152 / 64 would be 18.
  known = dataclasses.replace(weights.format, heads={96: 16, 80: 8})
  spec, _ = infer.infer_spec(dataclasses.replace(weights, format=known))
  assert (spec.image_heads, spec.text_heads) == (16, 8)
  assert weights.format.heads[1152] == 16


def test_an_odd_sized_frame_becomes_the_pixels_of_transformers(tmp_path):
  """Squashed with either interpolation; the rest of the difference is that of the libraries."""
  pytest.importorskip('torchvision')
  siglip().save_pretrained(tmp_path)
  rows, columns = np.mgrid[:90, :151]
  frame = np.stack([rows * 2, columns, 120 + 60 * np.sin(rows / 20 + columns / 30)], -1)
  frame = frame.astype(np.uint8)
  for resample, name in ((2, 'bilinear'), (3, 'bicubic')):
    processor = states.transformers.SiglipImageProcessor(
      size={'height': 48, 'width': 48}, resample=resample
    )
    processor.save_pretrained(tmp_path)
    loaded = zsar_jax.load(tmp_path, tokenizer='words', num_frames=1)
    assert (loaded.view.resize, loaded.view.interpolation) == ('squash', name)
    pixels = processor(frame, do_normalize=False, return_tensors='np')['pixel_values'][0]
    ours = loaded.frames(frame[None])[0].astype(float)
    np.testing.assert_allclose(ours, 255 * pixels.transpose(1, 2, 0), atol=2.01)
    normalized = processor(frame, return_tensors='np')['pixel_values'][0]
    np.testing.assert_allclose(normalized, pixels * 2 - 1, atol=1e-5)


def test_settings_that_a_processor_file_leaves_out_are_siglips(tmp_path):
  siglip().save_pretrained(tmp_path)
  assert read_weights(str(tmp_path), 'SRC').preprocessing == Preprocessing(resize='squash')
  (tmp_path / 'preprocessor_config.json').write_text('{"do_convert_rgb": true}')
  weights = read_weights(str(tmp_path), 'SRC')
  assert weights.preprocessing == Preprocessing(resize='squash')
  assert weights.tower_fields['normalization'] == 'half'


def test_positions_are_resized_to_another_resolution(tmp_path):
  siglip().save_pretrained(tmp_path)
  weights = read_weights(str(tmp_path), 'SRC')
  spec, _ = infer.infer_spec(weights)
  larger = VideoModel(dataclasses.replace(spec, resolution=96), VideoSpec(1))
  params, report = load.fit_to_model(weights, larger)
  assert params['visual']['positional_embedding'].shape == (36, 96)
  assert len(report.interpolated) == 1
  with pytest.raises(UserError, match='is not the width 80 of the embeddings'):
    preset('tiny', architecture='siglip', embed_dim=80)
  assert jnp.isfinite(outputs(larger, params)[0]).all()
