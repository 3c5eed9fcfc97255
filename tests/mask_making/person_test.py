"""The maker of people's masks, over clips of different sizes and lengths."""

import json
import pickle

import numpy as np
import pytest

pytest.importorskip('torchvision')
pytest.importorskip('transformers')

from tests.mask_making import tiny_models  # noqa: E402
from tools import benchmark  # noqa: E402
from zsar_jax.data import records  # noqa: E402
from zsar_jax.datasets.video import VideoFacts, make_thumbnail  # noqa: E402
from zsar_jax.mask_making.maker import MakerClip, StoredFrames  # noqa: E402
from zsar_jax.mask_making.person import PersonSpec  # noqa: E402
from zsar_jax.recipes.regions import PERSON  # noqa: E402


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tiny_models.rf_detr(tmp_path_factory.mktemp('models') / 'tiny')


def make_clip(name, count, height, width, seed):
  rng = np.random.default_rng(seed)
  jpegs = list(records.encode_frames(rng.integers(0, 256, (count, height, width, 3), np.uint8)))
  frames = StoredFrames(jpegs)
  facts = VideoFacts(
    num_frames=count,
    kept=np.arange(count),
    height=height,
    width=width,
    source_height=height,
    source_width=width,
    thumbnails=np.stack([make_thumbnail(frame) for frame in frames]),
  )
  return MakerClip(name=name, frames=frames, facts=facts, fps=8.0)


@pytest.fixture(scope='module')
def clips():
  sizes = [(3, 60, 90), (1, 72, 50), (5, 60, 90)]
  return [make_clip(f'clip{n}', *size, seed=n) for n, size in enumerate(sizes)]


def test_makes_the_masks_of_all_frames_in_order(folder, clips):
  maker = PersonSpec(str(folder), threshold=0.8, batch_frames=4).open()
  assert maker.regions == ('person',)
  masks = list(maker.make(clips))
  frames = [frame for clip in clips for frame in clip.frames]
  assert len(masks) == len(frames) == 9
  for start in range(0, 9, 4):  # Batches of 4 frames, whatever their clips.
    expected = maker._segmenter(frames[start : start + 4])
    for mask, people in zip(masks[start : start + 4], expected, strict=True):
      assert mask.plane.dtype == np.uint8
      np.testing.assert_array_equal(mask.plane, np.where(people.mask, PERSON, 0))
      assert mask.people == len(people.scores)
      np.testing.assert_equal(mask.score, min(people.scores, default=np.nan))
  assert {mask.people for mask in masks} > {0}  # Some frames have people, and some have none.


def test_masks_depend_on_the_given_clips_alone(folder, clips):
  spec = pickle.loads(pickle.dumps(PersonSpec(str(folder), batch_frames=4)))
  first, second = spec.open(), spec.open()
  list(first.make(clips[:1]))
  for mask, again in zip(first.make(clips[1:]), second.make(clips[1:]), strict=True):
    np.testing.assert_equal(vars(mask), vars(again))


def test_a_frame_without_people_is_empty(folder, clips):
  for mask in PersonSpec(str(folder), threshold=1.0).open().make(clips):
    assert not mask.plane.any()
    assert mask.people == 0
    assert np.isnan(mask.score)


def test_provenance(folder):
  spec = PersonSpec(str(folder), threshold=0.25)
  assert spec.uses_device
  assert spec.batch_frames == 32
  provenance = spec.open().provenance
  assert provenance['maker'] == 'person'
  assert provenance['about'] == 'people segmented in each frame by tiny'
  assert provenance['threshold'] == 0.25
  assert provenance['licenses']['code'] == 'Apache-2.0'
  assert provenance['revision'].startswith('sha256:')


def test_the_benchmark_compares_the_program_with_its_network(folder, capfd):
  benchmark.main(
    ['masks', f'--person={folder}', '--videos=2', '--length=12', '--frames=4', '--repeats=1']
    + ['--workers=1']
  )
  network, program, ratio = map(json.loads, capfd.readouterr().out.splitlines())
  assert (network['frames'], program['frames']) == (8, 8)
  expected = program['frames_per_second'] / network['frames_per_second']
  assert ratio['ratio'] == pytest.approx(expected, rel=0.01)
