"""Recipes and augmentation on the GPU: as on the CPU up to rounding, and masks exactly."""

import jax
import numpy as np
import pytest

from zsar_jax.ops.prepare import Augmentation, evaluation_input, training_input
from zsar_jax.recipes.language import parse

pytestmark = pytest.mark.gpu

# Colors are drawn with the inverse error function, whose polynomials the compilers round
# differently; frames have values of up to 4.
ATOL = 1e-5


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(3)
  fields = {
    f'{prefix}frames': rng.integers(0, 256, (8, 4, 32, 32, 3), np.uint8)
    for prefix in ('', 'partner_')
  }
  for prefix in ('', 'partner_'):
    # Regions in blocks, as masks are, and frames that lack them.
    blocks = rng.integers(0, 16, (8, 4, 8, 8), np.uint8)
    fields[f'{prefix}regions'] = blocks.repeat(4, axis=2).repeat(4, axis=3)
    fields[f'{prefix}annotated'] = rng.random((8, 4)) < 0.9
  labels, seeds = rng.integers(0, 3, 8, np.int32), rng.integers(0, 2**32, 8, np.uint32)
  return fields | {'label': labels, 'seed': seeds}


@pytest.mark.parametrize(
  'recipe',
  [
    'none',
    'background=normal,object=normal',
    'background=normal/frame@0.5,person=#ff8000',
    'background=uniform,object=uniform/other!',
    'background=mean,object_box=white,person_box=black',
    'background=stripes',
    'background=swap',
  ],
)
def test_evaluation_recipes(gpu, cpu, batch, recipe):
  def run(device, recipe):
    key, clips = jax.device_put((jax.random.key(7), batch), device)
    video = evaluation_input(key, clips, parse(recipe))
    assert video.devices() == {device}
    return np.asarray(video)

  ours, expected, unpainted = run(gpu, recipe), run(cpu, recipe), run(cpu, 'none')
  np.testing.assert_allclose(ours, expected, rtol=0, atol=ATOL)
  if recipe == 'none':
    return
  # No random color is as close as this to a pixel.
  painted, expected_painted = (abs(x - unpainted).max(-1) > ATOL for x in (ours, expected))
  assert 0.05 < expected_painted.mean() < 0.95
  np.testing.assert_array_equal(painted, expected_painted)


@pytest.mark.parametrize(
  ('settings', 'recipe'),
  [
    (dict(flip=0.5, jitter=0.8, greyscale=0.3), 'background=normal,object=normal@0.5'),
    (dict(mixup=0.2), 'be@0.5'),
    (dict(cutmix=1.0), 'actorcutmix'),
    (dict(flip=0.5), 'stillmix,freeze@0.5'),
    ({}, 'background=normal/frame,reverse@0.5,shuffle'),
  ],
)
def test_training_input(gpu, cpu, batch, settings, recipe):
  """FAME is left out: it ranks the pixels by how they move, and rounding decides between equals."""
  mirrored = np.array([1, 0, 2])

  def run(device):
    key, clips = jax.device_put((jax.random.key(7), batch), device)
    prepare = jax.jit(
      lambda key, clips: training_input(
        key, clips, Augmentation(**settings), mirrored, parse(recipe)
      )
    )
    clips = prepare(key, clips)
    assert clips.video.devices() == {device}
    return jax.device_get(clips)

  ours, expected = run(gpu), run(cpu)
  np.testing.assert_array_equal(ours.regions, expected.regions)
  np.testing.assert_array_equal(ours.annotated, expected.annotated)
  np.testing.assert_allclose(ours.targets, expected.targets, rtol=0, atol=1e-6)
  np.testing.assert_allclose(ours.video, expected.video, rtol=0, atol=ATOL)
