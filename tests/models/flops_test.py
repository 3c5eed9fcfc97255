"""Counts of operations: of what is traced against one by hand, of models against what is traced."""

import jax
import jax.numpy as jnp
import pytest

from zsar_jax.models import flops
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_model import VideoModel


def traced(function, *arguments):
  return flops.of_jaxpr(jax.make_jaxpr(function)(*arguments))


def test_traced_by_hand():
  """A scan counts as often as it runs, a branch like the dearer one."""

  def work(x, kernel):
    x = jax.lax.scan(lambda x, _: (x @ x, None), x, length=3)[0]  # 3 * 2 * 4^3
    x = jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x)  # 2 * 2 * 4^3
    image = jnp.zeros((2, 8, 8, 3))
    patches = jax.lax.conv_general_dilated(
      image, kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )  # 2 * 4 * 4 outputs of 5 features, each 2 * 2 * 2 * 3
    batched = jnp.einsum('bij,bjk->bik', jnp.ones((7, 2, 3)), jnp.ones((7, 3, 5)))
    return jax.checkpoint(jnp.sin)(x).sum() + patches.sum() + batched.sum()

  jaxpr = jax.make_jaxpr(jax.jit(work))(jnp.ones((4, 4)), jnp.ones((2, 2, 3, 5)))
  expected = 5 * 2 * 4**3 + 2 * 4 * 4 * 5 * 2 * 2 * 2 * 3 + 7 * 2 * 5 * 2 * 3
  assert flops.of_jaxpr(jaxpr) == expected


@pytest.mark.parametrize('temporal', ['mean', 'transformer'])
def test_operations_are_those_of_the_traced_model(temporal):
  spec, video = preset('vit_b32', image_layers=3), VideoSpec(4, temporal, 2)
  model = VideoModel(spec, video)
  clips = jax.ShapeDtypeStruct((2, 4, 224, 224, 3), jnp.float32)
  found = traced(model.encode_video, model.abstract_params, clips)
  assert flops.clip(spec, video) * 2 == pytest.approx(found, rel=1e-3)
  texts = jax.ShapeDtypeStruct((5, 20), jnp.int32)
  found = traced(model.encode_text, model.abstract_params, texts)
  assert flops.text(spec, 20) * 5 == pytest.approx(found, rel=1e-3)


def test_a_step_counts_what_is_trained():
  spec, video = preset('vit_b32', image_layers=3, text_layers=2), VideoSpec(4, 'mean')
  model = VideoModel(spec, video)
  clip, text = flops.clip(spec, video), 5 * flops.text(spec, 20)

  def step(*frozen):
    """In the units of two clips' forward passes and of the texts'."""
    trained = jax.tree_util.tree_map_with_path(
      lambda path, _: not any(word in str(path) for word in frozen), model.abstract_params
    )
    return flops.training_step(spec, video, 2, (1, 5, 20), trained)

  assert step() == pytest.approx(3 * (2 * clip + text))
  assert step("'text'") == pytest.approx(3 * 2 * clip)
  # Where only biases and the like are trained, no matrix has a gradient.
  assert step('kernel') == pytest.approx(2 * (2 * clip + text))
