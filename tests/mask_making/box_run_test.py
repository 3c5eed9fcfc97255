"""From a file of boxes through a run to a data set: which frames, and what is absent from them."""

import json

import numpy as np
import pytest

from tests.datasets.video_test import write_video
from tests.mask_making.box_maker_test import Bright
from tools import build_dataset
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.masks.box_sources import open_boxes
from zsar_jax.datasets.video import Storage
from zsar_jax.mask_making.box_maker import BoxesSpec, BoxMaker
from zsar_jax.mask_making.mask_run import MaskRun
from zsar_jax.mask_making.refinement import Refinement
from zsar_jax.mask_making.work import list_videos, with_boxes
from zsar_jax.recipes.regions import OBJECT, PERSON

# The right half of each frame is bright. The boxes are in pixels of frames 240 high.
_LEVELS = [200 + n for n in range(20)]
_HAND = {'standard_category': 'hand', 'box2d': {'x1': 160, 'y1': 0, 'x2': 320, 'y2': 120}}
_THING = {'standard_category': '0000', 'box2d': {'x1': 160, 'y1': 120, 'x2': 320, 'y2': 240}}


class _Spec(BoxesSpec):
  def open(self):
    return BoxMaker(self, Bright())


@pytest.fixture(name='made')
def _made(tmp_path):
  write_video(tmp_path / 'videos' / 'pull' / '1.mp4', _LEVELS)
  frames = [
    {'name': '1/0005.jpg', 'labels': [_HAND, _THING]},
    {'name': '1/0013.jpg', 'labels': [_THING]},
  ]
  (tmp_path / 'boxes.json').write_text(json.dumps({'1': frames}))
  source = open_boxes([str(tmp_path / 'boxes.json')], {'1'})
  works = with_boxes(list_videos(str(tmp_path / 'videos')), source)
  spec, out = _Spec('unused', source.region_names), tmp_path / 'masks'
  MaskRun(out, spec, Storage(keep='segments:2'), Refinement(dilate=0), None, {}, '').make(works)
  return out


def test_frames_with_boxes_are_kept_and_absent_regions_known(made):
  clip = made_files.read_clip(made_files.clip_path(made, 'pull/1'))
  # Without boxes, it would be frames 5 and 15.
  assert Storage(keep='segments:2').select_frames(len(_LEVELS)).tolist() == [5, 15]
  assert clip.numbers.tolist() == [4, 12]
  assert [frame.absent for frame in clip.frames] == [0, PERSON]
  planes = [made_files.decode_plane(clip, index) for index in range(2)]
  # Away from edges, which the video's compression blurs, and boxes reach a little beyond.
  assert np.unique(planes[0][4:18, 36:60]).tolist() == [PERSON]
  assert [np.unique(plane[30:44, 36:60]).tolist() for plane in planes] == [[OBJECT], [OBJECT]]
  assert not planes[1][4:18].any()
  assert not any(plane[:, :28].any() for plane in planes)


def test_a_build_does_not_miss_what_boxes_call_absent(made, tmp_path):
  build_dataset.main(
    ['--dataset=folder', f'--videos={tmp_path / "videos"}', f'--masks=made:{made}', '--workers=0']
    + ['--keep=segments:2', f'--out={tmp_path / "data"}']
  )
  (path,) = (tmp_path / 'data').rglob('build_report.json')
  report = json.loads(path.read_text())['train']
  assert report['regions']['person']['empty'] == 0.5
  assert 'person empty' not in report['gates']
  made_gates = json.loads((made / 'report.json').read_text())['gates']
  values = [
    {gate: list(clips.values()) for gate, clips in gates.items()}
    for gates in (made_gates, report['gates'])
  ]
  assert values[0] == values[1]
