"""The learning rates of parameters, compared with timm's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import k400_bgmask, open_vclip_k400, ssv2_objmask, vifi_clip_k400, xclip_k400
from zsar_jax.config import default_config
from zsar_jax.models.from_config import model_spec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime import trees
from zsar_jax.training import optim

# timm 1.0.31: CosineLRScheduler(optimizer, t_initial=1000, lr_min=8e-8, warmup_lr_init=0,
# warmup_t=500, cycle_limit=1, t_in_epochs=False), of groups with lr 8e-6 and 8e-5.
TIMM = {
  0: (0.0, 0.0),
  1: (1.6e-08, 1.6e-07),
  250: (4e-06, 4e-05),
  499: (7.984e-06, 7.984e-05),
  500: (4.04e-06, 4.004e-05),
  501: (4.027559313555917e-06, 3.991446216406425e-05),
  700: (1.712370400921807e-06, 1.655210131839278e-05),
  999: (8.001954180064148e-08, 8.019719453374581e-08),
  1000: (8e-08, 8e-08),
  1200: (8e-08, 8e-08),
}


@pytest.mark.parametrize(
  'get_config',
  [
    vifi_clip_k400.get_config,
    xclip_k400.get_config,
    k400_bgmask.get_config,
    ssv2_objmask.get_config,
  ],
)
def test_published_schedules_agree_with_timm(get_config):
  config = get_config()
  assert config.optim.warmup_steps * 2 == config.steps
  config.optim.warmup_steps = 500
  for column, factor in enumerate((1.0, 10.0)):
    schedule = optim.learning_rate(config.optim, 1000, factor)
    for step, rates in TIMM.items():
      np.testing.assert_allclose(schedule(step), rates[column], rtol=1e-4, err_msg=str(step))


def test_the_cosine_of_the_default_and_of_open_vclip_starts_after_the_warm_up():
  for config in (default_config(), open_vclip_k400.get_config('froster')):
    peak = config.optim.lr = 2e-6
    config.optim.warmup_steps = 200
    schedule = optim.learning_rate(config.optim, 2200)
    # SlowFast's lr_func_cosine with COSINE_AFTER_WARMUP.
    for step in (200, 201, 1200, 2200):
      share = (1 + np.cos(np.pi * (step - 200) / 2000)) / 2
      np.testing.assert_allclose(schedule(step), peak * (0.01 + 0.99 * share), rtol=1e-4)


def test_each_parameter_has_its_own_rate():
  config = default_config().optim
  config.update(lr=8e-6, warmup_steps=500, cosine_from='start', clip_norm=0.0, weight_decay=0.0)
  config.lr_rules = (('fast', 10.0), ('slow', 0.001), ('frozen', 0.0))
  params = {name: jnp.ones(()) for name in ('fast', 'frozen', 'plain', 'slow')}
  optimizer, trained = optim.make_optimizer(config, params, 1000)
  assert trained == {'fast': True, 'frozen': False, 'plain': True, 'slow': True}
  part = {name: params[name] for name in params} | {'frozen': None}
  state = optimizer.init(part)
  update = jax.jit(optimizer.update)
  gradients = jax.tree.map(jnp.ones_like, part)
  for step in range(701):
    updates, state = update(gradients, state, part)
    if step in TIMM:
      # Constant gradients become 1 in Adam.
      np.testing.assert_allclose(-updates['plain'], TIMM[step][0], rtol=1e-4)
      np.testing.assert_allclose(-updates['fast'], TIMM[step][1], rtol=1e-4)
  # A rate that is already below the final rate does not rise.
  np.testing.assert_allclose(-updates['slow'], 8e-9, rtol=1e-4)


@pytest.mark.parametrize('variant', ['', 'froster'])
def test_open_vclip_trains_as_published(variant):
  """Values from slowfast/config/defaults.py, models/optimizer.py and the training scripts."""
  config = open_vclip_k400.get_config(variant)
  assert (config.optim.b1, config.optim.b2, config.optim.clip_norm) == (0.9, 0.999, 1.0)
  assert config.view.interpolation == 'bilinear'
  assert config.eval.view_mean == 'logits'
  # A small model has the same paths.
  config.model.preset, config.view.size = 'tiny', 48
  params = VideoModel(*model_spec(config)).abstract_params
  _, trained = optim.make_optimizer(config.optim, params, config.steps)
  assert trained['logit_scale']
  assert all(jax.tree.leaves(trained['visual']))
  assert set(jax.tree.leaves(trained['text'])) == {variant == 'froster'}
  # There, biases and arrays of one dimension do not decay. The logit scale has no dimension.
  decay = trees.match_rules(config.optim.decay_rules, params, 1.0, '')
  assert decay['logit_scale'] == decay['text']['token_embedding']['embedding'] == 1
  assert decay['visual']['class_embedding'] == decay['visual']['ln_pre']['scale'] == 0
  block = decay['visual']['transformer']['resblocks']['2']
  assert block['attn']['query'] == {'bias': 0.0, 'kernel': 1.0}
