"""Wrapped weights of training programs give the same arrays, or are refused in one sentence."""

import argparse
import collections
import copy
import dataclasses
import datetime
import logging
import pathlib
import types

import numpy as np
import pytest

from tests.weights.formats.written import Tensor as WrittenTensor
from tests.weights.formats.written import archive
from zsar_jax.errors import UserError
from zsar_jax.weights.formats import infer
from zsar_jax.weights.formats.hints import CONVERSION, PYTHON
from zsar_jax.weights.formats.read import read_weights

torch = pytest.importorskip('torch', reason='wrappers need the extra `parity`')

_WIDTH = 64


def _block(prefix):
  width = _WIDTH
  shapes = {
    'attn.in_proj_weight': (3 * width, width),
    'attn.in_proj_bias': (3 * width,),
    'attn.out_proj.weight': (width, width),
    'attn.out_proj.bias': (width,),
    'ln_1.weight': (width,),
    'ln_1.bias': (width,),
    'mlp.c_fc.weight': (4 * width, width),
    'mlp.c_fc.bias': (4 * width,),
    'mlp.c_proj.weight': (width, 4 * width),
    'mlp.c_proj.bias': (width,),
    'ln_2.weight': (width,),
    'ln_2.bias': (width,),
  }
  return {f'{prefix}transformer.resblocks.0.{key}': shape for key, shape in shapes.items()}


def _tensors(shapes):
  generator = torch.Generator().manual_seed(len(shapes))
  return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


PLAIN = _tensors(
  {
    'logit_scale': (),
    'visual.class_embedding': (_WIDTH,),
    'visual.conv1.weight': (_WIDTH, 3, 8, 8),
    'visual.ln_post.bias': (_WIDTH,),
    'visual.ln_post.weight': (_WIDTH,),
    'visual.ln_pre.bias': (_WIDTH,),
    'visual.ln_pre.weight': (_WIDTH,),
    'visual.positional_embedding': (5, _WIDTH),
    'visual.proj': (_WIDTH, _WIDTH),
    **_block('visual.'),
    **_block(''),
    'ln_final.bias': (_WIDTH,),
    'ln_final.weight': (_WIDTH,),
    'positional_embedding': (8, _WIDTH),
    'text_projection': (_WIDTH, _WIDTH),
    'token_embedding.weight': (20, _WIDTH),
  }
)
OTHER = {key: value + 1 for key, value in PLAIN.items()}
HEAD = _tensors({'frame_position_embeddings.weight': (4, _WIDTH), **_block('')})


def prefixed(prefix, state=PLAIN):
  return {f'{prefix}{key}': value for key, value in state.items()}


def between(part, state=PLAIN):
  """Inserts a wrapper's part into the keys of each tower's block."""
  return {key.replace('resblocks.0.', f'resblocks.0.{part}.'): state[key] for key in state}


class Module(torch.nn.Module):
  """A module whose state dict has these keys."""

  def __init__(self, state):
    super().__init__()
    for name, group in _groups(state).items():
      if isinstance(group, dict):
        self.add_module(name, Module(group))
      else:
        self.register_parameter(name, torch.nn.Parameter(group.clone(), requires_grad=False))

  def forward(self, x):
    return x


def _groups(state):
  groups = {}
  for key, value in state.items():
    first, _, rest = key.partition('.')
    if rest:
      groups.setdefault(first, {})[rest] = value
    else:
      groups[first] = value
  return groups


class Averages(dict):
  """A dictionary subclass of a training program."""


def read(path, **options):
  return read_weights(str(path), 'SRC', **options)


def check_equal(weights, expected=PLAIN, format_name='openai'):
  """Asserts that weights contain these of CLIP; returns the other arrays by their keys."""
  assert weights.format.name == format_name
  arrays = {array.key: array.stored for array in weights.arrays.values()}
  for key, value in expected.items():
    if 'in_proj' in key:
      parts = [arrays.pop(f'{key}[{name}]').read() for name in ('query', 'key', 'value')]
      np.testing.assert_array_equal(np.concatenate(parts), value.numpy())
    else:
      np.testing.assert_array_equal(arrays.pop(key).read(), value.numpy())
  return arrays


def saved(path, content, **options):
  torch.save(content, path, **options)
  return path


WRAPPED = {
  'compiled': lambda: torch.compile(Module(PLAIN)).state_dict(),
  'compiled on several devices': lambda: {'state_dict': prefixed('module._orig_mod.')},
  'a compiled part': lambda: {
    key.replace('visual.', 'visual._orig_mod.'): value for key, value in PLAIN.items()
  },
  'checkpointed blocks': lambda: between('_checkpoint_wrapped_module'),
  'FSDP': lambda: between('_fsdp_wrapped_module', prefixed('_fsdp_wrapped_module.')),
  'Fabric': lambda: {'model': prefixed('_forward_module.')},
  'DeepSpeed': lambda: {
    'module': PLAIN,
    'ds_version': '0.14',
    'param_shapes': [{'logit_scale': torch.Size([])}],
    'optimizer': {'state': {'logit_scale': {'exp_avg': torch.ones(2)}}},
  },
  'DeepSpeed with frozen parameters': lambda: {
    'module': PLAIN,
    'frozen_param_fragments': {key: PLAIN[key] for key in PLAIN if 'visual' in key},
  },
  "Lightning's model": lambda: {
    'pytorch-lightning_version': '2.1.0',
    'state_dict': prefixed('model.'),
  },
  'Lightning': lambda: {
    'state_dict': prefixed('clip_model.'),
    'epoch': 1,
    'callbacks': {'EMA': {'weights': {'visual.proj': torch.ones(2)}}},
    'loops': {'fit_loop': {'state_dict': {}}},
    'optimizer_states': [{'state': {0: {'exp_avg': torch.ones(2)}}}],
  },
  'a part of a part': lambda: {'state_dict': prefixed('net.backbone.clip.')},
  'deeper': lambda: {'checkpoint': {'model': PLAIN, 'best': torch.ones(())}},
  'an average': lambda: torch.optim.swa_utils.AveragedModel(Module(PLAIN)).state_dict(),
  'an average alone': lambda: {'state_dict_ema': PLAIN, 'epoch': 1},
  'a dictionary of its own': lambda: {'weights': Averages(PLAIN)},
  'a random state': lambda: {'model': PLAIN, 'rng': {'cpu': torch.get_rng_state()}},
  'a counter': lambda: PLAIN | {'num_updates': torch.tensor(3)},
}


@pytest.mark.parametrize('name', WRAPPED)
def test_wrapped_weights_are_the_same(name, tmp_path):
  weights = read(saved(tmp_path / 'a.pt', WRAPPED[name]()))
  assert not check_equal(weights)
  # Integers, which are not parameters of the model, may remain.
  assert not any(tensor.dtype.kind == 'f' for tensor in weights.unmapped.values())


@pytest.mark.parametrize(
  'content',
  [
    {'model': PLAIN, 'model_ema': OTHER},
    {'state_dict_ema': OTHER, 'state_dict': PLAIN, 'epoch': 1},
    {'ema': {'shadow': OTHER}, 'net': PLAIN},
    {'model': PLAIN, 'avg_model': OTHER},
    # mmengine and PyTorch count the steps; ema_pytorch also contains the weights.
    {
      'state_dict': PLAIN,
      'ema_state_dict': {'steps': torch.tensor(3), **prefixed('module.', OTHER)},
    },
    {
      'ema': prefixed('ema_model.', OTHER)
      | prefixed('online_model.')
      | {'step': torch.tensor([3])},
      'model': PLAIN,
    },
    prefixed('ema_model.', OTHER) | prefixed('online_model.'),
  ],
)
def test_weights_are_read_instead_of_their_average(content, tmp_path):
  weights = read(saved(tmp_path / 'a.pt', content))
  assert not check_equal(weights)
  assert not weights.unmapped
  assert any('an average of the same weights' in note for note in weights.notes)


def test_the_teacher_of_froster_is_left_over_for_openai(tmp_path):
  content = {'model_state': prefixed('model.') | prefixed('raw_model.', OTHER)}
  weights = read(saved(tmp_path / 'a.pt', content), format_name='openai')
  assert not check_equal(weights)
  # Stacked projections are split.
  assert {key.partition('[')[0] for key in weights.unmapped} == set(prefixed('raw_model.'))


def test_mmaction2(tmp_path):
  state = prefixed('clip.') | prefixed('adapter.', HEAD)
  weights = read(saved(tmp_path / 'a.pth', {'meta': {}, 'state_dict': state}))
  head = check_equal(weights, format_name='mmaction2')
  positions = head['adapter.frame_position_embeddings.weight'].read()
  np.testing.assert_array_equal(positions, HEAD['frame_position_embeddings.weight'].numpy())
  _, video = infer.infer_spec(weights)
  assert (video.temporal, video.num_frames, video.temporal_layers) == ('transformer', 4, 1)
  assert weights.preprocessing.centre_crop == 224 / 256


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (prefixed('student.') | prefixed('teacher.', OTHER), "several models, 'student.', 'teacher"),
    (prefixed('module.') | prefixed('', OTHER), 'holds .* twice'),
    ({'module': {key: torch.empty(0) for key in PLAIN}}, 'ZeRO-3.*zero_to_fp32.py'),
    (
      prefixed('base_model.model.') | {'base_model.model.lora_A.weight': PLAIN['visual.proj']},
      'LoRA',
    ),
    ({key: value for key, value in PLAIN.items() if 'visual' in key}, 'only the image tower'),
    ({key: value for key, value in PLAIN.items() if 'visual' not in key}, 'only the text tower'),
    (
      Module(PLAIN),
      'no state dict but a tests.*Module; save',
    ),
    ([PLAIN], 'holds no state dict; save'),
  ],
)
def test_files_without_a_single_complete_model(content, words, tmp_path):
  with pytest.raises(UserError, match=words) as caught:
    infer.infer_spec(read(saved(tmp_path / 'a.pt', content)))
  assert '\n' not in str(caught.value)


@dataclasses.dataclass
class Options:
  """Settings of a training program, of a class that is not installed elsewhere."""

  rate: float = 0.1
  names: frozenset = frozenset('ab')

  def mean(self):
    """A method, which is pickled by its name in the class."""


def _extras():
  """Returns objects of every kind that training programs save with weights."""
  return {
    'args': argparse.Namespace(lr=1, tags={'a'}, out=pathlib.Path('x')),
    'options': Options(),
    'methods': {'mean': Options.mean},
    'logger': logging.getLogger('a'),
    'when': datetime.datetime(2024, 1, 2),
    'best': np.float64(70.5),
    'history': np.arange(3),
    'counts': collections.Counter('aab'),
    'log': collections.defaultdict(list, {1: [2.0], (3, (4,)): []}),
    'queue': collections.deque([1]),
    'space': types.SimpleNamespace(device=torch.device('cpu'), dtype=torch.float16),
    'shape': torch.Size([2, 3]),
    'range': (range(3), slice(1), 1j, bytearray(b'a'), frozenset({1})),
    'order': collections.OrderedDict(a=1),
    'parameter': torch.nn.Parameter(torch.ones(())),
  }


@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.parametrize('legacy', [False, True])
def test_other_objects_in_a_file_are_ignored(legacy, protocol, tmp_path):
  content = {**_extras(), 'model': PLAIN}
  options = {'_use_new_zipfile_serialization': not legacy, 'pickle_protocol': protocol}
  weights = read(saved(tmp_path / 'a.pt', content, **options))
  assert not check_equal(weights)
  assert not weights.unmapped


@pytest.mark.parametrize('legacy', [False, True])
def test_the_settings_of_vifi_clip_and_xclip(legacy, tmp_path):
  config = pytest.importorskip('yacs.config', reason='needs the extra `parity`')
  node = config.CfgNode({'MODEL': {'ARCH': 'ViT-B/16'}, 'DATA': {'LABELS': ['a'], 'FRAMES': 8}})
  node.register_deprecated_key('OLD')
  node.freeze()
  assert isinstance(node.__dict__['__deprecated_keys__'], set)
  content = {'config': node, 'max_accuracy': 70.5, 'model': PLAIN, 'epoch': 3}
  path = saved(tmp_path / 'a.pth', content, _use_new_zipfile_serialization=not legacy)
  assert not check_equal(read(path))


_WINDOW = 'expand_temporal_view'


@pytest.mark.parametrize(
  ('kind', 'expected'),
  [(_WINDOW, ('window', 16)), (None, ('mean', 16)), (f'{_WINDOW}_step2', None), ('aim', None)],
)
@pytest.mark.parametrize('froster', [False, True])
def test_the_settings_of_open_vclip_and_froster(froster, kind, expected, tmp_path):
  config = pytest.importorskip('yacs.config', reason='needs the extra `parity`')
  values = {'MODEL': {'TEMPORAL_MODELING_TYPE': kind}, 'DATA': {'NUM_FRAMES': 16}}
  state = prefixed('model.') | (prefixed('raw_model.') if froster else {})
  for settings in (config.CfgNode(values).dump(), config.CfgNode(values)):
    path = saved(tmp_path / 'a.pyth', {'model_state': state, 'cfg': settings, 'epoch': 1})
    if expected is None:
      with pytest.raises(
        UserError, match=f'TEMPORAL_MODELING_TYPE {kind}, but zsar_jax supports only'
      ):
        read(path)
      continue
    weights = read(path)
    _, video = infer.infer_spec(weights)
    assert (video.temporal, video.num_frames) == expected
    assert any('according to the settings in the file, frames' in note for note in weights.notes)


@pytest.mark.parametrize(
  'settings', ['A: [', 'A: ' + '[' * 1500, 'a' * 300_000, 'a: &a [1]\nb: *c'], ids=len
)
def test_settings_that_cannot_be_read(settings, tmp_path):
  path = saved(tmp_path / 'a.pyth', {'model_state': prefixed('model.'), 'cfg': settings})
  with pytest.raises(UserError, match='its settings, cfg, are not YAML .*; take the file'):
    read(path)


def test_settings_of_another_program(tmp_path):
  for settings in ('MODEL: {ARCH: x}', 'a', '', '- MODEL', 3, {'MODEL': []}):
    content = {'model_state': prefixed('model.'), 'cfg': settings}
    weights = read(saved(tmp_path / 'a.pyth', content))
    assert infer.infer_spec(weights)[1].temporal == 'window'
    assert any('read as Open-VCLIP' in note for note in weights.notes)


def _actionclip(model=PLAIN, head=None):
  return {'model_state_dict': model, 'fusion_model_state_dict': head or {}, 'epoch': 1}


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (_actionclip(head={'module.lstm_visual.weight_ih_l0': torch.ones(4, 4)}), 'LSTM'),
    (_actionclip(head={'shift.weight': torch.ones(4, 1, 3)}), 'Conv_1D'),
    (_actionclip(head={'transformer.cls_token': torch.ones(1, 1, 4)}), 'Transf_cls'),
    (_actionclip(between('net')), 'TSM'),
    (_actionclip(PLAIN | {'visual.time_embedding': torch.ones(8, 4)}), 'joint attention'),
  ],
)
def test_other_heads_of_actionclip_are_named(content, words, tmp_path):
  path = saved(tmp_path / 'a.pt', content)
  with pytest.raises(UserError, match=f'ActionCLIP with .*{words}.*, the only heads that'):
    read(path)


def test_actionclip_with_the_mean_keeps_its_crop(tmp_path):
  weights = read(saved(tmp_path / 'a.pt', _actionclip()))
  assert not check_equal(weights, format_name='actionclip')
  assert infer.infer_spec(weights)[1].temporal == 'mean'
  assert weights.preprocessing.centre_crop == 224 / 256
  assert not weights.lacks_description  # ActionCLIP started from OpenAI's weights.


def test_errors_name_the_setting_of_the_user(tmp_path):
  state = {f'image_encoder.{key[7:]}': value for key, value in PLAIN.items() if 'visual.' in key}
  state['text_encoder.ln_final.weight'] = PLAIN['ln_final.weight']
  path = saved(tmp_path / 'vifi.pth', {'model': state})
  for hints, name in ((CONVERSION, ' in --tokens-from$'), (PYTHON, ' in tokens_from$')):
    with pytest.raises(UserError, match=f'no token embedding; .*{name}'):
      infer.infer_spec(read(path, hints=hints))
    with pytest.raises(UserError, match=f'^{hints.tokens_from}: .*vifi.pth has no token embedding'):
      read(path, hints=hints, tokens_from=str(path))


def test_widths_that_are_not_multiples_of_64(tmp_path):
  state = {key: copy.deepcopy(value) for key, value in PLAIN.items()}
  state['visual.conv1.weight'] = torch.ones(96, 3, 8, 8)
  with pytest.raises(
    UserError, match='number of heads of the image tower is not given, and its width, 96'
  ):
    infer.infer_spec(read(saved(tmp_path / 'a.pt', state)))


@pytest.mark.parametrize('key', ['a\x1b[31m', 'a\nb', 'a' * 10_000])
def test_keys_with_control_characters(key, tmp_path):
  with pytest.raises(UserError, match='an array is called') as caught:
    read(archive(tmp_path / 'a', {key: WrittenTensor()}))
  assert str(caught.value).isprintable()
  assert len(str(caught.value)) < 500
