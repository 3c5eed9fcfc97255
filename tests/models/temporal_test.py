"""Every temporal model against a NumPy reference, written from its description."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import reference
from tests.models.towers_test import TINY, frames, random_params, texts, tiny
from zsar_jax.errors import UserError
from zsar_jax.models.presets import TEMPORAL_MODELS, VideoSpec
from zsar_jax.models.video_model import VideoModel


def exact(params):
  """Parameters in f64."""
  return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def embed(model, params, clips):
  return jax.jit(model.encode_video)(params, clips)['embedding']


def test_transformer_head_agrees_with_numpy():
  mean = VideoModel(TINY, VideoSpec(3))
  model = VideoModel(TINY, VideoSpec(3, 'transformer', temporal_layers=2))
  params = random_params(model)
  assert len(params['temporal']['transformer']['resblocks']) == 2
  clips = frames(TINY, clips=2, count=3)
  head = exact(params)['temporal']
  expected = []
  for clip in np.asarray(clips, np.float64):
    x = np.stack([reference.encode_image(frame, exact(params)['visual']) for frame in clip])
    expected.append(reference.unit(reference.integrate(x, head)))
  video = embed(model, params, clips)
  np.testing.assert_allclose(video, expected, atol=1e-5)

  del params['temporal']
  assert jnp.max(jnp.abs(embed(mean, params, clips) - video)) > 1e-2


def test_window_attention_agrees_with_numpy():
  spec = dataclasses.replace(TINY, image_layers=2, resolution=16)
  model = VideoModel(spec, VideoSpec(3, 'window'))
  assert jax.tree.structure(model.abstract_params) == jax.tree.structure(
    VideoModel(spec, VideoSpec(3)).abstract_params
  )
  params = random_params(model)
  clips = frames(spec, clips=2, count=3)
  visual = exact(params)['visual']
  expected = []
  for clip in np.asarray(clips, np.float64):
    x = [reference.first_tokens(frame, visual) for frame in clip]
    for i in range(2):
      block = visual['transformer']['resblocks'][str(i)]
      normed = [reference.layer_norm(frame, block['ln_1']) for frame in x]
      mixed = []
      for t in range(3):
        keys, values = [], []
        for neighbor in (t + 1, t - 1, t):
          # Beyond the ends keys and values are zeros, not projections of zeros.
          inside = 0 <= neighbor < 3
          source = normed[neighbor] if inside else None
          for name, projected in (('key', keys), ('value', values)):
            p = block['attn'][name]
            projected.append(
              np.einsum('ld,dhk->lhk', source, p['kernel']) + p['bias']
              if inside
              else np.zeros((len(x[0]), *p['bias'].shape))
            )
        mixed.append(
          reference.attend(normed[t], np.concatenate(keys), np.concatenate(values), block['attn'])
        )
      x = [frame + added for frame, added in zip(x, mixed, strict=True)]
      x = [frame + reference.mlp(reference.layer_norm(frame, block['ln_2']), block) for frame in x]
    # Each frame is scored by itself, and the scores are averaged.
    expected.append(
      np.mean([reference.unit(reference.embed_image(frame, visual)) for frame in x], axis=0)
    )
  np.testing.assert_allclose(embed(model, params, clips), expected, atol=1e-5)


def test_joint_attention_agrees_with_numpy():
  spec = dataclasses.replace(TINY, image_layers=2, resolution=16)
  model = VideoModel(spec, VideoSpec(3, 'joint'))
  params = random_params(model)
  clips = frames(spec, clips=2, count=3)
  visual = exact(params)['visual']
  expected = []
  for clip in np.asarray(clips, np.float64):
    x = np.stack([reference.embed_patches(frame, visual) for frame in clip])
    patches = x[:, 1:] + visual['temporal_embedding'][:, None]
    x = np.concatenate([x[0, :1], *patches])
    x = reference.transformer(reference.layer_norm(x, visual['ln_pre']), visual['transformer'])
    expected.append(reference.unit(reference.embed_image(x, visual)))
  np.testing.assert_allclose(embed(model, params, clips), expected, atol=1e-5)
  # It starts as a CLIP that does not see the order of frames.
  assert not jnp.any(model.init(jax.random.key(0))['visual']['temporal_embedding'])


def test_xclip_agrees_with_numpy():
  spec = dataclasses.replace(TINY, image_layers=2, resolution=16)
  model = VideoModel(spec, VideoSpec(3, 'xclip', temporal_layers=1))
  params = random_params(model)
  p = exact(params)
  visual, prompts = p['visual'], p['video_prompts']
  clips = frames(spec, clips=2, count=3)
  tokens = texts(spec, [5, 9, 4000], [7], [])
  names = np.stack([reference.encode_text(row, p['text']) for row in tokens])
  encoded = jax.jit(model.encode_video)(params, clips)
  cosines = jax.jit(model.similarity)(params, encoded, jax.jit(model.encode_text)(params, tokens))
  for b, clip in enumerate(np.asarray(clips, np.float64)):
    x = [reference.first_tokens(frame, visual) for frame in clip]
    for i in range(2):
      block = visual['transformer']['resblocks'][str(i)]
      messages = np.stack([reference.dense(frame[0], block['message_fc']) for frame in x])
      normed = reference.layer_norm(messages, block['message_ln'])
      messages = messages + reference.attention(normed, block['message_attn'], causal=False)
      x = [np.concatenate([frame, m[None]]) for frame, m in zip(x, messages, strict=True)]
      x = [
        f + reference.attention(reference.layer_norm(f, block['ln_1']), block['attn'], False)
        for f in x
      ]
      x = [frame[:-1] for frame in x]
      x = [frame + reference.mlp(reference.layer_norm(frame, block['ln_2']), block) for frame in x]
    video = reference.integrate(
      np.stack([reference.embed_image(frame, visual) for frame in x]), p['temporal']
    )
    patches = np.stack([reference.layer_norm(frame[1:], prompts['visual_ln']) for frame in x])
    context = reference.layer_norm(
      reference.dense(patches, prompts['visual_proj']).mean(0), prompts['norm']
    )
    y = names
    for i in range(2):
      layer = prompts['decoder'][str(i)]
      a = layer['cross_attn']
      keys, values = (
        np.einsum('ld,dhk->lhk', context, a[name]['kernel']) for name in ('key', 'value')
      )
      y = y + reference.attend(reference.layer_norm(y, layer['norm1']), keys, values, a)
      y = y + reference.mlp(reference.layer_norm(y, layer['norm3']), layer)
    classes = names + prompts['alpha'] * y
    expected = [reference.unit(name) @ reference.unit(video) for name in classes]
    np.testing.assert_allclose(cosines[b], expected, atol=1e-5)


def test_deep_prompts_agree_with_numpy():
  spec = dataclasses.replace(TINY, image_layers=3, text_layers=3, resolution=16)
  model = VideoModel(spec, VideoSpec(1, image_prompts=2, text_prompts=3, prompt_depth=2))
  params = random_params(model)
  assert sorted(params['visual']['prompts']['blocks']) == ['1']
  p = exact(params)
  clips = frames(spec, clips=1, count=1)
  tokens = texts(spec, [1, 1, 1, 9, 4000])

  visual, prompts = p['visual'], p['visual']['prompts']
  x = reference.first_tokens(np.asarray(clips[0, 0], np.float64), visual, prompts['inputs'])
  for i in range(3):
    if i == 1:
      x[-2:] = prompts['blocks']['1']
    x = reference.transformer(x, {'resblocks': {'0': visual['transformer']['resblocks'][str(i)]}})
  video = reference.unit(reference.embed_image(x, visual))
  np.testing.assert_allclose(embed(model, params, clips)[0], video, atol=1e-5)

  text, prompts = p['text'], p['text']['prompts']
  x = text['token_embedding']['embedding'][tokens[0]]
  x[1:4] = prompts['inputs']
  x = x + text['positional_embedding']
  for i in range(3):
    if i == 1:
      x[1:4] = prompts['blocks']['1']
    block = {'resblocks': {'0': text['transformer']['resblocks'][str(i)]}}
    x = reference.transformer(x, block, causal=True)
  end = x[tokens[0].argmax()]
  expected = reference.unit(
    reference.dense(reference.layer_norm(end, text['ln_final']), text['text_projection'])
  )
  np.testing.assert_allclose(jax.jit(model.encode_text)(params, tokens)[0], expected, atol=1e-5)


@pytest.mark.parametrize('kind', TEMPORAL_MODELS)
def test_only_the_mean_ignores_the_order_of_frames(kind):
  model = VideoModel(tiny(kind), VideoSpec(4, kind, temporal_layers=1))
  params = random_params(model)
  clips = frames(TINY, count=4)
  shuffled = clips[:, np.array([2, 0, 3, 1])]
  difference = jnp.max(jnp.abs(embed(model, params, clips) - embed(model, params, shuffled)))
  assert (difference < 1e-6) if kind == 'mean' else (difference > 1e-3)


@pytest.mark.parametrize('kind', TEMPORAL_MODELS)
def test_every_parameter_has_a_gradient(kind):
  spec = dataclasses.replace(tiny(kind), image_layers=2, resolution=16)
  prompts = {'image_prompts': 2, 'text_prompts': 2, 'prompt_depth': 2}
  if kind == 'videoprism':
    prompts = {}
  model = VideoModel(spec, VideoSpec(2, kind, temporal_layers=1, **prompts))
  clips, tokens = frames(spec, clips=2, count=2), texts(spec, [1, 1, 9, 4000], [1, 1, 7])

  def loss(params):
    cosines = model.similarity(
      params, model.encode_video(params, clips), model.encode_text(params, tokens)
    )
    return jnp.exp(params['logit_scale']) * cosines[0, 0] - cosines[1, 1] ** 2

  gradients = jax.jit(jax.grad(loss))(random_params(model))
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    # In the first block the class tokens of all frames are equal, so the weights of the attention
    # between their messages do not matter. A key's bias never matters.
    unused = name.endswith('key/bias') or 'resblocks/0/message_attn/query' in name
    unused |= 'resblocks/0/message_attn/key' in name
    assert unused or jnp.max(jnp.abs(gradient)) > 1e-7, name


@pytest.mark.parametrize('kind', TEMPORAL_MODELS)
def test_clips_of_a_batch_do_not_affect_each_other(kind):
  model = VideoModel(tiny(kind), VideoSpec(2, kind, temporal_layers=1))
  params = random_params(model)
  clips = frames(TINY, clips=3, count=2)
  together = embed(model, params, clips)
  alone = jnp.concatenate([embed(model, params, clip[None]) for clip in clips])
  np.testing.assert_allclose(together, alone, atol=1e-5)


def test_heads_are_actionclips_by_default():
  model = VideoModel(TINY, VideoSpec(4, 'transformer'))
  head = model.abstract_params['temporal']
  assert sorted(head['transformer']['resblocks']) == ['0', '1', '2', '3', '4', '5']
  assert head['transformer']['resblocks']['5']['attn']['query']['kernel'].shape == (64, 1, 64)
  assert head['positional_embedding'].shape == (4, 64)


def test_mean_head_has_no_parameters():
  assert 'temporal' not in VideoModel(TINY, VideoSpec(4)).abstract_params


def test_an_unknown_temporal_model_is_refused():
  with pytest.raises(UserError, match="^temporal: 'lstm' is none of mean, transformer"):
    VideoSpec(4, 'lstm')


@pytest.mark.parametrize(
  ('spec', 'video', 'message'),
  [
    (tiny('videoprism'), VideoSpec(4), "temporal: a model of videoprism .*'videoprism' instead of"),
    (tiny('videoprism'), VideoSpec(4, 'joint'), "instead of 'joint'"),
    (TINY, VideoSpec(4, 'videoprism'), 'temporal: .*take another one for a model of clip'),
    (tiny('videoprism'), VideoSpec(4, 'videoprism', image_prompts=2), 'prompts: '),
    (TINY, VideoSpec(4, 'joint', residual_distillation=True), 'config.optim.distillation to 0'),
  ],
)
def test_video_models_that_do_not_fit_the_encoder_are_refused(spec, video, message):
  with pytest.raises(UserError, match=message):
    VideoModel(spec, video)
