"""Frames without people, by Telea's method and by programs of the user's."""

import pickle
import re
import shlex
import sys

import cv2
import numpy as np
import pytest

from tests.mask_making.drawn_clips import make_clip, textured_scene
from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.errors import UserError
from zsar_jax.mask_making.inpainting import open_inpainter
from zsar_jax.ops import backgrounds
from zsar_jax.recipes.regions import OBJECT, PERSON

HEIGHT, WIDTH = 120, 165

PROGRAM = """
import os, sys
import cv2
import numpy as np
frames, masks, out = sys.argv[1:]
for name in sorted(os.listdir(frames)):
  frame = cv2.imread(os.path.join(frames, name))
  mask = cv2.imread(os.path.join(masks, name), cv2.IMREAD_UNCHANGED)
  {save}
"""


def _command(folder, save):
  path = folder / 'program.py'
  path.write_text(PROGRAM.format(save=save))
  return f'{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{frames}} {{masks}} {{out}}'


def _plane(bit=PERSON):
  plane = np.zeros((HEIGHT, WIDTH), np.uint8)
  cv2.ellipse(plane, (70, 50), (14, 33), 20, 0, 360, bit, -1)
  plane[HEIGHT - 9 :, WIDTH - 5 :] = bit  # A person at the edge.
  return plane


def _encoded(planes):
  return [b'' if plane is None else records.encode_plane(plane) for plane in planes]


def _inpaint(method, frames, planes, quality=95):
  clip = make_clip(frames, kept=3 * np.arange(len(frames)), quality=quality)
  inpainter = pickle.loads(pickle.dumps(open_inpainter(method, quality)))
  return clip, list(inpainter.inpaint(clip, _encoded(planes)))


def _distance(plane):
  """The distance of each pixel from the person, along rows and columns together."""
  outside = (plane & PERSON == 0).astype(np.uint8)
  return cv2.distanceTransform(outside, cv2.DIST_L1, 3)


def test_telea_replaces_people_and_nothing_else():
  scene = cv2.GaussianBlur(textured_scene(1, HEIGHT, WIDTH), (0, 0), 6)
  plane = _plane()
  shown = scene.copy()
  shown[plane != 0] = (255, 0, 0)
  clip, (jpeg,) = _inpaint('telea', shown[None], [plane])
  inpainted = records.decode_frame(jpeg)
  near = _distance(plane) <= 2
  error = np.abs(inpainted.astype(int) - scene).mean(-1)
  assert error[near].mean() < 8
  assert error[near].max() < 60  # A pixel of the person differs by 120 and more.
  assert np.abs(shown.astype(int) - scene).mean(-1)[plane != 0].min() > 100
  # JPEG codes blocks of 16 x 16 for themselves, and interpolates color beyond them by a pixel.
  (again,) = records.encode_frames([clip.frames[0]], 95)
  far = _distance(plane) > 2 + 2 * 17
  np.testing.assert_array_equal(inpainted[far], records.decode_frame(again)[far])


@pytest.mark.parametrize('height', [24, 120, 240, 480])
def test_people_are_widened_as_in_action_swap(tmp_path, height):
  plane = cv2.resize(_plane(), (WIDTH, height), interpolation=cv2.INTER_NEAREST)
  # Grey frames and the quality of 100 lose almost nothing.
  frame = np.full((1, height, WIDTH, 3), 50, np.uint8)
  command = _command(tmp_path, 'cv2.imwrite(os.path.join(out, name), frame + 150)')
  _, (jpeg,) = _inpaint(command, frame, [plane], quality=100)
  changed = records.decode_frame(jpeg)[..., 0] > 125
  rim = max(1, round(4 / 240 * height))
  widened = np.array(backgrounds.widen(plane[None] == PERSON, rim)[0])
  np.testing.assert_array_equal(changed, widened)


def test_frames_without_people_and_unknown_frames_have_no_copy(tmp_path):
  frames = np.stack([textured_scene(seed, HEIGHT, WIDTH) for seed in range(4)])
  planes = [_plane(), None, _plane(OBJECT), _plane(PERSON | OBJECT)]
  fill = 'cv2.imwrite(os.path.join(out, name), 255 - frame)'
  for method in ('telea', _command(tmp_path, fill)):
    _, jpegs = _inpaint(method, frames, planes)
    assert [bool(jpeg) for jpeg in jpegs] == [True, False, False, True]
  # A program is not run in vain.
  _, jpegs = _inpaint(_command(tmp_path, 'sys.exit(1)'), frames, [None, planes[2]] * 2)
  assert jpegs == [b''] * 4


def test_telea_without_a_known_pixel_is_plain():
  frame = textured_scene(0, HEIGHT, WIDTH)
  plane = np.full((HEIGHT, WIDTH), PERSON, np.uint8)
  plane[HEIGHT // 2, :3] = 0  # Closed by the widening.
  _, (jpeg,) = _inpaint('telea', frame[None], [plane])
  inpainted = records.decode_frame(jpeg)
  assert np.abs(inpainted - 255 * np.array([0.481, 0.458, 0.408])).max() < 3


def test_programs_get_frames_and_masks_and_only_holes_are_used(tmp_path):
  frames = np.stack([textured_scene(seed, HEIGHT, WIDTH) for seed in range(3)])
  planes = [_plane(), None, _plane()]
  save = (
    'assert set(np.unique(mask)) <= {0, 255} and mask.shape == frame.shape[:2];'
    'assert (name == "000003.png") == (not mask.any());'
    'cv2.imwrite(os.path.join(out, name), np.where(mask[..., None] > 0, 255 - frame, 0))'
  )
  clip, jpegs = _inpaint(_command(tmp_path, save), frames, planes)
  for index in (0, 2):
    hole = _distance(planes[index]) <= 2
    before = clip.frames[index]
    (expected,) = records.encode_frames([np.where(hole[..., None], 255 - before, before)], 95)
    assert jpegs[index] == expected


@pytest.mark.parametrize(
  ('save', 'reason'),
  [
    ('sys.exit("out of memory")', 'the program of --inpaint ended with status 1: out of memory'),
    ('name != "000003.png" and cv2.imwrite(os.path.join(out, name), frame)', 'no image for 000003'),
    ('cv2.imwrite(os.path.join(out, name), frame[1:])', '^.out./000000.png is 165 x 119, and'),
    ('cv2.imwrite(os.path.join(out, name), mask)', 'mode L; save it as RGB'),
    ('cv2.imwrite(os.path.join(out, name), frame)', 'left the people as they are; masks are 255'),
    ('cv2.imwrite(os.path.join(out, name.replace("png", "jpg")), frame)', 'left the people'),
    (
      'cv2.imwrite(os.path.join(out, name), np.where(mask[..., None] == 0, 0, frame))',
      'left the people',
    ),
  ],
)
def test_faults_of_programs_are_errors_of_the_clip(tmp_path, save, reason):
  frames = np.stack([textured_scene(seed, HEIGHT, WIDTH) for seed in range(3)])
  with pytest.raises(ClipError) as error:
    _inpaint(_command(tmp_path, save), frames, [_plane()] * 3)
  assert re.search(reason, error.value.reason)


@pytest.mark.parametrize(
  ('method', 'reason'),
  [
    ('tela', "'tela' is neither telea nor a command"),
    ('inpaint {frames} {masks}', 'lacks {out}'),
    ('no-such-program {frames} {masks} {out}', 'no program'),
  ],
)
def test_methods_that_do_not_exist_are_refused(method, reason):
  with pytest.raises(UserError, match='^--inpaint: .*' + reason):
    open_inpainter(method, 90)


def test_parameters_tell_methods_apart(tmp_path):
  command = _command(tmp_path, 'pass')
  parameters = [open_inpainter(*case).parameters for case in (('telea', 90), (command, 90))]
  assert [p['method'] for p in parameters] == ['telea', 'command']
  assert parameters[1]['command'] == command
