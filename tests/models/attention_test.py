"""Attention: which kernels are chosen, and that padding for cuDNN's changes no result.

cuDNN's kernels do not run here. Their padded inputs go through XLA's instead; `tests/gpu` and the
compiled programs of `gpu_compile_test` cover the kernels themselves.
"""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.towers_test import TINY, frames, random_params, texts
from zsar_jax.config import default_config
from zsar_jax.errors import UserError
from zsar_jax.models import attention
from zsar_jax.models.compute import Compute, choose_compute
from zsar_jax.models.from_config import build_model
from zsar_jax.models.presets import TEMPORAL_MODELS, VideoSpec
from zsar_jax.models.video_model import VideoModel


def mesh_of(**attributes):
  return SimpleNamespace(devices=np.array([SimpleNamespace(**attributes)], object))


H100 = mesh_of(device_kind='NVIDIA H100 80GB HBM3', compute_capability='9.0', platform='gpu')
V100 = mesh_of(device_kind='Tesla V100-SXM2-16GB', compute_capability='7.0', platform='gpu')
T4 = mesh_of(device_kind='NVIDIA T4', compute_capability='7.5', platform='gpu')
MI300 = mesh_of(device_kind='AMD Instinct MI300X', compute_capability='gfx942', platform='gpu')


@pytest.mark.parametrize(
  ('mesh', 'dtype', 'chosen'),
  [
    (H100, 'bfloat16', 'cudnn'),
    (H100, 'float32', 'xla'),
    (H100, 'tensorfloat32', 'xla'),
    (V100, 'bfloat16', 'xla'),
    (T4, 'bfloat16', 'xla'),
    (MI300, 'bfloat16', 'xla'),
    (None, 'bfloat16', 'xla'),
  ],
)
def test_attention_is_chosen_by_device_and_dtype(mesh, dtype, chosen):
  assert choose_compute(dtype, 'auto', mesh=mesh).attention == chosen
  assert choose_compute(dtype, 'xla', mesh=mesh).attention == 'xla'


def test_cudnn_is_refused_where_it_does_not_run():
  assert choose_compute('bfloat16', 'cudnn', mesh=H100).attention == 'cudnn'
  with pytest.raises(UserError, match='computes attention in bfloat16 only'):
    choose_compute('float32', 'cudnn', mesh=H100)
  with pytest.raises(UserError, match=r'the devices here are gpu: NVIDIA T4'):
    choose_compute('bfloat16', 'cudnn', mesh=T4)
  with pytest.raises(UserError, match=r'the devices here are cpu: cpu'):
    choose_compute('bfloat16', 'cudnn')


@pytest.fixture
def calls(monkeypatch):
  """Lets XLA compute what cuDNN is asked for; returns the shapes of queries and keys."""
  shapes = []
  original = jax.nn.dot_product_attention

  def stand_in(query, key, value, *, implementation, **options):
    if implementation == 'cudnn':
      assert options.get('query_seq_lengths') is None
      shapes.append((query.shape, key.shape))
    return original(query, key, value, implementation='xla', **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', stand_in)
  return shapes


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('length', [1, 5, 8, 13])
def test_padding_changes_no_attention(calls, causal, length):
  query, key, value = jax.random.normal(jax.random.key(length), (3, 2, length, 4, 16))

  def attend(implementation):
    def loss(*inputs):
      y = attention.attend(*inputs, implementation=implementation, causal=causal)
      return jnp.sum(jnp.sin(y)), y

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(query, key, value)

  ours, expected = attend('cudnn'), attend('xla')
  assert calls
  assert all(shape[1] % 8 == 0 for shapes in calls for shape in shapes)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, expected)


@pytest.mark.parametrize('temporal', sorted({*TEMPORAL_MODELS} - {'videoprism'}))
@pytest.mark.parametrize('prompts', [0, 3])
def test_padded_models_have_the_same_values_and_gradients(calls, temporal, prompts):
  spec = dataclasses.replace(TINY, image_layers=2, resolution=24, context_length=13)  # 10 tokens.
  video = VideoSpec(3, temporal, 1, image_prompts=prompts, text_prompts=prompts, prompt_depth=2)
  clips = frames(spec, clips=2, count=3)
  tokens = texts(spec, [4, 5, 6, 5, 9, 3], [7, 8, 4, 5])

  def run(attention):
    model = VideoModel(spec, video, Compute(attention=attention))
    params = random_params(model)

    def loss(params):
      logits = model.logits(
        params, model.encode_video(params, clips), model.encode_text(params, tokens)
      )
      return jnp.sum(jnp.sin(logits)), logits

    return jax.value_and_grad(loss, has_aux=True)(params)

  ours, expected = run('cudnn'), run('xla')
  # Tokens are padded once: queries are as long in every block of a tower.
  lengths = {query[1] for query, _ in calls}
  assert len(lengths) <= 3
  assert all(shape[1] % 8 == 0 for shapes in calls for shape in shapes)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, expected)


def test_second_derivatives_keep_to_xla():
  config = default_config()
  config.model.preset, config.model.dtype = 'tiny', 'bfloat16'
  config.view.size = TINY.resolution
  assert build_model(config, H100).compute.attention == 'cudnn'
  config.optim.still_clip.gradient = 10.0
  assert build_model(config, H100).compute.attention == 'xla'
  config.model.attention = 'cudnn'
  with pytest.raises(UserError, match='^config.model.attention: cudnn has no second derivative'):
    build_model(config, H100)


def test_models_that_cap_logits_keep_to_xla():
  config = default_config()
  config.model.preset, config.model.temporal = 'videoprism_lvt_b', 'videoprism'
  config.model.dtype, config.view.size = 'bfloat16', 288
  model = build_model(config, H100)
  assert model.compute.attention == 'xla'
  assert VideoModel(model.spec, model.video, Compute(jnp.bfloat16, attention='cudnn')).compute == (
    Compute(jnp.bfloat16)
  )
  config.model.attention = 'cudnn'
  with pytest.raises(UserError, match='^config.model.attention: cudnn does not cap the logits'):
    build_model(config, H100)
  config.model.attention, config.model.temporal = 'auto', 'mean'
  with pytest.raises(UserError, match='^config.model.temporal: .*set it to .videoprism.'):
    build_model(config, H100)
