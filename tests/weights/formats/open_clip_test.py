"""Models that open_clip builds compute the same numbers here, from the same files."""

import dataclasses
import json
import math
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from tests.weights.formats import states
from zsar_jax import api, pantomime
from zsar_jax.errors import UserError
from zsar_jax.models import presets
from zsar_jax.models.presets import NORMALIZATIONS, PRESETS, VideoSpec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.weights.formats import infer, load
from zsar_jax.weights.formats.hints import PYTHON
from zsar_jax.weights.formats.open_clip import OPEN_CLIP
from zsar_jax.weights.formats.read import read_weights

torch = states.torch
save_file = pytest.importorskip('safetensors.torch').save_file  # It imports torch.
open_clip = pytest.importorskip('open_clip', reason='the extra `encoders` is not installed')

# Two blocks of width 120 with heads 40 wide, and of width 96 with heads 24 wide.
_IMAGE = dict(image_size=32, layers=2, width=120, head_width=40, patch_size=8, mlp_ratio=4.3637)
_TEXT = dict(context_length=16, vocab_size=300, width=96, heads=4, layers=2)


def build(quick_gelu=False, custom_text=False, image=_IMAGE, text=_TEXT, **preprocessing):
  """Returns a model of open_clip with random weights, and its description."""
  torch.manual_seed(0)
  config = dict(embed_dim=72, vision_cfg=image, text_cfg=text, quick_gelu=quick_gelu)
  kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
  model = states.disturbed(kind(**config))
  return model, {'model_cfg': config, 'preprocess_cfg': preprocessing}


def write(folder, model, config, prefix=''):
  state = {f'{prefix}{key}': value.contiguous() for key, value in model.state_dict().items()}
  save_file(state, folder / 'open_clip_model.safetensors')
  if config:
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
  return state


def read(folder, **options):
  weights = read_weights(str(folder), 'SRC', **options)
  model = VideoModel(*infer.infer_spec(weights))
  return model, *load.fit_to_model(weights, model)


def check(model, params, theirs):
  """Compares embeddings and logits."""
  clips = states.clips(model.spec.resolution)
  rows = states.tokens(model.spec.vocab_size, model.spec.context_length)
  with torch.no_grad():
    images, texts, scale = theirs(
      torch.tensor(clips[:, 0].transpose(0, 3, 1, 2).copy()), torch.tensor(rows).long()
    )[:3]
  encoded = jax.jit(model.encode_video)(params, clips)
  ours = jax.jit(model.encode_text)(params, rows)
  np.testing.assert_allclose(encoded['embedding'], images, atol=2e-5)
  np.testing.assert_allclose(ours, texts, atol=2e-5)
  logits = model.logits(params, encoded, ours)
  np.testing.assert_allclose(logits, scale * images @ texts.T, atol=2e-5 * float(scale))


@pytest.mark.parametrize('quick_gelu', [False, True])
@pytest.mark.parametrize(('custom_text', 'prefix'), [(False, 'module.'), (True, '')])
def test_random_models(quick_gelu, custom_text, prefix, tmp_path):
  theirs, config = build(quick_gelu, custom_text)
  state = write(tmp_path, theirs, config, prefix)
  model, params, report = read(tmp_path)
  spec = model.spec
  assert spec.architecture == ('clip' if quick_gelu else 'clip_gelu')
  assert (spec.image_heads, spec.text_heads, spec.image_mlp, spec.text_mlp) == (3, 4, 523, 0)
  # Each array is used once; the three projections of an attention are stacked in one of theirs.
  blocks = spec.image_layers + spec.text_layers
  assert report.matched == len(state) + 2 * 2 * blocks - len(report.dropped)
  assert set(report.dropped) <= {'attn_mask', 'text.attn_mask'}
  check(model, params, theirs)


def test_the_wrong_activation_gives_other_numbers(tmp_path):
  theirs, config = build(quick_gelu=True)
  write(tmp_path, theirs, config | {'model_cfg': config['model_cfg'] | {'quick_gelu': False}})
  model, params, _ = read(tmp_path)
  with pytest.raises(AssertionError):
    check(model, params, theirs)
  right = VideoModel(dataclasses.replace(model.spec, architecture='clip'), model.video)
  check(right, params, theirs)


@pytest.mark.parametrize(
  ('name', 'preset'),
  [
    ('ViT-B-32', 'vit_b32_gelu'),
    ('ViT-B-32-quickgelu', 'vit_b32'),
    ('ViT-B-16', 'vit_b16_gelu'),
    ('ViT-B-16-quickgelu', 'vit_b16'),
    ('ViT-L-14', 'vit_l14_gelu'),
    ('ViT-L-14-quickgelu', 'vit_l14'),
    ('ViT-L-14-336-quickgelu', 'vit_l14_336'),
    ('ViT-H-14', 'vit_h14_gelu'),
    ('ViT-H-14-quickgelu', 'vit_h14'),
    ('ViT-g-14', 'vit_g14_gelu'),
    ('ViT-bigG-14', 'vit_bigg14_gelu'),
    ('ViT-bigG-14-quickgelu', 'vit_bigg14'),
  ],
)
def test_presets_are_the_models_of_open_clip(name, preset):
  config, spec = open_clip.get_model_config(name), PRESETS[preset]
  image, text = config['vision_cfg'], config['text_cfg']
  fields = OPEN_CLIP.read_config(pathlib.Path(name), {'model_cfg': config})
  assert fields == {
    key: getattr(spec, key) for key in ('architecture', 'image_heads', 'text_heads')
  }
  sizes = dict(
    embed_dim=config['embed_dim'],
    resolution=image['image_size'],
    patch=image['patch_size'],
    image_width=image['width'],
    image_layers=image['layers'],
    text_width=text['width'],
    text_layers=text['layers'],
    context_length=text['context_length'],
    vocab_size=text['vocab_size'],
    image_mlp_width=int(image['width'] * image.get('mlp_ratio', 4)),
    text_mlp_width=4 * text['width'],
  )
  assert {field: getattr(spec, field) for field in sizes} == sizes
  with torch.device('meta'):
    theirs = open_clip.CLIP(**config)
  ours = VideoModel(spec, VideoSpec(1)).abstract_params
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(ours))
  assert count == sum(parameter.numel() for parameter in theirs.parameters())


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('ViT-H-14-CLIPA', 'CLIPA, for whose texts zsar_jax lacks the WordPiece tokenizer'),
    ('ViT-H-14-worldwide-quickgelu', 'MetaCLIP 2, for whose texts .* the tokenizer of XLM-V'),
    ('ViT-L-14-worldwide', 'MetaCLIP 2, for whose texts .* the tokenizer of mT5'),
    ('ViT-M-16-alt', 'does not support the setting ls_init_value'),
  ],
)
def test_other_families_are_refused(name, words):
  with pytest.raises(UserError, match=f'^open_clip_config.json: .*{words}'):
    OPEN_CLIP.read_config(
      pathlib.Path('open_clip_config.json'), {'model_cfg': open_clip.get_model_config(name)}
    )


def test_weights_without_a_description_need_a_preset(tmp_path, monkeypatch):
  theirs, config = build()
  file = tmp_path / 'open_clip_model.safetensors'
  write(tmp_path, theirs, None)
  for options, words in (
    ({}, 'heads of the image tower is not given, .* 120, .* name the model in preset'),
    ({'preset': 'vit_b61'}, "^preset: 'vit_b61' is none of tiny, "),
    ({'preset': 'vit_b16_gelu'}, '^preset: .*: embed_dim is 72, and 512 in the'),
  ):
    with pytest.raises(UserError, match=words):
      read(file, hints=PYTHON, **options)
  write(tmp_path, theirs, config)
  spec = read(tmp_path)[0].spec
  monkeypatch.setattr(
    presets, 'PRESETS', {'odd': spec, 'quick': dataclasses.replace(spec, architecture='clip')}
  )
  # The file beside the weights wins over a preset that contradicts it.
  with pytest.raises(UserError, match='^preset: .*: architecture is clip_gelu, and clip in the'):
    read(tmp_path, hints=PYTHON, preset='quick')
  (tmp_path / 'open_clip_config.json').unlink()
  model, params, report = read(tmp_path, hints=PYTHON, preset='odd')
  assert 'they are those of preset (gelu, 3 image heads, 4 text heads)' in report.describe()
  check(model, params, theirs)
  assert api.load(file, preset='odd', tokenizer='words').model.spec == spec
  # In a config the preset of the model is the name.
  loaded, report = load.load_weights(str(file), model, field='config.model.init_from')
  assert 'they are those of config.model.preset (gelu, ' in report.describe()
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize(
  ('resize_mode', 'interpolation', 'normalization'),
  [
    ('shortest', 'bicubic', 'clip'),
    ('squash', 'bicubic', 'half'),
    ('squash', 'bilinear', 'imagenet'),
  ],
)
def test_frames_of_odd_sizes(resize_mode, interpolation, normalization, tmp_path):
  mean, std = NORMALIZATIONS[normalization]
  theirs, config = build(
    image=_IMAGE | dict(image_size=96),
    resize_mode=resize_mode,
    interpolation=interpolation,
    mean=list(mean),
    std=list(std),
  )
  write(tmp_path, theirs, config)
  settings = open_clip.transform.PreprocessCfg(size=96, **config['preprocess_cfg'])
  transform = open_clip.transform.image_transform_v2(settings, is_train=False)
  model = api.load(tmp_path, tokenizer='words')
  assert model.model.spec.normalization == normalization
  clip = pantomime.render_clip(pantomime.WORLDS[0], 'train', 0, 0, size=200, num_frames=1)
  differences = {'shortest': [], 'squash': []}
  for height, width in ((101, 135), (179, 133), (97, 191), (99, 99)):
    frame = np.ascontiguousarray(clip.frames[0, :height, :width])
    expected = transform(Image.fromarray(frame)).numpy().transpose(1, 2, 0)
    expected = 255 * (expected * np.array(std) + np.array(mean))
    for resize, values in differences.items():
      view = dataclasses.replace(model.view, resize=resize)
      ours = dataclasses.replace(model, view=view).frames(frame[None])[0]
      values.append(np.abs(ours - expected).mean())
  other = differences.pop('squash' if resize_mode == 'shortest' else 'shortest')
  # In gray levels. Theirs rounds the position of a crop to a pixel of the smaller frame.
  assert max(differences[resize_mode]) < (5 if resize_mode == 'shortest' else 2)
  assert max(other) > 40
