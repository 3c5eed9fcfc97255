"""PE-Core and EVA02-CLIP against open_clip and timm, on tiny random models."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip('torch')
timm = pytest.importorskip('timm')
open_clip = pytest.importorskip('open_clip')

from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: E402
from open_clip.transformer import TextTransformer  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import zsar_jax  # noqa: E402
from zsar_jax.errors import UserError  # noqa: E402
from zsar_jax.models import layers, rotary  # noqa: E402
from zsar_jax.models.pooling import AttentionPool  # noqa: E402
from zsar_jax.models.video_model import VideoModel  # noqa: E402
from zsar_jax.ops.photometric import normalize  # noqa: E402
from zsar_jax.weights.formats import perception_encoder, timm_towers  # noqa: E402
from zsar_jax.weights.formats.infer import infer_spec  # noqa: E402
from zsar_jax.weights.formats.load import fit_to_model  # noqa: E402
from zsar_jax.weights.formats.read import read_weights  # noqa: E402

EMBED, SIDE, CONTEXT, VOCABULARY = 40, 32, 16, 300
# Heads are 24 wide in the image towers and 16 wide in the text towers.
IMAGE = dict(img_size=SIDE, patch_size=8, embed_dim=48, depth=2, num_heads=2, num_classes=EMBED)
TEXT = dict(context_length=CONTEXT, vocab_size=VOCABULARY, width=32, heads=2, layers=2)
TOWERS = {
  'pe_core': ('vit_pe_core_tiny_patch16_384', dict(ref_feat_shape=(4, 4))),
  'pe_core_g': (
    'vit_pe_core_gigantic_patch14_448',
    dict(ref_feat_shape=(4, 4), mlp_ratio=70 / 48),
  ),
  'eva02': ('eva02_base_patch16_clip_224', dict(global_pool='token')),
}
TOLERANCE = dict(rtol=0, atol=2e-5)


class Reference:
  """A model of open_clip whose parameters all differ from their initial values.

  Attributes:
    name: timm's name of its image tower.
    trunk: its image tower.
    text: its text tower.
    logit_scale: a number.
  """

  def __init__(self, architecture):
    torch.manual_seed(0)
    self.name, options = TOWERS[architecture]
    self.trunk = timm.create_model(self.name, **IMAGE | options).eval()
    self.text = TextTransformer(**TEXT, output_dim=EMBED).eval()
    self.logit_scale = torch.tensor(1.5)
    with torch.no_grad():
      for tower in (self.trunk, self.text):
        for key, parameter in tower.named_parameters():
          mean = 1.0 if re.search(r'(norm\w*|ln_\w+)\.weight', key) else 0.0
          # Matrices keep the size of what they map; queries and keys give attention that is far
          # from uniform, so that mistakes in their positions show.
          std = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.3
          std *= 2 if re.search(r'qkv|[qk]_proj', key) else 1
          parameter.copy_(mean + std * torch.randn_like(parameter))

  def state(self):
    state = {f'visual.trunk.{key}': value for key, value in self.trunk.state_dict().items()}
    state |= {f'text.{key}': value for key, value in self.text.state_dict().items()}
    return state | {'logit_scale': self.logit_scale}

  def config(self):
    """The content of its open_clip_config.json."""
    pool = 'token' if 'eva02' in self.name else 'map'
    image = dict(image_size=SIDE, timm_model_name=self.name, timm_pool=pool, timm_proj=None)
    model = dict(embed_dim=EMBED, vision_cfg=image, text_cfg=TEXT, custom_text=True)
    half = dict(mean=[0.5] * 3, std=[0.5] * 3, interpolation='bilinear', resize_mode='squash')
    return {'model_cfg': model, 'preprocess_cfg': {} if pool == 'token' else half}

  def save(self, folder, state=None, **changes):
    folder.mkdir()
    state = {key: value.contiguous() for key, value in (state or self.state()).items()}
    save_file(state, folder / 'open_clip_model.safetensors')
    (folder / 'open_clip_config.json').write_text(json.dumps(self.config() | changes))
    return str(folder)


@pytest.fixture(autouse=True)
def tiny_heads(monkeypatch):
  """The widths of the tiny models, whose numbers of heads no file gives."""
  for module in (perception_encoder, timm_towers):
    monkeypatch.setitem(module.HEADS, 48, 2)
    monkeypatch.setitem(module.HEADS, 32, 2)


@pytest.fixture(scope='module', params=TOWERS)
def reference(request):
  return request.param, Reference(request.param)


def load(folder):
  weights = read_weights(folder, 'source')
  spec, video = infer_spec(weights)
  model = VideoModel(spec, video)
  params, report = fit_to_model(weights, model)
  return model, params, report, weights


def images(count=3):
  return np.random.default_rng(1).normal(size=(count, SIDE, SIDE, 3)).astype(np.float32)


def texts():
  tokens = np.zeros((3, CONTEXT), np.int64)
  for row, body in zip(tokens, ([5, 6, 7], list(range(9, 22)), []), strict=True):
    row[: len(body) + 2] = [VOCABULARY - 2, *body, VOCABULARY - 1]
  return tokens


def embed(model, params, frames):
  """Returns the embeddings of images in the model's own normalization."""
  with model._network(params) as network:
    return np.asarray(network.visual(frames)[0])


def test_towers_agree(reference, tmp_path, monkeypatch):
  architecture, reference = reference
  model, params, report, weights = load(reference.save(tmp_path / 'model'))
  assert model.spec.architecture == architecture
  assert model.spec.image_heads == model.spec.text_heads == 2
  assert (report.missing, report.left_over, report.dropped) == ((), (), ())
  assert report.interpolated == ()
  keys = [array.key for array in weights.arrays.values()]
  assert len(set(keys)) == len(keys)

  pooled_tokens = []
  original = AttentionPool.__call__
  monkeypatch.setattr(
    AttentionPool, '__call__', lambda self, x: pooled_tokens.append(x) or original(self, x)
  )
  x = images()
  with torch.no_grad():
    their_tokens = reference.trunk.forward_features(torch.tensor(x).permute(0, 3, 1, 2))
    their_images = reference.trunk(torch.tensor(x).permute(0, 3, 1, 2))
    their_texts = reference.text(torch.tensor(texts()))
  ours = embed(model, params, x)
  np.testing.assert_allclose(ours, their_images, **TOLERANCE)
  if architecture != 'eva02':  # Whose last block computes the class token alone.
    np.testing.assert_allclose(pooled_tokens[0], their_tokens, **TOLERANCE)
  with model._network(params) as network:
    np.testing.assert_allclose(network.text(texts()), their_texts, **TOLERANCE)

  # Frames come with CLIP's normalization, and the clip is the mean of its frames' embeddings.
  with torch.no_grad():
    video = torch.nn.functional.normalize(their_images.mean(0), dim=-1)
    cosines = torch.nn.functional.normalize(their_texts, dim=-1) @ video
  pixels = x * 0.5 + 0.5 if architecture != 'eva02' else None
  frames = normalize(jnp.asarray(pixels)) if pixels is not None else x
  encoded = model.encode_video(params, frames[None])
  logits = model.logits(params, encoded, model.encode_text(params, texts()))[0]
  np.testing.assert_allclose(logits, cosines * np.exp(1.5), rtol=0, atol=5e-5)


@pytest.mark.parametrize('mistake', ['half-split', 'from 0', 'quick_gelu', 'of eva02'])
def test_wrong_towers_do_not_agree(tmp_path, monkeypatch, mistake):
  """Each of these mistakes computes other numbers."""
  reference = Reference('pe_core')
  model, params, _, _ = load(reference.save(tmp_path / 'model'))
  x = images(1)
  if mistake == 'half-split':
    monkeypatch.setattr(layers, 'rotate', rotate_half)
  elif mistake == 'quick_gelu':
    monkeypatch.setitem(layers._ACTIVATIONS, 'gelu', layers.quick_gelu)
  else:
    kind = rotary.Rotary('pe' if mistake == 'from 0' else 'eva02', 4, False)

    angles = np.pad(kind.angles(16, 24), ((1, 0), (0, 0)))
    monkeypatch.setattr(rotary.Rotary, 'angles', lambda *_: angles)
  with torch.no_grad():
    theirs = reference.trunk(torch.tensor(x).permute(0, 3, 1, 2))
  assert np.abs(embed(model, params, x) - theirs.numpy()).max() > 1e-4


def rotate_half(x, angles):
  """Rotates element k together with element k + d / 2, as language models do."""
  first, second = jnp.split(x, 2, axis=-1)
  cos, sin = (function(angles)[..., None, :] for function in (jnp.cos, jnp.sin))
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def facebook_state(state):
  """The arrays of a PE-Core of open_clip, without the bias, under the keys of its authors."""
  theirs = {'logit_scale': state['logit_scale']}
  names = {
    'cls_token': 'class_embedding',
    'pos_embed': 'positional_embedding',
    'patch_embed.proj.weight': 'conv1.weight',
    'norm_pre': 'ln_pre',
    'norm': 'ln_post',
    'attn.qkv.weight': 'attn.in_proj_weight',
    'attn.qkv.bias': 'attn.in_proj_bias',
    'attn.proj': 'attn.out_proj',
    'norm1': 'ln_1',
    'norm2': 'ln_2',
    'mlp.fc1': 'mlp.c_fc',
    'mlp.fc2': 'mlp.c_proj',
    'attn_pool.latent': 'attn_pool.probe',
    'attn_pool.proj': 'attn_pool.attn.out_proj',
    'attn_pool.norm': 'attn_pool.layernorm',
  }
  for key, value in state.items():
    if key.startswith('text.'):
      theirs[key.removeprefix('text.')] = value
    if not key.startswith('visual.trunk.') or re.search(r'head|attn_pool\.(q|kv)\.', key):
      continue
    name = re.sub(r'^blocks', 'transformer.resblocks', key.removeprefix('visual.trunk.'))
    for timms, authors in sorted(names.items(), key=lambda pair: -len(pair[0])):
      name = re.sub(rf'(^|(?<=\.)){re.escape(timms)}(?=\.|$)', authors, name, count=1)
    value = value[0, 0] if name == 'class_embedding' else value
    theirs[f'visual.{name}'] = value[0] if name == 'positional_embedding' else value
  for leaf in ('weight', 'bias'):
    parts = [state[f'visual.trunk.attn_pool.{layer}.{leaf}'] for layer in ('q', 'kv')]
    theirs[f'visual.attn_pool.attn.in_proj_{leaf}'] = torch.cat(parts)
  theirs['visual.proj'] = state['visual.trunk.head.weight'].T.contiguous()
  return theirs


@pytest.mark.parametrize('architecture', ['pe_core', 'pe_core_g'])
def test_the_authors_files_hold_the_same_models(tmp_path, architecture):
  reference = Reference(architecture)
  torch.nn.init.zeros_(reference.trunk.head.bias)
  state = facebook_state(reference.state())
  (tmp_path / 'authors').mkdir()
  path = tmp_path / 'authors' / 'PE-Core-T16-384.pt'
  torch.save({'state_dict': {f'module.{key}': value for key, value in state.items()}}, path)
  model, params, report, weights = load(str(path.parent))  # As the hub's folders.
  assert report.format == 'pe_core'
  assert (report.missing, report.left_over, report.dropped) == ((), (), ())
  assert weights.preprocessing == perception_encoder.PREPROCESSING
  expected = load(reference.save(tmp_path / 'model'))
  assert model.spec == expected[0].spec
  x = images()
  np.testing.assert_array_equal(embed(model, params, x), embed(expected[0], expected[1], x))


def test_positions_are_resized_as_the_authors_do(tmp_path):
  """Bilinearly and without anti-aliasing, also where the grid becomes smaller."""
  reference = Reference('pe_core')
  weights = read_weights(reference.save(tmp_path / 'model'), 'source')
  spec, video = infer_spec(weights)
  stored = reference.trunk.pos_embed.detach()[0]
  grid = stored[1:].reshape(1, 4, 4, 48).permute(0, 3, 1, 2)
  for side in (2, 7):
    resized = torch.nn.functional.interpolate(grid, (side, side), mode='bilinear')
    expected = torch.cat([stored[:1], resized.permute(0, 2, 3, 1).reshape(-1, 48)])
    model = VideoModel(dataclasses.replace(spec, resolution=8 * side), video)
    params, report = fit_to_model(weights, model)
    assert len(report.interpolated) == 1
    np.testing.assert_allclose(params['visual']['positional_embedding'], expected, atol=1e-6)


def test_preprocessing_agrees(tmp_path):
  """The frame of odd sides is squashed to a square, as by open_clip's transform."""
  reference = Reference('pe_core')
  config = reference.config()['preprocess_cfg']
  transform = image_transform_v2(PreprocessCfg(size=SIDE, **config), is_train=False)
  # A smooth image, because the libraries interpolate differently between pixels.
  rows, columns = np.mgrid[:71, :53]
  frame = np.stack([rows * 3, columns * 4, 120 + 60 * np.sin(rows / 20 + columns / 30)], -1)
  frame = frame.astype(np.uint8)
  theirs = transform(Image.fromarray(frame)).permute(1, 2, 0).numpy()
  model = zsar_jax.load(reference.save(tmp_path / 'model'), tokenizer='words', num_frames=1)
  ours = model.frames(frame[None])[0] / 127.5 - 1
  np.testing.assert_allclose(ours, theirs, atol=4 / 127.5)


@pytest.mark.parametrize(
  ('architecture', 'changes', 'words'),
  [
    ('pe_core', dict(timm_model_name='vit_base_patch16_siglip_224'), 'are those of PE-Core'),
    ('eva02', dict(timm_model_name='eva02_enormous_patch14_clip_224'), 'those of EVA02-CLIP'),
    ('eva02', dict(timm_proj='linear'), 'does not support the setting timm_proj'),
    ('pe_core', dict(timm_drop=0.1), 'does not support the setting timm_drop'),
  ],
)
def test_files_that_contradict_the_arrays_are_refused(tmp_path, architecture, changes, words):
  reference = Reference(architecture)
  model = reference.config()['model_cfg']
  model['vision_cfg'] |= changes
  with pytest.raises(UserError, match=words):
    read_weights(reference.save(tmp_path / 'model', model_cfg=model), 'source')


def test_towers_without_text_and_post_norm_are_refused(tmp_path):
  tower = timm.create_model('eva02_enormous_patch14_clip_224', **IMAGE, global_pool='token')
  state = {f'visual.trunk.{key}': value for key, value in tower.state_dict().items()}
  state |= {'text.token_embedding.weight': torch.zeros(3, 4)}
  folder = Reference('eva02').save(tmp_path / 'enormous', state)
  with pytest.raises(UserError, match='an EVA-CLIP of EVA01 or E/14'):
    read_weights(folder, 'source')
  options = IMAGE | dict(num_classes=0)
  spatial = timm.create_model('vit_pe_spatial_tiny_patch16_512', **options)
  lang = timm.create_model('vit_pe_lang_large_patch14_448', **options)
  for number, tower in enumerate((spatial, lang)):
    save_file(tower.state_dict(), tmp_path / f'{number}.safetensors')
    with pytest.raises(UserError, match='without a text tower'):
      read_weights(str(tmp_path / f'{number}.safetensors'), 'source')
