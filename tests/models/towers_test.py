import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import reference
from zsar_jax.errors import UserError
from zsar_jax.models import layers, presets, towers, video_model
from zsar_jax.models.compute import Compute
from zsar_jax.models.presets import NORMALIZATIONS, VideoSpec

TINY = presets.preset('tiny')
# The shared space is as wide as both towers.
TINY_VIDEOPRISM = dataclasses.replace(
  TINY,
  architecture='videoprism',
  embed_dim=96,
  text_width=96,
  text_heads=3,
  time_layers=1,
  auxiliary_layers=1,
)
START, END = TINY.vocab_size - 2, TINY.vocab_size - 1


def tiny(temporal):
  """Returns a tiny model's dimensions that fit a temporal model."""
  return TINY_VIDEOPRISM if temporal == 'videoprism' else TINY


def random_params(model, seed=0):
  """Draws parameters without zero biases and unit scales, which would hide mistakes."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    mean = 1.0 if path[-1].key == 'scale' else 0.0
    return rng.normal(mean, 0.1, leaf.shape).astype(leaf.dtype)

  return jax.tree.map_with_path(draw, model.abstract_params)


def texts(spec, *bodies):
  tokens = np.zeros((len(bodies), spec.context_length), np.int32)
  for row, body in zip(tokens, bodies, strict=True):
    row[: len(body) + 2] = [spec.vocab_size - 2, *body, spec.vocab_size - 1]
  return tokens


def frames(spec, clips=1, count=1):
  shape = (clips, count, spec.resolution, spec.resolution, 3)
  return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def shapes_by_path(params):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


@pytest.fixture(scope='module')
def model():
  return video_model.VideoModel(TINY, VideoSpec(2))


@pytest.fixture(scope='module')
def params(model):
  return random_params(model)


@pytest.mark.parametrize(
  ('name', 'count'),
  [
    ('vit_b32', 151_277_313),
    ('vit_b16', 149_620_737),
    ('vit_l14', 427_616_513),
    ('vit_l14_336', 427_944_193),
    # Without the scale of the logits, which VideoPrism lacks, 247,623,424 and 580 M as published.
    ('videoprism_lvt_b', 247_623_425),
    ('videoprism_lvt_l', 579_877_121),
  ],
)
def test_full_size_models_have_as_many_parameters_as_published(name, count):
  spec = presets.preset(name)
  video = VideoSpec(16 if name == 'videoprism_lvt_b' else 8, spec.parts.temporal or 'mean')
  model = video_model.VideoModel(spec, video, Compute(jnp.bfloat16))
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model.abstract_params)) == count


def test_full_size_model_is_traced_without_parameters():
  spec = presets.preset('vit_b16')
  model = video_model.VideoModel(spec, VideoSpec(8), Compute(jnp.bfloat16))
  clips = jax.ShapeDtypeStruct((2, 8, 224, 224, 3), jnp.float32)
  video = jax.eval_shape(model.encode_video, model.abstract_params, clips)['embedding']
  assert (video.shape, video.dtype) == ((2, 512), jnp.float32)
  tokens = jax.ShapeDtypeStruct((5, 77), jnp.int32)
  text = jax.eval_shape(model.encode_text, model.abstract_params, tokens)
  assert (text.shape, text.dtype) == ((5, 512), jnp.float32)


def test_parameter_paths_and_kernel_layouts():
  spec = dataclasses.replace(TINY, image_layers=11, text_layers=1)
  model = video_model.VideoModel(spec, VideoSpec(2))
  drawn = jax.eval_shape(model.init, jax.random.key(0))
  assert drawn == model.abstract_params
  shapes = shapes_by_path(drawn)
  norm = ('scale', 'bias')
  block = {f'{ln}/{leaf}' for ln in ('ln_1', 'ln_2') for leaf in norm}
  block |= {
    f'{name}/{leaf}'
    for name in ('attn/query', 'attn/key', 'attn/value', 'attn/out', 'mlp/c_fc', 'mlp/c_proj')
    for leaf in ('kernel', 'bias')
  }
  expected = {f'visual/transformer/resblocks/{i}/{leaf}' for i in range(11) for leaf in block}
  expected |= {f'text/transformer/resblocks/0/{leaf}' for leaf in block}
  expected |= {f'visual/{ln}/{leaf}' for ln in ('ln_pre', 'ln_post') for leaf in norm}
  expected |= {f'text/ln_final/{leaf}' for leaf in norm}
  expected |= {'visual/conv1/kernel', 'visual/class_embedding', 'visual/positional_embedding'}
  expected |= {'text/token_embedding/embedding', 'text/positional_embedding'}
  expected |= {'visual/proj/kernel', 'text/text_projection/kernel', 'logit_scale'}
  assert shapes.keys() == expected
  assert shapes['visual/conv1/kernel'] == (8, 8, 3, 96)
  assert shapes['visual/transformer/resblocks/10/attn/query/kernel'] == (96, 3, 32)
  assert shapes['visual/transformer/resblocks/10/attn/query/bias'] == (3, 32)
  assert shapes['visual/transformer/resblocks/10/attn/out/kernel'] == (3, 32, 96)
  assert shapes['visual/proj/kernel'] == (96, 64)


def test_initial_deviations():
  """They are OpenAI's, except for tokens and image positions: see the constants in towers.py."""
  # Towers of one width share the compilation of their initializers.
  spec = dataclasses.replace(TINY, text_width=96, text_heads=3, image_layers=1)
  params = video_model.VideoModel(spec, VideoSpec(1)).init(jax.random.key(0))
  text, visual = params['text'], params['visual']
  block = text['transformer']['resblocks']['1']
  residual = 96**-0.5 * (2 * 2) ** -0.5
  for kernel, deviation in (
    (text['token_embedding']['embedding'], 0.2),
    (text['positional_embedding'], 0.01),
    (text['text_projection']['kernel'], 96**-0.5),
    (block['attn']['query']['kernel'], 96**-0.5),
    (block['attn']['out']['kernel'], residual),
    (block['mlp']['c_fc']['kernel'], 192**-0.5),
    (block['mlp']['c_proj']['kernel'], residual),
    (visual['positional_embedding'], 0.5),
    (visual['conv1']['kernel'], (3 * 3 * 8 * 8) ** -0.5),
  ):
    np.testing.assert_allclose(jnp.std(kernel), deviation, rtol=0.05)
  np.testing.assert_allclose(jnp.exp(params['logit_scale']), 1 / 0.07, rtol=1e-6)


def test_towers_agree_with_numpy(model, params):
  clips = frames(TINY, clips=2, count=2)
  tokens = texts(TINY, [5, 9, 4000], list(range(100, 114)), [])
  exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  video = [
    reference.unit(np.mean([reference.encode_image(f, exact['visual']) for f in clip], axis=0))
    for clip in np.asarray(clips, np.float64)
  ]
  text = [reference.unit(reference.encode_text(row, exact['text'])) for row in tokens]
  np.testing.assert_allclose(
    jax.jit(model.encode_video)(params, clips)['embedding'], video, atol=1e-5
  )
  np.testing.assert_allclose(jax.jit(model.encode_text)(params, tokens), text, atol=1e-5)


def test_tokens_after_the_end_change_nothing(model, params):
  tokens = np.repeat(texts(TINY, [5, 9, 4000]), 3, axis=0)
  tokens[1, 5:] = np.arange(1, TINY.context_length - 4)
  tokens[2, 1] = 6
  plain, padded, changed = jax.jit(model.encode_text)(params, tokens)
  np.testing.assert_allclose(padded, plain, atol=1e-6)
  assert jnp.max(jnp.abs(changed - plain)) > 1e-3
  # They need not be there.
  (short,) = jax.jit(model.encode_text)(params, tokens[:1, :5])
  np.testing.assert_allclose(short, plain, atol=1e-6)


def test_bfloat16_is_close_to_float32(model, params):
  rough = video_model.VideoModel(TINY, VideoSpec(2), Compute(jnp.bfloat16))
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(rough.abstract_params))
  clips, tokens = frames(TINY, clips=2, count=2), texts(TINY, [5, 9, 4000], [7])
  for name, inputs in (('encode_video', clips), ('encode_text', tokens)):
    ours = jax.jit(getattr(rough, name))(params, inputs)
    exact = jax.jit(getattr(model, name))(params, inputs)
    if name == 'encode_video':
      ours, exact = ours['embedding'], exact['embedding']
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(ours, axis=-1), 1, atol=1e-6)
    difference = jnp.max(jnp.abs(ours - exact))
    assert 1e-5 < difference < 0.02  # A smaller difference would mean that bfloat16 was not used.


def test_invalid_dimensions_are_refused():
  with pytest.raises(UserError, match="preset: 'vit_b15' is none of tiny, vit_b32"):
    presets.preset('vit_b15')
  with pytest.raises(UserError, match='no field color'):
    presets.preset('tiny', color=3)
  with pytest.raises(UserError, match='the image size 50 is not a multiple of the patch size 8'):
    presets.preset('tiny', resolution=50)


def test_unsupported_ways_to_compute_are_refused():
  for options, words in (
    ({'attention': 'flash'}, "^attention: 'flash' is none of xla, cudnn"),
    ({'remat': 'some'}, "^remat: 'some' is none of none, dots, full"),
  ):
    with pytest.raises(UserError, match=words):
      Compute(**options)


@pytest.mark.parametrize('remat', ['none', 'full'])
@pytest.mark.parametrize(('causal', 'index'), [(False, 0), (True, np.array([4, 0, 2]))])
def test_a_selected_token_has_the_value_and_gradient_that_it_has_among_all(causal, index, remat):
  compute = Compute(remat=remat)
  stack = layers.plain_transformer(32, 2, 4, compute=compute, rngs=nnx.Rngs(0), causal=causal)
  module, weights = nnx.split(stack)
  x = jax.random.normal(jax.random.key(1), (3, 5, 32))

  def loss(weights, x, selected):
    stack = nnx.merge(module, weights)
    y = stack(x, query_index=index) if selected else layers.select_token(stack(x), index)
    assert y.shape == (3, 1, 32)
    return jnp.sum(jnp.sin(y))

  value_and_grad = jax.value_and_grad(loss, (0, 1))
  selected, among_all = (value_and_grad(weights, x, selected) for selected in (True, False))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), selected, among_all
  )


def test_rematerialization_repeats_products_and_changes_no_gradient():
  clips = frames(TINY, clips=2, count=2)
  gradients, products = [], []
  for remat in ('none', 'dots', 'full'):
    model = video_model.VideoModel(TINY, VideoSpec(2), Compute(remat=remat))
    params = random_params(model)

    def loss(params, model=model):
      return model.encode_video(params, clips)['embedding'][:, 0].sum()

    lowered = jax.jit(jax.grad(loss)).lower(params)
    products.append(lowered.as_text().count('dot_general'))
    gradients.append(lowered.compile()(params))
  # Both policies recompute attention's two products, which have batch dimensions; only 'full'
  # recomputes the six products with weights. (XLA for CPUs merges recomputation, so memory cannot
  # be compared.)
  assert products[0] + 2 * TINY.image_layers <= products[1] < products[2]
  for other in gradients[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients[0], other)


def from_hugging_face(state, spec):
  """Converts a Hugging Face state dict to our tree, from the description of both layouts."""
  heads = {'visual': spec.image_heads, 'text': spec.text_heads}
  renames = [
    (r'^vision_model\.', 'visual.'),
    (r'^text_model\.', 'text.'),
    (r'^visual_projection', 'visual.proj'),
    (r'^text_projection', 'text.text_projection'),
    (r'encoder\.layers', 'transformer.resblocks'),
    (r'embeddings\.(class|token|position)_embedding', r'\1_embedding'),
    (r'embeddings\.patch_embedding', 'conv1'),
    (r'position_embedding\.weight', 'positional_embedding'),
    (r'token_embedding\.weight', 'token_embedding.embedding'),
    ('pre_layrnorm', 'ln_pre'),
    ('post_layernorm', 'ln_post'),
    ('final_layer_norm', 'ln_final'),
    (r'layer_norm(\d)', r'ln_\1'),
    (r'self_attn\.q_proj', 'attn.query'),
    (r'self_attn\.k_proj', 'attn.key'),
    (r'self_attn\.v_proj', 'attn.value'),
    (r'self_attn\.out_proj', 'attn.out'),
    (r'mlp\.fc1', 'mlp.c_fc'),
    (r'mlp\.fc2', 'mlp.c_proj'),
    (r'(ln_\w+)\.weight', r'\1.scale'),
    (r'\.weight$', '.kernel'),
  ]
  tree = {}
  for name, tensor in state.items():
    if name.endswith('position_ids'):
      continue
    for pattern, ours in renames:
      name = re.sub(pattern, ours, name)
    value = tensor.detach().numpy()
    *parents, leaf = name.split('.')
    if leaf == 'kernel':
      value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if parents[-1:] == ['out'] and leaf == 'kernel':
      value = value.reshape(heads[parents[0]], -1, value.shape[-1])
    if parents[-1:] and parents[-1] in ('query', 'key', 'value'):
      value = value.reshape(*value.shape[:-1], heads[parents[0]], -1)
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


# Heads 32 wide, and 64 wide as in the published models.
@pytest.mark.parametrize(('width', 'heads'), [(96, 3), (128, 2)])
def test_towers_agree_with_transformers(width, heads):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  spec = dataclasses.replace(TINY, image_width=width, image_heads=heads)
  shared = {'attention_dropout': 0.0, 'initializer_factor': 3.0, 'projection_dim': spec.embed_dim}
  config = transformers.CLIPConfig(
    text_config={
      'hidden_size': spec.text_width,
      'intermediate_size': 4 * spec.text_width,
      'num_hidden_layers': spec.text_layers,
      'num_attention_heads': spec.text_heads,
      'max_position_embeddings': spec.context_length,
      'vocab_size': spec.vocab_size,
      'bos_token_id': START,
      'eos_token_id': END,
      **shared,
    },
    vision_config={
      'hidden_size': spec.image_width,
      'intermediate_size': 4 * spec.image_width,
      'num_hidden_layers': spec.image_layers,
      'num_attention_heads': spec.image_heads,
      'image_size': spec.resolution,
      'patch_size': spec.patch,
      **shared,
    },
    projection_dim=spec.embed_dim,
  )
  torch.manual_seed(0)
  theirs = transformers.CLIPModel(config).eval()
  with torch.no_grad():
    for parameter in theirs.parameters():
      parameter += 0.05 * torch.randn_like(parameter)
  params = from_hugging_face(theirs.state_dict(), spec)
  model = video_model.VideoModel(spec, VideoSpec(1))
  assert shapes_by_path(params) == shapes_by_path(model.abstract_params)

  images, tokens = frames(spec, clips=3), texts(spec, [5, 9, 4000], [7])
  with torch.no_grad():
    expected = theirs(
      pixel_values=torch.tensor(np.asarray(images[:, 0].transpose(0, 3, 1, 2))),
      input_ids=torch.tensor(tokens, dtype=torch.long),
    )
  encoded, text = model.encode_video(params, images), model.encode_text(params, tokens)
  video = encoded['embedding']
  np.testing.assert_allclose(video, expected.image_embeds, atol=1e-5)
  np.testing.assert_allclose(text, expected.text_embeds, atol=1e-5)
  logits = jnp.exp(params['logit_scale']) * model.similarity(params, encoded, text)
  np.testing.assert_allclose(logits, expected.logits_per_image, atol=1e-4)


def test_frames_are_renormalized_as_the_model_was_trained():
  spec = dataclasses.replace(TINY, image_layers=1, resolution=16)
  plain = video_model.VideoModel(spec, VideoSpec(2))
  other = video_model.VideoModel(dataclasses.replace(spec, normalization='imagenet'), VideoSpec(2))
  params = random_params(plain)
  rgb = np.random.default_rng(0).uniform(size=(1, 2, 16, 16, 3))
  clips, imagenet = (
    ((rgb - np.array(mean)) / np.array(std)).astype(np.float32)
    for mean, std in (NORMALIZATIONS['clip'], NORMALIZATIONS['imagenet'])
  )
  renormalized = other.encode_video(params, clips)['embedding']
  np.testing.assert_allclose(
    renormalized, plain.encode_video(params, imagenet)['embedding'], atol=1e-5
  )
  assert np.abs(renormalized - plain.encode_video(params, clips)['embedding']).max() > 1e-3


def test_the_gradient_of_a_word_that_many_texts_share_is_exact_in_bfloat16():
  embedding = towers.TokenEmbedding(16, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  module, weights = nnx.split(embedding)
  tokens = jnp.full((2, 500), 7)

  def total(weights):
    return jnp.sum(nnx.merge(module, weights)(tokens).astype(jnp.float32))

  gradient = jax.grad(total)(weights)['embedding'][...]
  expected = np.zeros((16, 2))
  expected[7] = 1000
  np.testing.assert_array_equal(gradient, expected)


def test_a_token_outside_the_table_gives_no_number():
  embedding = towers.TokenEmbedding(16, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))
  assert jnp.isnan(embedding(jnp.array([16]))).all()
  assert jnp.isfinite(embedding(jnp.array([15]))).all()
