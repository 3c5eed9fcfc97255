"""Masks of programs of the user's: small Python programs, good ones and broken ones."""

import os
import pathlib
import pickle
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from tests.mask_making.drawn_clips import make_clip, textured_scene
from zsar_jax.data.records import ClipError
from zsar_jax.errors import UserError
from zsar_jax.mask_making.command import CommandSpec
from zsar_jax.recipes.regions import OBJECT, PERSON

NUMBERS = [3, 40, 123]

# Each writes what `mask` returns for a frame.
PROGRAM = """
import os, sys
import cv2
import numpy as np
frames, masks = sys.argv[1:]
def mask(frame):
  return np.where(frame[..., 2] > 128, np.uint8(255), np.uint8(0))
def save(name, image):
  cv2.imwrite(os.path.join(masks, name), image)
for name in sorted(os.listdir(frames)):
  frame = cv2.imread(os.path.join(frames, name))
  image = mask(frame)
  {save}
{end}
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
  """The folder of temporary folders, which has to be empty in the end."""
  folder = tmp_path / 'temporary'
  folder.mkdir()
  monkeypatch.setattr('tempfile.tempdir', str(folder))
  yield folder
  assert list(folder.iterdir()) == []


def _command(folder, save='save(name, image)', end=''):
  path = folder / 'a program.py'
  path.write_text(PROGRAM.format(save=save, end=end))
  return f'{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{frames}} {{masks}}'


def _clip():
  return make_clip(np.stack([textured_scene(seed, 25, 37) for seed in range(3)]), NUMBERS)


def _make(command, clip=None, **options):
  maker = CommandSpec(command, **options).open()
  return list(maker.make([clip or _clip()]))


@pytest.mark.parametrize(
  ('save', 'region', 'bit'),
  [
    ('save(name, image)', 'person', PERSON),
    ('save(name, np.stack([image // 255 * 129] * 3, 2))', 'object', OBJECT),
    (
      'cv2.imwrite(os.path.join(masks, name), image, [cv2.IMWRITE_PNG_BILEVEL, 1])',
      'person',
      PERSON,
    ),
  ],
)
def test_masks_are_above_128(tmp_path, save, region, bit):
  clip = _clip()
  masks = _make(_command(tmp_path, save), clip, region=region)
  for mask, frame in zip(masks, clip.frames, strict=True):
    np.testing.assert_array_equal(mask.plane, np.where(frame[..., 0] > 128, bit, 0))


def test_masks_may_be_jpegs_and_other_files_are_ignored(tmp_path):
  end = 'open(os.path.join(masks, "log.txt"), "w"); save(".hidden.png", image)'
  save = 'save(name.replace(".png", ".JPG"), np.full_like(image, 255 * (name == "000040.png")))'
  masks = _make(_command(tmp_path, save, end))
  assert [mask.plane.mean() for mask in masks] == [0, 1, 0]


def test_frames_are_named_by_their_number_and_clips_made_one_by_one(tmp_path):
  save = (
    f'save(name, np.full_like(image, 255 * ({NUMBERS[1]} == int(name[:6]) and len(name) == 10)))'
  )
  maker = CommandSpec(_command(tmp_path, save)).open()
  longer = make_clip(np.stack([textured_scene(0, 20, 30)] * 41))
  masks = list(maker.make([_clip(), longer]))
  assert [index for index, mask in enumerate(masks) if mask.plane.all()] == [1, 3 + 40]
  assert masks[3].plane.shape == (20, 30)


def _huge_png(side):
  """A small PNG whose header promises `side` x `side` pixels."""
  header = struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0)

  def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum)

  data = chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + data


@pytest.mark.parametrize(
  ('save', 'end', 'reason'),
  [
    ('pass', 'raise ValueError("no such\\tmodel")', 'status 1: ValueError: no such model$'),
    ('pass', 'sys.exit(3)', 'status 3: its stderr is empty'),
    ('pass', 'os.abort()', 'status 134'),
    (
      'pass',
      'print("x" * 9999 + " end", file=sys.stderr); sys.exit(4)',
      'status 4: x{100,200} ...',
    ),
    ('save(name, image) if "40" in name else None', '', 'no image for 000003, 000123 to .masks.'),
    ('save(name, image)', 'save("1.png", image)', 'wrote 1 to .masks., which are no names'),
    ('save(name, image)', 'save("000003.jpg", image)', '000003.png to .masks. in two formats'),
    ('save(name, image[1:])', '', '^.masks./000003.png is 37 x 24, and the frame 37 x 25'),
    ('save(name, image // 255)', '', '.masks.: no mask has a value above 1, so these are labels'),
    ('save(name, frame)', '', '.masks./000003.png is colored'),
    ('save(name, image.astype(np.uint16))', '', 'mode I;16'),
    ('open(os.path.join(masks, name), "wb")', '', 'is an empty file'),
    ('open(os.path.join(masks, name), "wb").write(b"GIF89a")', '', 'cannot be decoded'),
    ('pass', 'os.rmdir(masks)', 'removed .masks.'),
    ('os.mkdir(os.path.join(masks, name))', '', 'cannot be decoded'),
    (f'open(os.path.join(masks, name), "wb").write({_huge_png(9000)})', '', 'is 9000 x 9000,'),
    (f'open(os.path.join(masks, name), "wb").write({_huge_png(60000)})', '', 'exceeds limit'),
    (
      'import PIL.Image; PIL.Image.fromarray(image // 255).convert("P")'
      '.save(os.path.join(masks, name))',
      '',
      'mode P, whose values are labels and not grey; write 0 outside and 255 inside',
    ),
  ],
)
def test_faults_of_programs_are_errors_of_the_clip(tmp_path, save, end, reason):
  with pytest.raises(ClipError) as error:
    _make(_command(tmp_path, save, end))
  assert re.search(reason, error.value.reason)
  assert '\n' not in error.value.reason


@pytest.mark.parametrize(
  ('command', 'reason'),
  [
    ('segment {frames}', 'lacks {masks}'),
    ('segment {masks} > {frame}', 'lacks {frames}'),
    ("segment '{frames} {masks}", 'is no command line'),
    ('no-such-program {frames} {masks}', "no program 'no-such-program'"),
  ],
)
def test_commands_that_cannot_run_are_refused(command, reason):
  with pytest.raises(UserError, match='^--command: .*' + reason):
    CommandSpec(command).open()


def test_regions_are_shapes():
  with pytest.raises(UserError, match='--region'):
    CommandSpec('segment {frames} {masks}', region='person_box')


def test_no_shell_interprets_the_command(tmp_path):
  command = _command(tmp_path).replace('{masks}', '{masks}; touch ' + str(tmp_path / 'touched'))
  with pytest.raises(ClipError, match='too many values to unpack'):
    _make(command)
  assert not (tmp_path / 'touched').exists()


def test_provenance_and_regions(tmp_path):
  command = _command(tmp_path)
  spec = pickle.loads(pickle.dumps(CommandSpec(command, 'object')))
  assert (spec.uses_device, spec.batch_frames) == (False, 0)
  maker = spec.open()
  assert maker.regions == ('object',)
  assert maker.provenance['command'] == command
  names = ' '.join(map(os.path.basename, shlex.split(command)[:2]))
  assert maker.provenance['about'] == f'masks of the program {names}'


# Makes a mask with a program whose child never ends.
HANGS = """
import signal, subprocess, sys, threading
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell may have ignored it.
from tests.mask_making.drawn_clips import make_clip
from zsar_jax.mask_making.command import CommandSpec
clip = make_clip(np.zeros((1, 16, 16, 3), np.uint8))
command = 'sh -c "sleep 300 & echo $! > $0; wait" ' + sys.argv[1] + ' {frames} {masks}'
list(CommandSpec(command).open().make([clip]))
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_programs_and_their_children_end_with_an_interruption(tmp_path, temporary_folder, number):
  report = tmp_path / 'child'
  process = subprocess.Popen(
    [sys.executable, '-c', HANGS, str(report)],
    env={**os.environ, 'TMPDIR': str(temporary_folder), 'PYTHONPATH': os.pathsep.join(sys.path)},
    stderr=subprocess.DEVNULL,
  )
  _wait_for(lambda: report.exists() and report.read_text().endswith('\n'))
  child = int(report.read_text())
  process.send_signal(number)
  assert process.wait(20) != 0
  _wait_for(lambda: not _runs(child))
  _wait_for(lambda: not list(temporary_folder.iterdir()))


def _runs(pid):
  stat = pathlib.Path(f'/proc/{pid}/stat')
  if not pathlib.Path('/proc').is_dir():
    pytest.skip('processes are listed in /proc on Linux alone')
  try:
    return stat.read_text().rpartition(')')[2].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def _wait_for(condition, seconds=30):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'waited in vain'
    time.sleep(0.05)
