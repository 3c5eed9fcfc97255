"""Recipes that show inpainted frames, against NumPy: what is painted, swapped and augmented."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from zsar_jax.ops.backgrounds import empty_scene
from zsar_jax.ops.photometric import normalize
from zsar_jax.ops.prepare import Augmentation, evaluation_input, training_input
from zsar_jax.recipes.language import parse
from zsar_jax.recipes.regions import OBJECT, PERSON, PERSON_BOX

B, T, H, W = 6, 3, 12, 16
WHITE = np.asarray(normalize(jnp.ones(3)))
BLACK = np.asarray(normalize(jnp.zeros(3)))


@pytest.fixture(name='batch')
def _batch():
  """Clips of noise whose inpainted frames differ from them in people and in a rim around them."""
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (B, T, H, W, 3), np.uint8)
  regions = np.zeros((B, T, H, W), np.uint8)
  hole = np.zeros(regions.shape, bool)
  for b in range(B):
    regions[b, :, 2:6, 3 + b : 7 + b] = PERSON
    regions[b, :, 1:7, 3 + b : 7 + b] |= PERSON_BOX
    regions[b, :, 4:9, 5 + b : 9 + b] |= OBJECT  # A part of it is behind the person.
    hole[b, :, 1:7, 2 + b : 8 + b] = True
  inpainted = np.where(hole[..., None], rng.integers(0, 256, frames.shape, np.uint8), frames)
  return {
    'frames': frames,
    'regions': regions,
    'annotated': np.ones((B, T), bool),
    'inpainted': inpainted,
    'label': rng.integers(0, 3, B, np.int32),
    'seed': np.arange(B, dtype=np.uint32) * 77,
  }


def with_partners(batch):
  names = ('frames', 'regions', 'annotated', 'inpainted')
  return batch | {f'partner_{name}': np.roll(batch[name], 1, axis=0) for name in names}


def shown(batch, text):
  return np.asarray(evaluation_input(jax.random.key(0), batch, parse(text)))


def normalized(pixels):
  return np.array(normalize(jnp.asarray(pixels, jnp.float32) / 255))


@pytest.mark.parametrize(
  ('text', 'painted'),
  [
    ('person=inpaint', ()),
    ('background=white,person=inpaint', ('background',)),
    ('object=white,person=inpaint', ('object',)),
    ('background=white,object=black,person=inpaint', ('background', 'object')),
    ('person=inpaint,person_box=white', ('box',)),
    # The place of a person is above that of an object, whatever is painted over people.
    ('object=white!,person=inpaint', ('object',)),
  ],
)
def test_other_parts_are_painted_over_inpainted_frames(batch, text, painted):
  """Also where the inpainter has changed a rim around the people."""
  regions = batch['regions']
  person, box = (regions & PERSON) != 0, (regions & PERSON_BOX) != 0
  object_ = ((regions & OBJECT) != 0) & ~person
  expected = normalized(batch['inpainted'])
  if 'background' in painted:
    expected[~person & ~object_] = WHITE
  if 'object' in painted:
    expected[object_] = BLACK if 'black' in text else WHITE
  if 'box' in painted:
    expected[box] = WHITE
  np.testing.assert_allclose(shown(batch, text), expected, atol=1e-5)
  # Frames that are not annotated stay as they are.
  batch['annotated'][2, 1] = False
  expected[2, 1] = normalized(batch['frames'])[2, 1]
  np.testing.assert_allclose(shown(batch, text), expected, atol=1e-5)


def test_a_share_of_the_clips_is_inpainted_entirely_or_not_at_all(batch):
  many = {name: np.concatenate([array] * 30) for name, array in batch.items()}
  many['seed'] = np.arange(30 * B, dtype=np.uint32)
  out = shown(many, 'object=white@0.5!,person=inpaint@0.3')
  person = (many['regions'] & PERSON) != 0
  inpainted, frames = normalized(many['inpainted']), normalized(many['frames'])
  counts = []
  for b in range(30 * B):
    outside = ~((many['regions'][b] & OBJECT) != 0)
    options = [np.allclose(out[b][outside], x[b][outside], atol=1e-5) for x in (inpainted, frames)]
    assert sum(options) == 1
    if options[0]:
      np.testing.assert_allclose(out[b][person[b]], inpainted[b][person[b]], atol=1e-5)
    counts.append(options[0])
  assert abs(np.mean(counts) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(counts))


def test_swapped_backgrounds_are_inpainted_frames_without_objects(batch):
  """The partner's people are gone with all that the inpainter removed; its objects are filled."""
  batch = with_partners(batch)
  filled = {name: array for name, array in batch.items() if 'inpainted' not in name}
  out, filled = shown(batch, 'background=swap'), shown(filled, 'background=swap')
  both = shown(batch, 'background=swap,person=inpaint')
  for b in range(B):
    own, other = batch['regions'][b], batch['partner_regions'][b]
    # Figures are moved by the distance of their columns: b to b - 1, or 0 to 5.
    moved = np.roll(own, -1 if b else 5, axis=2)
    figure, person = (moved & (PERSON | OBJECT)) != 0, (moved & PERSON) != 0
    figures = np.roll(normalized(batch['frames'][b]), -1 if b else 5, axis=2)
    scene = np.asarray(
      empty_scene(normalized(batch['partner_inpainted'][b]), jnp.asarray(other & OBJECT))
    )
    expected = np.where(figure[..., None], figures, scene)
    np.testing.assert_allclose(out[b], expected, atol=1e-5)
    # What is behind the moved people is the scene.
    expected = np.where((figure & ~person)[..., None], figures, scene)
    np.testing.assert_allclose(both[b], expected, atol=1e-5)
    # Push-pull would have left the rim that the inpainter has changed.
    rim = (batch['partner_inpainted'][b] != batch['partner_frames'][b]).any(-1) & ~figure
    assert (np.abs(out[b] - filled[b]).max(-1) > 1e-3)[rim].mean() > 0.5


def test_effects_blend_inpainted_frames_as_the_frames(batch):
  """With equal streams, nothing is inpainted; a still frame of other pixels gets no people."""
  same = batch | {'inpainted': batch['frames']}
  for text in ('be', 'stillmix', 'freeze'):
    run = functools.partial(_train, Augmentation(still_share=(2.0, 2.0)))
    plain, inpainted = run(same, text), run(same, f'{text},person=inpaint')
    np.testing.assert_allclose(inpainted, plain, atol=1e-5)
    assert not np.allclose(plain, normalized(batch['frames']), atol=1e-2)
  still = _train(Augmentation(), batch, 'be,person=inpaint')
  replaced = _train(Augmentation(), batch | {'frames': batch['inpainted']}, 'be')
  np.testing.assert_allclose(still, replaced, atol=1e-5)


def _train(augmentation, batch, text):
  key, mirrored = jax.random.key(1), np.array([1, 0, 2])
  return np.asarray(training_input(key, batch, augmentation, mirrored, parse(text)).video)


@pytest.mark.parametrize(
  'changes',
  [
    {'flip': 0.5},
    {'jitter': 0.8},
    {'greyscale': 0.5},
    {'mixup': 0.8},
    {'cutmix': 1.0},
    {'flip': 0.5, 'jitter': 0.8, 'greyscale': 0.2, 'mixup': 0.8, 'cutmix': 1.0},
  ],
)
def test_both_streams_are_augmented_with_the_same_numbers(batch, changes):
  """A pixel that the inpainter left alone is the same pixel afterwards."""
  augmentation = Augmentation(**changes)
  plain = _train(augmentation, batch, 'none')
  inpainted = _train(augmentation, batch, 'person=inpaint')
  equal = np.abs(plain - inpainted).max(-1) < 1e-5
  holes = (batch['inpainted'] != batch['frames']).any(-1)
  pairs = holes | holes[::-1] if set(changes) & {'mixup', 'cutmix'} else holes
  mirrored = pairs | pairs[..., ::-1] if 'flip' in changes else pairs
  assert equal[~mirrored].all()
  assert not equal[pairs].all()
  assert not np.allclose(plain, normalized(batch['frames']), atol=1e-2)


def test_inpainted_pixels_are_augmented_as_if_they_were_the_frames(batch):
  """For changes that depend on no other pixel."""
  augmentation = Augmentation(flip=0.5, jitter=0.8, contrast=0.0, greyscale=0.2, mixup=0.8)
  replaced = _train(augmentation, batch | {'frames': batch['inpainted']}, 'none')
  np.testing.assert_allclose(_train(augmentation, batch, 'person=inpaint'), replaced, atol=1e-5)


@pytest.mark.parametrize('text', ['person=inpaint@0.5', 'background=swap,person=inpaint'])
def test_results_do_not_depend_on_devices(batch, text):
  batch = with_partners(batch)
  expected = shown(batch, text)
  mesh = jax.make_mesh((2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
  np.testing.assert_allclose(shown(placed, text), expected, atol=1e-6)
  some = {name: array[[4, 1]] for name, array in batch.items()}
  np.testing.assert_allclose(shown(some, text), expected[[4, 1]], atol=1e-6)
