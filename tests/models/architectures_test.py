"""Every family of encoders trains, shards, counts, is planned and is saved, as CLIP does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import ssv2_objmask
from tests.models.towers_test import random_params
from zsar_jax.errors import UserError
from zsar_jax.models import flops, presets
from zsar_jax.models.architectures import ARCHITECTURES
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.photometric import normalize, to_float
from zsar_jax.performance import planner, topologies
from zsar_jax.performance.programs import train_program
from zsar_jax.runtime import sharding
from zsar_jax.runtime.trees import path_name
from zsar_jax.training.setup import Setup
from zsar_jax.weights.formats import infer, load, save
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.read import read_weights

CLASSES = 6
FRAMES = 2


def tiny(name):
  """Returns a model whose heads are 12 and 16 wide, and whose MLPs are not four-fold."""
  return TowerSpec(
    embed_dim=48,
    resolution=24,
    patch=8,
    image_width=48,
    image_layers=1,
    image_heads=4,
    text_width=48,
    text_layers=1,
    text_heads=2,
    context_length=10,
    vocab_size=128,
    architecture=name,
    image_mlp=104,
    text_mlp=72,
    time_layers=int(name == 'videoprism'),
    auxiliary_layers=int(name == 'videoprism'),
  )


# ViCLIP is a CLIP whose image tower embeds clips.
_VICLIP = 'viclip'


@pytest.fixture(scope='module', params=[*ARCHITECTURES, _VICLIP], name='model')
def _model(request):
  if request.param == _VICLIP:
    return VideoModel(tiny('clip'), VideoSpec(FRAMES, 'joint'))
  spec = tiny(request.param)
  return VideoModel(spec, VideoSpec(FRAMES, spec.parts.temporal or 'mean'))


@pytest.fixture(name='config')
def _config(model, monkeypatch):
  monkeypatch.setattr(presets, 'PRESETS', {'tiny_one': model.spec})
  config = ssv2_objmask.get_config('smoke')
  config.recipe = 'none'
  config.augment.update(jitter=0.0, greyscale=0.0, erasing=0.0, flip=0.0)
  config.model.preset = 'tiny_one'
  config.model.temporal = model.video.temporal
  config.view.size, config.view.num_frames = model.spec.resolution, FRAMES
  config.data.batch_size = config.eval.batch_size = 8
  config.eval.recipes = ('none',)
  config.optim.accumulation = 1
  config.optim.weight_decay = 0.0
  config.optim.clip_norm = 0.0
  config.mesh.fsdp_min_bytes = 1
  return config


def fill(tree, spec):
  """Returns arrays of the shapes and with the shardings of a tree of ShapeDtypeStructs."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.device_put(jax.random.key(1), leaf.sharding)
    if leaf.dtype == np.uint8:
      array = rng.integers(0, 255, leaf.shape)
    elif 'texts' in path_name(path):
      array = rng.integers(1, spec.vocab_size - 1, leaf.shape)
      array[..., 6], array[..., 7:] = spec.vocab_size - 1, 0
    else:
      array = rng.integers(0, CLASSES if leaf.dtype == np.int32 else 2, leaf.shape)
    return jax.device_put(array.astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(draw, tree)


@pytest.mark.slow
def test_a_step_on_a_mesh_has_the_gradients_of_one_device(model, config):
  """Of all parameters. Those of one device are computed without the training step."""
  config.mesh.data, config.mesh.fsdp, config.mesh.tensor = 1, 2, 2
  mesh = sharding.make_mesh(config.mesh, jax.devices()[:4])
  program = train_program(config, mesh, CLASSES)
  setup = Setup.from_config(config, mesh, [f'class {number}' for number in range(CLASSES)])
  batch, inputs = (fill(program.arguments[name], model.spec) for name in ('batch', 'inputs'))
  params = random_params(model)

  def loss(params):
    clips = normalize(to_float(jnp.asarray(jax.device_get(batch['frames']))))
    classes = model.encode_text(params, jax.device_get(inputs['texts'])[0, :CLASSES])
    logits = model.logits(params, model.encode_video(params, clips), classes)
    labels = jax.device_get(batch['label'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  expected, gradients = jax.jit(jax.value_and_grad(loss))(params)
  state = jax.device_put(setup.init_state(params), setup.state_shardings)
  state, metrics, _ = program.function(state, batch, inputs)
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  moments = optax.tree.get(state['opt'], 'mu')  # Adam's, after one step.
  for (path, gradient), moment in zip(
    jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(moments), strict=True
  ):
    name, scale = path_name(path), np.abs(gradient).max()
    # A bias of all keys or of all logits changes no softmax.
    assert scale > 1e-7 or name.endswith(('key/bias', 'logit_bias')), name
    actual = np.asarray(moment) / (1 - config.optim.b1)
    np.testing.assert_allclose(actual, gradient, atol=1e-3 * scale + 1e-7, err_msg=name)


def test_operations_are_those_of_the_traced_model(model):
  spec, video = model.spec, model.video
  clips = jax.ShapeDtypeStruct((3, FRAMES, spec.resolution, spec.resolution, 3), jnp.float32)
  traced = flops.of_jaxpr(jax.make_jaxpr(model.encode_video)(model.abstract_params, clips))
  assert flops.clip(spec, video) * 3 == traced
  texts = jax.ShapeDtypeStruct((5, spec.context_length), jnp.int32)
  traced = flops.of_jaxpr(jax.make_jaxpr(model.encode_text)(model.abstract_params, texts))
  assert flops.text(spec, spec.context_length) * 5 == traced


def test_a_plan(model, config, monkeypatch):
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda name: None)
  config.eval.datasets = ConfigDict()
  config.mesh.data, config.mesh.fsdp, config.mesh.tensor = 2, 2, 2
  config.model.dtype = 'bfloat16'
  plan = planner.make_plan(config, topologies.parse('gpu:8xH100'), CLASSES)
  assert plan['train']['fits']
  trained = jax.tree.map(lambda _: True, model.abstract_params)
  texts = (1, CLASSES + 2, model.spec.context_length)  # Each of 4 replicas encodes 2 texts.
  counted = flops.training_step(model.spec, model.video, 8, texts, trained)
  spec = model.spec
  # The pixels need no gradient. The loss has products of its own, which are few.
  counted -= 8 * FRAMES * spec.num_patches * 2 * 3 * spec.patch**2 * spec.image_width
  assert 8 * plan['train']['flops']['traced'] == pytest.approx(counted, rel=0.02)


def test_saved_weights_are_the_same_model(model, tmp_path):
  params = jax.jit(model.init)(jax.random.key(0))
  usage = Preprocessing(resize='squash', tokenizer='words')
  save.save_weights(params, model, 'zsar', tmp_path / 'a', preprocessing=usage)
  weights = read_weights(str(tmp_path / 'a'), 'SRC')
  assert infer.infer_spec(weights) == (model.spec, model.video)
  assert weights.preprocessing == usage
  loaded, report = load.fit_to_model(weights, model)
  assert not report.missing + report.left_over + report.dropped + report.notes
  jax.tree.map(np.testing.assert_array_equal, loaded, jax.device_get(params))


def test_targets_whose_program_would_compute_other_numbers_are_refused(model, tmp_path):
  params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), model.abstract_params)
  with pytest.raises(UserError, match='^--to=scenic: .* use --to=zsar$'):
    save.save_weights(params, model, 'scenic', tmp_path / 'scenic')
  if model.spec.architecture not in ('clip', 'clip_gelu', 'siglip'):
    with pytest.raises(UserError, match='^--to=hf: .* use --to=zsar$'):
      save.save_weights(params, model, 'hf', tmp_path / 'hf')


@pytest.mark.parametrize('temporal', presets.TEMPORAL_MODELS)
@pytest.mark.parametrize('name', ARCHITECTURES)
def test_temporal_models_compute_or_are_refused(name, temporal):
  """Every pair gives embeddings, from prompts too, or names the field and a remedy."""
  spec = tiny(name)
  video = VideoSpec(FRAMES, temporal, 1, image_prompts=2, text_prompts=2)
  refusal = ''
  try:
    model = VideoModel(spec, video)
  except UserError as error:
    refusal = str(error)
  if refusal:
    assert refusal.startswith(('temporal: ', 'prompts: '))
    assert any(word in refusal for word in ('set ', 'take '))
    assert temporal != 'mean' or refusal.startswith('prompts') or spec.parts.temporal
    return
  clips = jax.ShapeDtypeStruct((3, FRAMES, spec.resolution, spec.resolution, 3), jnp.float32)
  texts = jax.ShapeDtypeStruct((5, spec.context_length), jnp.int32)
  encoded = jax.eval_shape(model.encode_video, model.abstract_params, clips)
  classes = jax.eval_shape(model.encode_text, model.abstract_params, texts)
  logits = jax.eval_shape(model.logits, model.abstract_params, encoded, classes)
  assert (encoded['embedding'].shape, logits.shape) == ((3, spec.embed_dim), (3, 5))


def test_an_architecture_that_does_not_exist():
  with pytest.raises(UserError, match="^architecture: 'vit' is none of clip, "):
    dataclasses.replace(tiny('clip'), architecture='vit')
