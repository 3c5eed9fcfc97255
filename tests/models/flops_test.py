"""Operations of a traced program against a count by hand, and of models against traced programs."""

import jax
import jax.numpy as jnp
import pytest

from zsar_jax.models import flops
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_model import VideoModel


def count_traced(function, *arguments):
  return flops.of_jaxpr(jax.make_jaxpr(function)(*arguments))


def test_operations_of_a_program_counted_by_hand():
  """A scan counts as often as it runs, a condition as its more expensive branch."""

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


@pytest.mark.parametrize(
  ('name', 'temporal'),
  [
    ('vit_b32', 'mean'),
    ('vit_b32', 'transformer'),
    ('pe_core_g14_448', 'mean'),
    ('eva02_l14', 'mean'),
    ('viclip_b16', 'joint'),
    ('videoprism_lvt_b', 'videoprism'),
  ],
)
def test_operations_are_those_of_the_traced_model(name, temporal):
  spec, video = preset(name, image_layers=3), VideoSpec(4, temporal, 2)
  model = VideoModel(spec, video)
  clips = jax.ShapeDtypeStruct((2, 4, spec.resolution, spec.resolution, 3), jnp.float32)
  expected = count_traced(model.encode_video, model.abstract_params, clips)
  assert flops.clip(spec, video) * 2 == pytest.approx(expected, rel=1e-3)
  texts = jax.ShapeDtypeStruct((5, 20), jnp.int32)
  expected = count_traced(model.encode_text, model.abstract_params, texts)
  assert flops.text(spec, 20) * 5 == pytest.approx(expected, rel=1e-3)


def test_a_step_counts_only_trained_towers():
  spec, video = preset('vit_b32', image_layers=3, text_layers=2), VideoSpec(4, 'mean')
  model = VideoModel(spec, video)
  clip, text = flops.clip(spec, video), 5 * flops.text(spec, 20)

  def step(*frozen):
    """The operations of a step whose parameters with `frozen` in their path are frozen."""
    trained = jax.tree_util.tree_map_with_path(
      lambda path, _: not any(word in str(path) for word in frozen), model.abstract_params
    )
    return flops.training_step(spec, video, 2, (1, 5, 20), trained)

  assert step() == pytest.approx(3 * (2 * clip + text))
  assert step("'text'") == pytest.approx(3 * 2 * clip)
  # If no kernel is trained, there are no gradients of matrices.
  assert step('kernel') == pytest.approx(2 * (2 * clip + text))
