"""Models of transformers that are read, and ours that transformers opens, compute equal numbers."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zsar_jax
from tests.weights.formats import states
from tests.weights.formats.written import random_params
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS, VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.photometric import normalize
from zsar_jax.weights.formats import infer, load, save
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.read import read_weights

torch = states.torch

# 1e-5 of a cosine, times the logit scale at the start of training, 14.3.
_LOGITS = 1.43e-4

# Published widths, but fewer layers and smaller vocabularies unless a test needs the full model.
_B_TEXT = dict(hidden_size=512, num_hidden_layers=2, max_position_embeddings=77, vocab_size=500)
_CLIPS = {
  'vit_b32': dict(
    text=_B_TEXT | dict(num_hidden_layers=12, vocab_size=49408),
    vision=dict(hidden_size=768, num_hidden_layers=12, image_size=224, patch_size=32),
    embed=512,
  ),
  'vit_b16': dict(
    text=_B_TEXT,
    vision=dict(hidden_size=768, num_hidden_layers=2, image_size=224, patch_size=16),
    embed=512,
  ),
  'vit_l14': dict(
    text=_B_TEXT | dict(hidden_size=192),
    vision=dict(hidden_size=256, num_hidden_layers=3, image_size=56, patch_size=14),
    embed=192,
  ),
}


def read(path):
  weights = read_weights(str(path), 'SRC')
  model = VideoModel(*infer.infer_spec(weights))
  params, report = load.fit_to_model(weights, model)
  assert report.matched == len(jax.tree.leaves(model.abstract_params)), report
  assert not report.missing + report.left_over + report.dropped + report.interpolated
  return model, params


def inputs(model):
  spec = model.spec
  num_frames = model.video.num_frames if model.video.temporal == 'xclip' else 1
  clips = states.clips(spec.resolution, num_frames=num_frames)
  return clips, states.tokens(spec.vocab_size, spec.context_length)


def ours_and_theirs(model, params, references):
  """Returns the outputs of our model for clips and texts, and those of the references."""
  clips, rows = inputs(model)
  encoded = jax.jit(model.encode_video)(params, clips)
  texts = jax.jit(model.encode_text)(params, rows)
  logits = jnp.exp(params['logit_scale']) * model.similarity(params, encoded, texts)
  return encoded, texts, logits, [states.theirs(other, clips, rows) for other in references]


def check_clip(model, params, *references):
  encoded, texts, logits, expected = ours_and_theirs(model, params, references)
  for outputs in expected:
    np.testing.assert_allclose(encoded['embedding'], outputs.image_embeds, atol=1e-5)
    np.testing.assert_allclose(texts, outputs.text_embeds, atol=1e-5)
    np.testing.assert_allclose(logits, outputs.logits_per_image, atol=_LOGITS)


@pytest.mark.parametrize('name', _CLIPS)
def test_clip_in_and_out(name, tmp_path):
  theirs = states.clip(**_CLIPS[name])
  theirs.save_pretrained(tmp_path / 'in')
  model, params = read(tmp_path / 'in')
  assert 'mean' in save.save_weights(params, model, 'hf', tmp_path / 'out')
  again = states.transformers.CLIPModel.from_pretrained(tmp_path / 'out').eval()
  check_clip(model, params, theirs, again)
  for key, value in theirs.state_dict().items():
    assert torch.equal(again.state_dict()[key], value), key


def test_clip_with_gelu_odd_heads_and_other_mlps_in_and_out(tmp_path):
  theirs = states.clip(hidden_act='gelu', num_attention_heads=4, intermediate_size=300)
  theirs.save_pretrained(tmp_path / 'in')
  model, params = read(tmp_path / 'in')
  assert (model.spec.architecture, model.spec.image_mlp, model.spec.text_mlp) == (
    'clip_gelu',
    300,
    300,
  )
  save.save_weights(params, model, 'hf', tmp_path / 'out')
  again = states.transformers.CLIPModel.from_pretrained(tmp_path / 'out').eval()
  check_clip(model, params, theirs, again)
  # With the other activation, nothing fails, but the numbers differ.
  wrong = VideoModel(dataclasses.replace(model.spec, architecture='clip'), model.video)
  texts = wrong.encode_text(params, inputs(model)[1])
  assert np.abs(texts - ours_and_theirs(model, params, [])[1]).max() > 1e-3


def test_xclip_in_and_out(tmp_path):
  theirs = states.xclip()
  theirs.save_pretrained(tmp_path / 'in')
  model, params = read(tmp_path / 'in')
  assert (model.video.temporal, model.video.num_frames) == ('xclip', 4)
  assert save.save_weights(params, model, 'hf', tmp_path / 'out') == ''
  # The template of the authors' code.
  assert read_weights(str(tmp_path / 'in'), 'SRC').preprocessing.templates == ('{}',)
  again = states.transformers.XCLIPModel.from_pretrained(tmp_path / 'out').eval()

  encoded, texts, logits, expected = ours_and_theirs(model, params, [theirs, again])
  assert np.std(logits) > 1e-2
  for outputs in expected:
    np.testing.assert_allclose(encoded['embedding'], outputs.video_embeds, atol=1e-5)
    np.testing.assert_allclose(logits, outputs.logits_per_video, atol=_LOGITS)
    # Compares texts after they attended to each video. If the embedding of the video is replaced by
    # a unit vector along an axis, the cosine is the coordinate of the text.
    for axis in (0, 17, model.spec.embed_dim - 1):
      unit = jnp.zeros_like(encoded['embedding']).at[:, axis].set(1)
      coordinates = model.similarity(params, encoded | {'embedding': unit}, texts)
      np.testing.assert_allclose(coordinates, outputs.text_embeds[..., axis], atol=1e-5)


def test_old_and_sharded_files_are_the_same(tmp_path):
  theirs = states.clip()
  theirs.save_pretrained(tmp_path / 'single')
  _, expected = read(tmp_path / 'single')
  theirs.save_pretrained(tmp_path / 'sharded', max_shard_size='400KB')
  assert len(list((tmp_path / 'sharded').glob('*.safetensors'))) > 2

  (tmp_path / 'old').mkdir()
  (tmp_path / 'old' / 'config.json').write_bytes((tmp_path / 'single' / 'config.json').read_bytes())
  state = theirs.state_dict()
  # Files of 2021 contain these keys.
  for name in ('text', 'vision'):
    state[f'{name}_model.embeddings.position_ids'] = torch.arange(3)[None]
  torch.save(state, tmp_path / 'old' / 'pytorch_model.bin')

  (tmp_path / 'parts').mkdir()
  half = sorted(state)[: len(state) // 2]
  torch.save({key: state[key] for key in half}, tmp_path / 'parts' / 'a.bin')
  torch.save({key: state[key] for key in state if key not in half}, tmp_path / 'parts' / 'b.bin')
  weight_map = {key: 'a.bin' if key in half else 'b.bin' for key in state}
  index = tmp_path / 'parts' / 'pytorch_model.bin.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))

  for name in ('sharded', 'old', 'parts'):
    weights = read_weights(str(tmp_path / name), 'SRC')
    params, report = load.fit_to_model(weights, VideoModel(*infer.infer_spec(weights)))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert len(report.dropped) == (0 if name == 'sharded' else 2)


@pytest.mark.parametrize(
  ('section', 'key', 'value', 'words'),
  [
    (
      'vision_config',
      'hidden_act',
      'gelu',
      "hidden_act is 'gelu', but .* only 'quick_gelu'",
    ),
    ('text_config', 'layer_norm_eps', 1e-6, 'layer_norm_eps is 1e-06'),
    ('', 'model_type', 'siglip', "model_type is 'siglip'"),
    ('vision_config', 'mit_num_attention_heads', 4, 'mit_num_attention_heads is 4, but .* use 2'),
  ],
)
def test_other_models_are_refused(section, key, value, words, tmp_path):
  states.xclip().save_pretrained(tmp_path)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config)[key] = value
  path.write_text(json.dumps(config))
  with pytest.raises(UserError, match=words):
    read_weights(str(tmp_path), 'SRC')


def test_heads_are_read_from_the_config(tmp_path):
  states.clip().save_pretrained(tmp_path)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  config['vision_config']['num_attention_heads'] = 6
  path.write_text(json.dumps(config))
  theirs = states.transformers.CLIPModel.from_pretrained(tmp_path).eval()
  model, params = read(tmp_path)
  assert model.spec.image_heads == 6
  check_clip(model, params, theirs)

  for heads in (0, '6', [6]):
    config['vision_config']['num_attention_heads'] = heads
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match='; fetch it again'):
      read(tmp_path)


@pytest.mark.parametrize('name', NORMALIZATIONS)
def test_preprocessing_settings_of_the_folder_are_used(name, tmp_path):
  mean, std = NORMALIZATIONS[name]
  states.clip().save_pretrained(tmp_path)
  size = {'size': {'shortest_edge': 40}, 'crop_size': {'height': 32, 'width': 32}, 'resample': 2}
  processor = states.transformers.CLIPImageProcessor(image_mean=mean, image_std=std, **size)
  processor.save_pretrained(tmp_path)
  model = zsar_jax.load(tmp_path, tokenizer='words', num_frames=1)
  assert model.model.spec.normalization == name
  assert (model.view.interpolation, model.view.centre_crop) == ('bilinear', 0.8)

  frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
  pixels = (frames / 255 - np.array(mean)) / np.array(std)
  theirs = states.transformers.CLIPModel.from_pretrained(tmp_path).eval()
  with torch.no_grad():
    tensor = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
    expected = theirs.visual_projection(theirs.vision_model(tensor).pooler_output)[0].numpy()
  spec = dataclasses.replace(model.model.spec)
  video = VideoModel(spec, VideoSpec(1)).encode_video(model.params, normalize(frames[None] / 255.0))
  np.testing.assert_allclose(video['embedding'][0], expected / np.linalg.norm(expected), atol=1e-5)

  save.save_weights(
    model.params, model.model, 'hf', tmp_path / 'out', preprocessing=Preprocessing(centre_crop=0.8)
  )
  back = states.transformers.CLIPImageProcessor.from_pretrained(tmp_path / 'out')
  assert (tuple(back.image_mean), tuple(back.image_std)) == (mean, std)
  assert (back.size['shortest_edge'], back.crop_size['height'], back.resample) == (40, 32, 3)


def test_squashed_frames_are_those_of_transformers(tmp_path):
  model = VideoModel(preset('tiny', image_layers=1, text_layers=1), VideoSpec(2))
  preprocessing = Preprocessing(interpolation='bilinear', resize='squash', centre_crop=0.75)
  save.save_weights(random_params(model), model, 'hf', tmp_path / 'w', preprocessing=preprocessing)
  loaded = zsar_jax.load(tmp_path / 'w', tokenizer='words', num_frames=1)
  # A smooth image, because the libraries interpolate differently between pixels.
  rows, columns = np.mgrid[:90, :150]
  frame = np.stack([rows * 2, columns, 120 + 60 * np.sin(rows / 20 + columns / 30)], -1)
  frame = frame.astype(np.uint8)
  processor = states.transformers.CLIPImageProcessor.from_pretrained(tmp_path / 'w')
  pixels = processor(frame, do_normalize=False, return_tensors='np')['pixel_values'][0]
  np.testing.assert_allclose(
    loaded.frames(frame[None])[0].astype(float), 255 * pixels.transpose(1, 2, 0), atol=4
  )


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'image_mean': [0.4, 0.5, 0.5]}, 'image_mean .* are none of those of clip, imagenet'),
    ({'image_mean': 3}, 'preprocessor_config.json: does not describe a model'),
    ({'size': {'height': 3}}, 'preprocessor_config.json: does not describe a model'),
  ],
)
def test_other_preprocessing_is_refused(changes, words, tmp_path):
  states.clip().save_pretrained(tmp_path)
  states.transformers.CLIPImageProcessor().save_pretrained(tmp_path)
  path = tmp_path / 'preprocessor_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  with pytest.raises(UserError, match=words):
    read_weights(str(tmp_path), 'SRC')


def test_a_folder_is_written_atomically_with_the_tokenizer(tmp_path, monkeypatch):
  states.clip().save_pretrained(tmp_path / 'in')
  (tmp_path / 'in' / 'merges.txt').write_text('m')
  (tmp_path / 'in' / 'secrets.json').write_text('s')
  model, params = read(tmp_path / 'in')
  save.save_weights(params, model, 'hf', tmp_path / 'out', tmp_path / 'in')
  names = {path.name for path in (tmp_path / 'out').iterdir()}
  assert names == {
    'config.json',
    'preprocessor_config.json',
    'model.safetensors',
    'merges.txt',
  }
  with pytest.raises(UserError, match='out exists'):
    save.save_weights(params, model, 'hf', tmp_path / 'out')

  def fail(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(save, 'save_file', fail)
  with pytest.raises(UserError, match='cut: cannot be written .No space left'):
    save.save_weights(params, model, 'hf', tmp_path / 'cut')
  assert {path.name for path in tmp_path.iterdir()} == {'in', 'out'}
