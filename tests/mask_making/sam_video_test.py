"""Tests of zsar_jax.mask_making.sam_video, and of tracking with it."""

import numpy as np
import pytest

pytest.importorskip('torchvision')
transformers = pytest.importorskip('transformers')

import torch  # noqa: E402

from tests.mask_making import tiny_models  # noqa: E402
from tests.mask_making.box_clips import box_clip, person, thing  # noqa: E402
from tests.mask_making.tiny_sam import save_sam2, save_sam2_video  # noqa: E402
from zsar_jax.errors import UserError  # noqa: E402
from zsar_jax.mask_making import tracking  # noqa: E402
from zsar_jax.mask_making.person import PersonSpec  # noqa: E402
from zsar_jax.mask_making.sam_video import SamSession, load_tracker  # noqa: E402
from zsar_jax.mask_making.tracking import TrackSpec  # noqa: E402
from zsar_jax.recipes.regions import OBJECT, PERSON  # noqa: E402

_SIZE = (48, 37)
_BOXES = {3: (3, 4, 20, 30), 5: (10.5, 10, 30, 40)}


def _frames(count):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (*_SIZE, 3), np.uint8) for _ in range(count)]


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  return str(save_sam2_video(tmp_path_factory.mktemp('sam')))


@pytest.fixture(name='loaded')
def _loaded(folder):
  return load_tracker(folder, flag='--track', device='cpu')


def _transformers_tracks(loaded, frames, seed):
  """Returns {frame: bool[N, H, W]} and the scores by transformers' own propagation."""
  model, processor = loaded.model, loaded.processor
  session = processor.init_video_session(video=[np.stack(frames)])
  processor.add_inputs_to_inference_session(
    session, seed, list(_BOXES), input_boxes=[[list(box) for box in _BOXES.values()]]
  )
  masks, scores = {}, {}
  with torch.inference_mode():
    model(inference_session=session, frame_idx=seed)
    for reverse in (False, True):
      for output in model.propagate_in_video_iterator(session, seed, reverse=reverse):
        (mask,) = processor.post_process_masks([output.pred_masks], [_SIZE])
        masks[output.frame_idx] = mask[:, 0].numpy()
        scores[output.frame_idx] = torch.sigmoid(output.object_score_logits).flatten().tolist()
  return masks, scores


def test_tracks_are_those_of_transformers(loaded):
  frames = _frames(6)
  session = SamSession(loaded, frames)
  tracks = {2: session.add_boxes(2, _BOXES)}
  tracks |= {frame: session.track(frame) for frame in (3, 4, 5)}
  tracks |= {frame: session.track(frame, reverse=True) for frame in (1, 0)}
  masks, scores = _transformers_tracks(loaded, frames, 2)
  assert sorted(masks) == sorted(tracks)
  for frame, objects in tracks.items():
    assert list(objects) == list(_BOXES)
    for tracked, mask, score in zip(objects.values(), masks[frame], scores[frame], strict=True):
      np.testing.assert_array_equal(tracked.mask, mask)
      assert tracked.score == pytest.approx(score)
  shares = {tracked.mask.mean() for objects in tracks.values() for tracked in objects.values()}
  assert len(shares) > 8
  assert 0.1 < min(shares) < max(shares) < 0.9


def test_prompts_in_several_frames_and_masks(loaded):
  frames = _frames(4)
  session = SamSession(loaded, frames)
  first = session.add_boxes(0, {0: _BOXES[3]})
  mask = np.zeros(_SIZE, bool)
  mask[8:40, 8:30] = True
  both = session.add_masks(1, {1: mask})
  assert [list(first), list(both)] == [[0], [0, 1]]
  # What is prompted by a mask has this mask, but for the size of the network's masks.
  assert (both[1].mask != mask).mean() < 0.1
  assert both[1].score > 0.99
  # A second prompt leaves the first object's track as it is.
  alone = SamSession(loaded, frames)
  alone.add_boxes(0, {0: _BOXES[3]})
  for frame in (1, 2):
    expected = alone.track(frame)[0]
    found = both if frame == 1 else session.track(frame)
    np.testing.assert_array_equal(found[0].mask, expected.mask)
  # Large outputs are not kept.
  for outputs in session._session.output_dict_per_obj.values():
    for by_frame in outputs.values():
      assert by_frame.keys() <= {0, 1, 2}
      assert all('high_res_masks' not in output for output in by_frame.values())


def test_hidden_objects_are_not_drawn(loaded):
  session = SamSession(loaded, _frames(2))
  assert session.add_boxes(0, _BOXES)[3].mask.any()
  with torch.no_grad():
    loaded.model.mask_decoder.pred_obj_score_head.proj_out.bias.sub_(100)
  hidden = session.track(1)
  assert not any(tracked.mask.any() for tracked in hidden.values())
  assert all(tracked.score < 0.01 for tracked in hidden.values())


def test_checkpoints_of_the_image_model_are_refused(tmp_path):
  with pytest.raises(UserError, match='--track=.*type sam2 .* give one of type sam2_video'):
    load_tracker(str(save_sam2(tmp_path)), flag='--track', device='cpu')


@pytest.mark.parametrize('length', [1, 2, 8])
def test_maker(folder, monkeypatch, length):
  monkeypatch.setattr(tracking, '_WINDOW', 3)
  boxes = [None] * length
  boxes[length // 2] = [person(*_BOXES[3]), thing(*_BOXES[5])]
  maker = TrackSpec(folder, regions=('person', 'object'), device='cpu').open()
  assert maker.regions == ('person', 'object')
  assert maker.provenance['model_type'] == 'sam2_video'
  clip = box_clip(_frames(length), boxes)
  masks = list(maker.make([clip, clip]))
  assert len(masks) == 2 * length
  for mask, again in zip(masks[:length], masks[length:], strict=True):
    assert np.bitwise_or.reduce(mask.plane, axis=None) == PERSON | OBJECT
    assert (mask.people, 0.5 < mask.score <= 1) == (1, True)
    np.testing.assert_array_equal(mask.plane, again.plane)


def test_maker_with_a_segmenter_of_people(folder, tmp_path):
  segmenter = PersonSpec(str(tiny_models.rf_detr(tmp_path)), 0.3, batch_frames=2, device='cpu')
  maker = TrackSpec(folder, segmenter, device='cpu').open()
  assert maker.provenance['detector']['model_type'] == 'rf_detr'
  assert maker.provenance['detector']['threshold'] == 0.3
  # What differs between machines does not identify the masks.
  assert 'notes' not in maker.provenance['detector']
  clip = box_clip(_frames(6))
  masks = list(maker.make([clip]))
  people = [mask.people for mask in segmenter.open().make([clip])]
  assert max(people) > 0
  assert max(mask.people for mask in masks) > 0
  assert {mask.plane.shape for mask in masks} == {_SIZE}
