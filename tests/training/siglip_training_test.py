"""Training of a SigLIP: the sigmoid loss, its scale and bias, meshes and accumulation."""

import dataclasses

import numpy as np
import pytest

from tests.toy import build_toy
from tests.training.loop_test import assert_same_training, take_steps, toy_config
from zsar_jax.config import CHOICES, default_config
from zsar_jax.errors import UserError
from zsar_jax.models import presets
from zsar_jax.models.from_config import build_model
from zsar_jax.training import losses

# A SigLIP as small as the preset 'tiny'.
_TINY = dataclasses.replace(
  presets.preset('tiny'), architecture='siglip', embed_dim=96, normalization='half', image_mlp=80
)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  monkeypatch.setattr(presets, 'PRESETS', {**presets.PRESETS, 'siglip_tiny': _TINY})


def config_of(data_dir, **changes):
  sigmoid = dict(model__preset='siglip_tiny', model__normalization='half', optim__loss='sigmoid')
  return toy_config(data_dir, **(sigmoid | dict(model__temporal='mean') | changes))


def slow_loss(logits, targets):
  """The loss of arXiv 2303.15343, algorithm 1, by a loop over pairs."""
  total = 0.0
  for row, target in zip(logits, targets, strict=True):
    for logit, t in zip(row, target, strict=True):
      total += t * np.log1p(np.exp(-logit)) + (1 - t) * np.log1p(np.exp(logit))
  return total / len(logits)


def test_the_choices_of_the_config_are_the_losses():
  assert tuple(losses.CLASS_LOSSES) == CHOICES['optim.loss']
  assert default_config().optim.loss == 'softmax'


def test_sigmoid_loss_agrees_with_numpy_and_transformers():
  rng = np.random.default_rng(0)
  logits = rng.normal(-4, 5, (6, 6))
  soft = rng.uniform(size=(6, 6))
  # Two clips of one class have the same positive column.
  same = np.eye(6)[[0, 2, 2, 5, 1, 0]]
  for targets in (np.eye(6), same, soft):
    ours = losses.sigmoid_loss(logits.astype(np.float32), targets.astype(np.float32)).mean()
    np.testing.assert_allclose(ours, slow_loss(logits, targets), rtol=1e-5)

  torch = pytest.importorskip('torch', reason='the reference model needs the extra `parity`')
  transformers = pytest.importorskip('transformers')
  tower = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
  text = tower | dict(vocab_size=20, max_position_embeddings=4, bos_token_id=None, eos_token_id=1)
  config = transformers.SiglipConfig(
    text_config=text, vision_config=tower | dict(image_size=8, patch_size=4)
  )
  torch.manual_seed(0)
  model = transformers.SiglipModel(config).eval()
  with torch.no_grad():
    outputs = model(
      input_ids=torch.randint(0, 20, (6, 4)),
      pixel_values=torch.randn(6, 3, 8, 8),
      return_loss=True,
    )
  ours = losses.sigmoid_loss(outputs.logits_per_image.numpy(), np.eye(6, dtype=np.float32)).mean()
  np.testing.assert_allclose(ours, outputs.loss.item(), rtol=1e-5)


@pytest.mark.slow
def test_training_steps(data_dir):
  """A mesh and accumulation change nothing; scale and bias are learned, without a limit."""
  # The limit is below SigLIP's first scale, 10.
  plain = dict(mesh__fsdp_min_bytes=1, optim__max_logit_scale=5.0, optim__label_smoothing=0.1)
  state, metrics = take_steps(config_of(data_dir, **plain), 1)
  mesh = dict(mesh__data=2, mesh__fsdp=2, mesh__tensor=2, optim__accumulation=1)
  split = take_steps(config_of(data_dir, **plain, **mesh), 8)
  assert_same_training(split, (state, metrics))
  pool = split[0]['params']['visual']['attn_pool']
  assert 'tensor' in str(pool['mlp']['c_fc']['kernel'].sharding.spec)
  scale, bias = (float(state['params'][name]) for name in ('logit_scale', 'logit_bias'))
  assert 0 < abs(scale - np.log(10)) < 0.01
  assert 0 < abs(bias + 10) < 0.01


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (
      dict(model__preset='tiny', model__normalization='clip'),
      "config.optim.loss: 'sigmoid' needs a model with a bias of the logits",
    ),
    (
      dict(model__prompts__text=4),
      'config.model.prompts: learnable tokens of texts follow the start token',
    ),
  ],
)
def test_refusals(data_dir, changes, words):
  with pytest.raises(UserError, match=words):
    build_model(config_of(data_dir, **changes))
