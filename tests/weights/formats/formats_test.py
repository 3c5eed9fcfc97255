"""The same weights in the formats of different codebases give the same parameters."""

import argparse
import dataclasses
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from flax import serialization

from tests.models import reference
from tests.weights.formats import states
from zsar_jax.errors import UserError
from zsar_jax.models.presets import VideoSpec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime import trees
from zsar_jax.weights.formats import infer, load, save
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.read import read_weights
from zsar_jax.weights.formats.recognition import FORMATS

torch = states.torch


@pytest.fixture(scope='module', name='clip')
def _clip(tmp_path_factory):
  """Returns OpenAI's state dict, our parameters of the same weights, and their model."""
  theirs = states.clip()
  folder = tmp_path_factory.mktemp('clip')
  theirs.save_pretrained(folder)
  weights = read_weights(str(folder), 'SRC')
  model = VideoModel(*infer.infer_spec(weights))
  return states.openai(theirs.state_dict()), load.fit_to_model(weights, model)[0], model


@pytest.fixture(scope='module', name='xclip')
def _xclip(tmp_path_factory):
  theirs = states.xclip()
  folder = tmp_path_factory.mktemp('xclip')
  theirs.save_pretrained(folder)
  weights = read_weights(str(folder), 'SRC')
  model = VideoModel(*infer.infer_spec(weights))
  return states.openai(theirs.state_dict()), load.fit_to_model(weights, model)[0], model


def read(path, **options):
  """Returns the model, the parameters and the report of a file."""
  weights = read_weights(str(path), 'SRC', **options)
  model = VideoModel(*infer.infer_spec(weights))
  params, report = load.fit_to_model(weights, model)
  assert report.format == weights.format.name
  assert report.matched == len(jax.tree.leaves(model.abstract_params))
  return model, params, report


def equal(ours, expected, rtol=0.0):
  assert jax.tree.structure(ours) == jax.tree.structure(expected)

  def compare(path, leaf):
    assert leaf.dtype == np.float32
    np.testing.assert_allclose(leaf, leaves[path], rtol=rtol, atol=rtol, err_msg=path)

  leaves = {
    trees.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(expected)
  }
  trees.map_with_path(compare, ours)


class Nest(torch.nn.Module):
  """Nested modules whose parameters have the keys of a state dict."""

  def __init__(self, state):
    super().__init__()
    groups = {}
    for key, value in state.items():
      first, _, rest = key.partition('.')
      if not rest and value.is_floating_point():
        self.register_parameter(first, torch.nn.Parameter(value, requires_grad=False))
      elif not rest:
        self.register_buffer(first, value)
      else:
        groups.setdefault(first, {})[rest] = value
    for name, group in groups.items():
      self.add_module(name, Nest(group))

  def forward(self, x):
    return x


SIZES = {
  'input_resolution': torch.tensor(32),
  'context_length': torch.tensor(16),
  'vocab_size': torch.tensor(300),
}


def test_openai_torchscript_archive_in_half_precision(clip, tmp_path):
  state, expected, model = clip
  half = {key: value.half() if value.ndim else value for key, value in state.items()}
  archive = torch.jit.script(Nest(half | SIZES))
  torch.jit.save(archive, tmp_path / 'ViT.pt')
  actual, params, report = read(tmp_path / 'ViT.pt')
  assert report.format == 'openai'
  assert sorted(report.dropped) == sorted(SIZES)
  assert not report.notes
  assert (actual.spec, actual.video) == (model.spec, model.video)
  equal(params, expected, rtol=1e-3)


@pytest.mark.parametrize('legacy', [False, True])
def test_openai_state_dict(legacy, clip, tmp_path):
  state, expected, _ = clip
  torch.save(state, tmp_path / 'a.pt', _use_new_zipfile_serialization=not legacy)
  _, params, report = read(tmp_path / 'a.pt')
  assert report.format == 'openai'
  assert 'quick GELU and heads of width 64 are assumed' in report.describe()
  assert '(3 image heads, 2 text heads)' in report.describe()
  equal(params, expected)


def test_other_objects_of_training_programs_are_ignored(clip, tmp_path, monkeypatch):
  state, expected, _ = clip
  # Settings of ViFi-CLIP and X-CLIP, whose package may not be installed.
  monkeypatch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
  module = types.ModuleType('yacs.config')
  module.CfgNode = settings = type('CfgNode', (dict,), {'__module__': 'yacs.config'})
  monkeypatch.setitem(sys.modules, 'yacs.config', module)
  parameters = [torch.nn.Parameter(value.clone()) for value in state.values()]
  optimizer = torch.optim.AdamW(parameters)
  sum(value.sum() for value in parameters).backward()
  optimizer.step()
  saved = {
    'args': argparse.Namespace(lr=1),
    'config': settings(AUG=settings(FLIP=True)),
    'epoch': 3,
    'max_accuracy': np.float64(70.5),
    'optimizer': optimizer.state_dict(),
    'state_dict': {f'module.{key}': value.bfloat16() for key, value in state.items()},
  }
  for legacy in (False, True):
    torch.save(saved, tmp_path / f'{legacy}.pt', _use_new_zipfile_serialization=not legacy)
    equal(read(tmp_path / f'{legacy}.pt')[1], expected, rtol=1e-2)


def test_views_of_one_storage(clip, tmp_path):
  """State dicts may contain transposed, offset and shared tensors."""
  state, expected, _ = clip
  state = dict(state)
  state['visual.proj'] = state['visual.proj'].T.contiguous().T
  both = torch.cat([state['ln_final.weight'], state['ln_final.bias']])
  state['ln_final.weight'], state['ln_final.bias'] = both.chunk(2)
  assert not state['visual.proj'].is_contiguous()
  state['positional_embedding'] = torch.nn.Parameter(state['positional_embedding'])
  torch.save(state, tmp_path / 'a.pt')
  equal(read(tmp_path / 'a.pt')[1], expected)


def test_open_clip(clip, tmp_path):
  state, expected, model = clip
  torch.save(state | {'attn_mask': torch.zeros(16, 16)}, tmp_path / 'open_clip_pytorch_model.bin')
  towers = (
    '"vision_cfg": {"image_size": 32, "layers": 2, "width": 192, "patch_size": 8},'
    ' "text_cfg": {"context_length": 16, "vocab_size": 300, "width": 128, "heads": 2, "layers": 2}'
  )
  config = tmp_path / 'open_clip_config.json'
  config.write_text(f'{{"model_cfg": {{"embed_dim": 128, "quick_gelu": true, {towers}}}}}')
  actual, params, report = read(tmp_path)
  assert (report.format, report.dropped) == ('open_clip', ('attn_mask',))
  assert actual.spec == model.spec
  equal(params, expected)

  config.write_text(
    f'{{"model_cfg": {{"quick_gelu": true, {towers}}}}}'.replace(
      '"layers"', '"pool_type": 1, "layers"'
    )
  )
  with pytest.raises(UserError, match='the setting pool_type'):
    read_weights(str(tmp_path), 'SRC')
  config.write_text('{"model_cfg": {"quick_gelu": true, "vision_cfg": 3}}')
  with pytest.raises(UserError, match='open_clip_config.json: does not describe a model'):
    read_weights(str(tmp_path), 'SRC')


@pytest.mark.parametrize('froster', [False, True])
def test_open_vclip_and_froster(froster, clip, tmp_path):
  state, expected, model = clip
  saved = {f'model.{key}': value for key, value in state.items()}
  if froster:
    saved |= {f'raw_model.{key}': value for key, value in state.items()}
    for name in ('projector_v.0', 'projector_v.2', 'projector_t.0', 'projector_t.2'):
      saved[f'{name}.weight'] = torch.randn(128, 128)
  torch.save({'model_state': saved, 'cfg': 'A: 1'}, tmp_path / 'a.pyth')
  actual, params, report = read(tmp_path / 'a.pyth')
  assert actual.video.temporal == 'window'
  assert report.format == ('froster' if froster else 'open_vclip')
  if froster:
    kernel = params.pop('distillation')['text']['second']['kernel']
    np.testing.assert_array_equal(kernel, saved['projector_t.2.weight'].T)
    # A model without distillation does not need the projectors.
    _, plain = load.load_weights(str(tmp_path / 'a.pyth'), model, field='SRC')
    assert sum(key.startswith('projector') for key in plain.dropped) == 4
  equal(params, expected)


@pytest.mark.parametrize(
  ('prompts', 'template'),
  [
    (0, 'a photo of a {}.'),
    # Each learned token replaces a word of the template.
    (1, 'photo of a {}.'),
    (3, 'a {}.'),
    (4, '{}.'),
    (10, '{}.'),
  ],
)
def test_class_texts_of_vifi_clip(prompts, template, clip, tmp_path):
  torch.save({'model': states.vifi(clip[0], prompts)}, tmp_path / 'vifi.pth')
  torch.save(clip[0], tmp_path / 'clip.pt')
  weights = read_weights(str(tmp_path / 'vifi.pth'), 'SRC', tokens_from=str(tmp_path / 'clip.pt'))
  assert weights.preprocessing.templates == (template,)
  if prompts == 10:
    # The report names a config with other templates; the folder of --to=zsar keeps the template.
    model = VideoModel(*infer.infer_spec(weights))
    params, report = load.fit_to_model(
      weights, model, preprocessing=Preprocessing(templates=('a video of {}.', '{}'))
    )
    assert "config.text.templates: 'a video of {}.' and 1 more here, and '{}.' in its" in (
      report.describe()
    )
    save.save_weights(params, model, 'zsar', tmp_path / 'out', preprocessing=weights.preprocessing)
    assert read_weights(str(tmp_path / 'out'), 'SRC').preprocessing == weights.preprocessing


@pytest.mark.parametrize('prompts', [0, 3])
def test_vifi_clip(prompts, clip, tmp_path):
  state, expected, model = clip
  saved = states.vifi(state, prompts)
  torch.save({'model': saved, 'optimizer': {}, 'epoch': 1}, tmp_path / 'vifi.pth')
  torch.save(state, tmp_path / 'clip.pt')
  with pytest.raises(UserError, match='no token embedding; name .* config.model.tokens_from'):
    read(tmp_path / 'vifi.pth')
  if not prompts:
    with pytest.raises(UserError, match='ViFi-CLIP have no .* config.model.tokens_from'):
      load.load_weights(str(tmp_path / 'vifi.pth'), model, field='SRC')
  with pytest.raises(UserError, match='tokens_from: .*vifi.pth has no token embedding'):
    read(tmp_path / 'vifi.pth', tokens_from=str(tmp_path / 'vifi.pth'))

  actual, params, report = read(tmp_path / 'vifi.pth', tokens_from=str(tmp_path / 'clip.pt'))
  assert report.format == 'vifi_clip'
  assert f'token embedding: from {tmp_path / "clip.pt"}' in report.describe()
  video = actual.video
  assert (video.image_prompts, video.text_prompts) == (prompts, prompts)
  if prompts:
    assert video.prompt_depth == 2
    for tower, first, encoder in (
      ('visual', 'image_encoder.VPT', 'image_encoder'),
      ('text', 'prompt_learner.ctx', 'text_encoder'),
    ):
      ours = params[tower].pop('prompts')
      np.testing.assert_array_equal(ours['inputs'], saved[f'module.{first}'])
      key = f'module.{encoder}.transformer.resblocks.1.VPT_shallow'
      np.testing.assert_array_equal(ours['blocks']['1'], saved[key])
  equal(params, expected)


def test_xclip(xclip, tmp_path):
  state, expected, model = xclip
  torch.save({'model': state, 'epoch': 1}, tmp_path / 'a.pth')
  actual, params, report = read(tmp_path / 'a.pth')
  assert report.format == 'xclip'
  # The code of X-CLIP's authors normalizes with ImageNet's constants.
  assert actual.spec == dataclasses.replace(model.spec, normalization='imagenet')
  assert actual.video == model.video
  assert 'normalization: imagenet' in report.describe()
  equal(params, expected)
  _, report = load.load_weights(str(tmp_path / 'a.pth'), model, field='SRC')
  assert "config.model.normalization: 'clip' here, and 'imagenet' in its training" in (
    report.describe()
  )


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_actionclip(prefix, clip, tmp_path):
  state, expected, model = clip
  width, layers = 128, 3
  block = torch.nn.ModuleDict(
    {
      'attn': torch.nn.MultiheadAttention(width, width // 64),
      'ln_1': torch.nn.LayerNorm(width),
      'mlp': torch.nn.ModuleDict(
        {'c_fc': torch.nn.Linear(width, 4 * width), 'c_proj': torch.nn.Linear(4 * width, width)}
      ),
      'ln_2': torch.nn.LayerNorm(width),
    }
  )
  head = {
    f'transformer.resblocks.{n}.{key}': torch.randn(value.shape)
    for n in range(layers)
    for key, value in block.state_dict().items()
  }
  head['frame_position_embeddings.weight'] = torch.randn(77, width)
  saved = {
    'epoch': 1,
    'model_state_dict': state,
    'fusion_model_state_dict': {f'{prefix}{key}': value for key, value in head.items()},
    'optimizer_state_dict': {'state': {0: {'step': torch.ones(1)}}, 'param_groups': []},
  }
  torch.save(saved, tmp_path / 'a.pt')
  actual, params, report = read(tmp_path / 'a.pt')
  assert report.format == 'actionclip'
  assert actual.video == VideoSpec(8, 'transformer', layers)
  temporal = params.pop('temporal')
  equal(params, expected)
  np.testing.assert_array_equal(
    temporal['positional_embedding'], head['frame_position_embeddings.weight'][:8]
  )

  frames = torch.randn(8, width)
  with torch.no_grad():
    x = frames + head['frame_position_embeddings.weight'][:8]
    for n in range(layers):
      start = f'transformer.resblocks.{n}.'
      block.load_state_dict(
        {key.removeprefix(start): head[key] for key in head if key.startswith(start)}
      )
      y = block['ln_1'](x)
      x = x + block['attn'](y, y, y)[0]
      y = block['mlp']['c_fc'](block['ln_2'](x))
      x = x + block['mlp']['c_proj'](y * torch.sigmoid(1.702 * y))
    clip_embedding = (frames + x).mean(0).numpy()
  embedding = reference.integrate(frames.numpy(), temporal)
  np.testing.assert_allclose(embedding, clip_embedding, rtol=1e-4, atol=1e-3)


def test_a_head_beside_the_model_is_left_over(clip, tmp_path):
  torch.save({'model': clip[0], 'head': {'fc.weight': torch.ones(2, 2)}}, tmp_path / 'a.pt')
  with pytest.raises(UserError, match='head.fc.weight'):
    read(tmp_path / 'a.pt')


def test_the_user_can_choose_openai_instead_of_openvclip(clip, tmp_path):
  state, expected, _ = clip
  saved = {f'model.{key}': value for key, value in state.items()}
  torch.save({'state_dict': saved}, tmp_path / 'a.ckpt')
  model, _, report = read(tmp_path / 'a.ckpt')
  assert model.video.temporal == 'window'
  assert 'read as Open-VCLIP' in report.describe()
  model, params, report = read(tmp_path / 'a.ckpt', format_name='openai')
  assert (model.video.temporal, report.format) == ('mean', 'openai')
  equal(params, expected)


def test_scenic(clip, tmp_path):
  state, expected, model = clip
  tree = states.scenic(state)
  for name, content in (('a', {'params': tree}), ('b', tree)):
    (tmp_path / name).write_bytes(serialization.msgpack_serialize(content))
    actual, params, report = read(tmp_path / name)
    assert (report.format, actual.spec) == ('scenic', model.spec)
    equal(params, expected)


def test_openai_weights_in_files_of_scenic(clip, tmp_path):
  state, expected, _ = clip
  arrays = {key: value.numpy().astype(np.float16) for key, value in state.items()}
  arrays['visual.proj'] = np.asfortranarray(arrays['visual.proj'])
  np.save(tmp_path / 'a.npy', arrays, allow_pickle=True)
  _, params, report = read(tmp_path / 'a.npy')
  assert report.format == 'openai'
  equal(params, expected, rtol=1e-3)


def test_formats_can_be_named(clip, tmp_path):
  torch.save(clip[0], tmp_path / 'a.pt')
  assert read(tmp_path / 'a.pt', format_name='open_clip')[2].format == 'open_clip'
  with pytest.raises(UserError, match='not those of hf_clip; the format is o'):
    read_weights(str(tmp_path / 'a.pt'), 'SRC', 'hf_clip')
  assert len({form.name for form in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize(
  ('key', 'words'),
  [
    ('visual.layer1.0.conv1.weight', 'ResNet'),
    ('logit_bias', 'sigmoid loss'),
    ('text_decoder.ln.weight', 'CoCa'),
    ('visual.attn_pool.query', 'CoCa'),
    ('visual.trunk.cls_token', 'timm'),
  ],
)
def test_other_models_are_named(key, words, clip, tmp_path):
  torch.save(clip[0] | {key: torch.zeros(1)}, tmp_path / 'a.pt')
  with pytest.raises(UserError, match=words):
    read_weights(str(tmp_path / 'a.pt'), 'SRC')


def test_unknown_weights_are_refused(tmp_path):
  torch.save({'fc.weight': torch.zeros(2, 2)}, tmp_path / 'a.pt')
  with pytest.raises(UserError, match=r"unknown format .1 array, such as 'fc.weight'.*scenic"):
    read_weights(str(tmp_path / 'a.pt'), 'SRC')


def test_torch_is_not_imported(clip, tmp_path):
  torch.save(clip[0], tmp_path / 'a.pt')
  torch.jit.save(torch.jit.script(Nest(clip[0])), tmp_path / 'b.pt')
  torch.save(clip[0], tmp_path / 'c.pt', _use_new_zipfile_serialization=False)
  states.clip().save_pretrained(tmp_path / 'd')
  program = f"""
import sys
from zsar_jax.weights.formats import infer, load
from zsar_jax.weights.formats.read import read_weights
from zsar_jax.models.video_model import VideoModel
for name in ('a.pt', 'b.pt', 'c.pt', 'd'):
  weights = read_weights({str(tmp_path)!r} + '/' + name, 'SRC')
  params, report = load.fit_to_model(weights, VideoModel(*infer.infer_spec(weights)))
assert not {{'torch', 'transformers', 'tensorflow'}} & set(sys.modules), 'imported'
"""
  subprocess.run([sys.executable, '-c', program], check=True, timeout=120)
