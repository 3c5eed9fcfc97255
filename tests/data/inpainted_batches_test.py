"""Inpainted frames in batches: those of the frames whose planes are taken, for any workers."""

import uuid

import numpy as np
import pytest

from tests.data.pipeline_test import assert_same, take
from tests.inpainted_clips import NO_MASKS, NOBODY, NUM_FRAMES, UNKNOWN, build, write_clips
from tests.toy import build_toy
from zsar_jax.config import default_config
from zsar_jax.data import batch, records
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import evaluation_batches, training_batches
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.recipes.language import parse
from zsar_jax.runtime import sharding
from zsar_jax.storage.paths import as_path
from zsar_jax.training.compilation import batch_shapes

# The full height of a clip, without resizing.
VIEW = View(num_frames=NUM_FRAMES, size=24, centre_crop=1.0)


@pytest.fixture(name='root', scope='module')
def _root(tmp_path_factory):
  root = tmp_path_factory.mktemp('scenes')
  write_clips(root, count=7)
  build(root)
  return root


def open_subset(root):
  return select(open_dataset(root / 'data', 'scenes', 'train'), 'all', 'nearest', '')


@pytest.mark.parametrize('unannotated', ['nearest', 'leave'])
def test_a_frame_takes_plane_and_inpainted_frame_of_the_same_frame(root, unannotated):
  subset = open_subset(root)
  view = View(**vars(VIEW) | {'unannotated': unannotated})
  for position in range(len(subset)):
    clip = ClipLoader(subset, view, inpainted=True).evaluation_clip(position)
    record = subset.dataset[position]
    expected = clip['frames'].copy()
    if subset.clip_id(position) != NO_MASKS:
      for t in range(NUM_FRAMES):
        # Of two annotated frames that are as near, the earlier one.
        source = t - 1 if t == UNKNOWN and unannotated == 'nearest' else t
        if source not in (NOBODY, UNKNOWN):
          expected[t] = records.decode_frame(record['inpainted'][source])[:, 6:30]
      assert not np.array_equal(expected, clip['frames'])
    np.testing.assert_array_equal(clip['inpainted'], expected)
    plain = ClipLoader(subset, view).evaluation_clip(position)
    assert clip.keys() - plain.keys() == {'inpainted'}
    for name, value in plain.items():
      np.testing.assert_array_equal(value, clip[name])


def test_inpainted_frames_are_cropped_as_the_frames(root):
  """The scene is blue, people are red, and inpainted pixels yellow."""
  view = View(num_frames=NUM_FRAMES, size=20)
  loader = ClipLoader(open_subset(root), view, inpainted=True)
  for clips in take(training_batches(loader, 4, 0, 0, 0), 4):
    inpainted = (clips['inpainted'].astype(int) - clips['frames'])[..., 1] > 100
    people = (clips['regions'] & 1) != 0
    assert people.any()
    # JPEGs and resizing blur edges, and an object may be behind a person.
    assert inpainted[people].mean() > 0.9
    assert inpainted[~people].mean() < 0.2


def test_batches_are_the_same_for_any_number_of_workers(root):
  subset = open_subset(root)
  loader = ClipLoader(subset, View(num_frames=3, size=16), inpainted=True)
  reference = take(training_batches(loader, 4, 7, 0, 0), 6)
  assert all(batch['inpainted'].shape == (4, 3, 16, 16, 3) for batch in reference)
  assert_same(take(training_batches(loader, 4, 7, 0, 2), 6), reference)
  without = take(training_batches(ClipLoader(subset, loader.view), 4, 7, 0, 0), 6)
  assert_same([{k: v for k, v in b.items() if k != 'inpainted'} for b in reference], without)

  partners = np.array([*range(1, len(subset)), -1])
  loaders = {
    (own, theirs): list(
      evaluation_batches(
        ClipLoader(subset, loader.view, inpainted=own),
        3,
        2 if own and theirs else 0,
        partners=partners,
        partners_inpainted=theirs,
      )
    )
    for own in (False, True)
    for theirs in (False, True)
  }
  for (own, theirs), batches in loaders.items():
    assert all(clips.keys() == batch.fields(False, True, own, theirs).keys() for clips in batches)
    complete = loaders[True, True]
    assert_same(
      batches, [{k: both[k] for k in clips} for clips, both in zip(batches, complete, strict=True)]
    )
  joined = {k: np.concatenate([clips[k] for clips in complete]) for k in complete[0]}
  np.testing.assert_array_equal(joined['partner_inpainted'][:6], joined['inpainted'][1:7])


@pytest.mark.parametrize('training', [True, False])
def test_shapes_of_programs_are_those_of_the_pipeline(root, training):
  config = default_config()
  config.view.num_frames, config.view.size = 2, 16
  mesh = sharding.make_mesh(config.mesh)
  loader = ClipLoader(open_subset(root), View.from_config(config), inpainted=True)
  partners = np.zeros(len(loader.subset), np.int32)
  made = (
    training_batches(loader, 8, 0, 0, 0)
    if training
    else evaluation_batches(loader, 8, 0, partners=partners, partners_inpainted=True)
  )
  (clips,) = take(made, 1)
  shapes = batch_shapes(config, 8, mesh, training, not training, True, not training)
  assert clips.keys() == shapes.keys() - ({'stop'} if training else set())
  for name, array in clips.items():
    assert (array.shape, array.dtype) == (shapes[name].shape, shapes[name].dtype), name


def test_recipes_that_need_what_is_not_stored(root, tmp_path):
  toy = select(open_dataset(build_toy(tmp_path), 'toy', 'train'), 'all', 'nearest', '')
  with pytest.raises(UserError, match='toy has none; make them with zsar make-masks --inpaint'):
    toy.check_recipe(parse('background=normal,person=inpaint@0.5'), 'config.recipe')
  toy.check_recipe(parse('background=swap'), '')
  subset = open_subset(root)
  subset.check_recipe(parse('person=inpaint'), '')
  shown = [
    [clips.shows_inpainted(parse(text)) for text in ('none', 'person=mean', 'background=swap')]
    for clips in (toy, subset)
  ]
  assert shown == [[False, False, False], [False, False, True]]
  assert subset.shows_inpainted(parse('person=inpaint'))


def test_damaged_inpainted_frames_are_described(root):
  subset = open_subset(root)

  clip = subset.frames(0)
  broken = clip.inpainted(0)[:-9]
  loader = ClipLoader(subset, VIEW, inpainted=True)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(type(clip), 'inpainted', lambda self, number: broken)
    with pytest.raises(UserError, match='not a complete JPEG'):
      loader.evaluation_clip(0)
    assert 'not a complete JPEG' in loader.describe_damage(0)


def test_batches_from_a_bucket_are_the_same(root):
  bucket = as_path(f'memory://{uuid.uuid4().hex}/data', '')
  bucket.fs.put(str(root / 'data'), bucket.path, recursive=True)
  local = ClipLoader(open_subset(root), VIEW, inpainted=True)
  remote = ClipLoader(open_subset(bucket.parent), VIEW, inpainted=True)
  expected = take(training_batches(local, 4, 7, 0, 0), 6)
  assert_same(take(training_batches(remote, 4, 7, 0, 0), 6), expected)
  partners = np.arange(len(local.subset))[::-1].astype(np.int32)
  batches = [
    list(evaluation_batches(clips, 4, 0, partners=partners, partners_inpainted=True))
    for clips in (local, remote)
  ]
  assert_same(*batches)
