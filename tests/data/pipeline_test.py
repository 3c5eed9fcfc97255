"""Batches have every clip once, and are the same for any number of workers and hosts."""

import dataclasses
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.toy import CLASSES, build_toy
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.frame_table import ClipFrames
from zsar_jax.data.pipeline import evaluation_batches, training_batches
from zsar_jax.data.subset import select
from zsar_jax.data.view import EvaluationViews, View
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX

ROOT = pathlib.Path(__file__).parents[2]
VIEW = View(num_frames=3, size=8)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def loader(data_dir, split='train', classes='all', view=VIEW):
  dataset = open_dataset(data_dir, 'toy', split)
  return ClipLoader(select(dataset, classes, view.unannotated, 'classes'), view)


def take(batches, count):
  try:
    return [next(batches) for _ in range(count)]
  finally:
    batches.close()


def assert_same(first, second):
  for batch, other in zip(first, second, strict=True):
    jax.tree.map(np.testing.assert_array_equal, batch, other)


def test_shapes_and_dtypes(data_dir):
  (batch,) = take(training_batches(loader(data_dir), 4, 0, 0, 0), 1)
  actual = {name: (array.dtype.name, array.shape) for name, array in batch.items()}
  assert actual == {
    'frames': ('uint8', (4, 3, 8, 8, 3)),
    'regions': ('uint8', (4, 3, 8, 8)),
    'annotated': ('bool', (4, 3)),
    'label': ('int32', (4,)),
    'seed': ('uint32', (4,)),
    'clip': ('int32', (4,)),
    'weight': ('float32', (4,)),
    'replaced': ('int32', (4,)),
  }


def test_an_epoch_has_every_clip_once_and_the_next_another_order(data_dir):
  batches = take(training_batches(loader(data_dir), 37, 0, 0, 0), 2)
  first, second = (batch['clip'].tolist() for batch in batches)
  assert sorted(first) == sorted(second) == list(range(37))
  assert first != second
  assert not set(batches[0]['seed']) & set(batches[1]['seed'])


def test_workers_and_resuming_change_nothing(data_dir):
  clips = loader(data_dir)
  reference = take(training_batches(clips, 4, 7, 0, 0), 14)
  assert_same(take(training_batches(clips, 4, 7, 0, 2), 14), reference)
  assert_same(take(training_batches(clips, 4, 7, 11, 0), 3), reference[11:])
  other = take(training_batches(clips, 4, 8, 0, 0), 1)
  assert (other[0]['clip'] != reference[0]['clip']).any()


@dataclasses.dataclass(frozen=True)
class RecordingLoader(ClipLoader):
  """Makes a file in `folder` for each clip that is loaded, in whichever process."""

  folder: pathlib.Path

  def training_clip(self, position, rng):
    (self.folder / str(position)).touch()
    return super().training_clip(position, rng)


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_loaded_before_the_first_is_asked_for(data_dir, tmp_path, workers):
  clips = loader(data_dir)
  recording = RecordingLoader(clips.subset, clips.view, tmp_path)
  batches = training_batches(recording, 4, 7, 0, workers)
  try:
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 8:  # The clips of the first two batches.
      assert time.monotonic() < deadline, 'nothing is loaded ahead'
      time.sleep(0.05)
  finally:
    batches.close()


@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='reads the status on Linux')
def test_workers_that_are_starting_are_ended_at_once_and_ignore_ctrl_c(data_dir, tmp_path):
  clips = loader(data_dir)
  batches = training_batches(RecordingLoader(clips.subset, clips.view, tmp_path), 4, 7, 0, 1)
  try:
    while not (workers := multiprocessing.active_children()):
      time.sleep(0.001)
    status = pathlib.Path(f'/proc/{workers[0].pid}/status').read_text()
    assert int(re.search(r'SigBlk:\s*(\w+)', status)[1], 16) & 1 << (signal.SIGINT - 1)
  finally:
    batches.close()
  assert not multiprocessing.active_children()
  assert not list(tmp_path.iterdir()), 'closing waited for a batch'


@pytest.mark.parametrize('hosts', [2, 8])
def test_hosts_share_the_same_batches(data_dir, hosts):
  clips = loader(data_dir)
  held_out = loader(data_dir, 'validation')
  global_batches = take(training_batches(clips, 8, 0, 5, 0), 3)
  global_batches += list(evaluation_batches(held_out, 8, 0))
  shares = []
  for host in range(hosts):
    share = take(training_batches(clips, 8, 0, 5, 0, (host, hosts)), 3)
    shares.append(share + list(evaluation_batches(held_out, 8, 0, share=(host, hosts))))
  for k, batch in enumerate(global_batches):
    parts = [share[k] for share in shares]
    assert_same([jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)], [batch])


def test_evaluation_counts_every_clip_once(data_dir):
  batches = list(evaluation_batches(loader(data_dir, 'validation'), 4, 0))
  assert [batch['weight'].sum() for batch in batches] == [4, 4, 3]
  clips = np.concatenate([batch['clip'] for batch in batches])
  assert clips.tolist() == [*range(11), -1]
  again = list(evaluation_batches(loader(data_dir, 'validation'), 3, 2))
  seeds = [np.concatenate([b['seed'][b['weight'] > 0] for b in bs]) for bs in (batches, again)]
  np.testing.assert_array_equal(*seeds)


def test_views_against_sampling_by_hand(data_dir):
  """Frame n of a toy clip has the gray level 4 n; its boxes have 15 columns and 10 rows."""
  clips = loader(data_dir, 'validation', view=dataclasses.replace(VIEW, size=20, centre_crop=1.0))
  batches = list(evaluation_batches(clips, 8, 0, EvaluationViews(clips=4, crops=3)))
  views = jax.tree.map(lambda *arrays: np.concatenate(arrays), *batches)
  assert views['weight'].tolist() == [1] * 132 + [0] * 4
  assert views['clip'].tolist() == [i // 12 for i in range(132)] + [-1] * 4
  single = list(evaluation_batches(clips, 11, 0))[0]
  for i in range(132):
    clip, moment, crop = i // 12, i % 12 // 3, i % 3
    assert views['seed'][i] == single['seed'][clip]
    assert views['label'][i] == single['label'][clip]
    num_frames = 5 + clip
    indices = [int((segment + (moment + 0.5) / 4) * num_frames / 3) for segment in range(3)]
    levels = views['frames'][i].mean((1, 2, 3))
    np.testing.assert_allclose(levels, [4 * index for index in indices], atol=2)
    # Frames of 30 x 20 pixels: the squares begin at the columns 0, 5 and 10.
    persons = (views['regions'][i] & PERSON_BOX > 0).sum((1, 2))
    assert persons.tolist() == [(15, 10, 5)[crop] * 20] * 3
  workers = list(evaluation_batches(clips, 8, 2, EvaluationViews(clips=4, crops=3)))
  assert_same(workers, batches)
  middle = list(evaluation_batches(clips, 11, 0, EvaluationViews(clips=1, crops=3)))
  frames = np.concatenate([batch['frames'] for batch in middle])[1::3]
  np.testing.assert_array_equal(frames, single['frames'])


def test_only_sampled_frames_are_decoded(data_dir, monkeypatch):
  decoded = []
  from zsar_jax.data import records

  decode = records.decode_frame
  monkeypatch.setattr(records, 'decode_frame', lambda jpeg: decoded.append(1) or decode(jpeg))
  clip = loader(data_dir).evaluation_clip(36)
  assert len(decoded) == 3
  # 41 frames of gray level 4 n: the centers of three segments are frames 6, 20 and 34.
  np.testing.assert_allclose(clip['frames'].mean((1, 2, 3)), [24, 80, 136], atol=2)
  ends = loader(data_dir, view=dataclasses.replace(VIEW, sampling='ends')).evaluation_clip(36)
  np.testing.assert_allclose(ends['frames'].mean((1, 2, 3)), [0, 80, 160], atol=2)


def test_class_subsets_have_their_own_vocabulary(data_dir):
  novel = loader(data_dir, 'validation', 'novel').subset
  assert novel.classes == CLASSES[3:]
  ids = [novel.clip_id(i) for i in range(len(novel))]
  assert ids == ['validation3', 'validation4', 'validation8', 'validation9']
  assert novel.labels.tolist() == [0, 1, 0, 1]
  chosen = loader(data_dir, 'validation', ('turning', 'moving left')).subset
  assert chosen.classes == ('moving left', 'turning')


@pytest.mark.parametrize(
  ('classes', 'word'),
  [('bse', "no class split 'bse'"), (('running',), "'running' is not in the vocabulary")],
)
def test_unknown_classes(data_dir, classes, word):
  with pytest.raises(UserError, match=word):
    loader(data_dir, 'validation', classes)


def test_unannotated_frames(data_dir):
  """Clip 3 has 8 frames; the even ones are not annotated, and the sampled ones are 1, 4 and 6."""
  nearest = loader(data_dir).evaluation_clip(3)
  assert nearest['annotated'].all()
  assert (nearest['regions'] & PERSON_BOX).any((1, 2)).all()
  leave = loader(data_dir, view=dataclasses.replace(VIEW, unannotated='leave')).evaluation_clip(3)
  assert leave['annotated'].tolist() == [True, False, False]
  assert not leave['regions'][1:].any()
  dropped = loader(data_dir, view=dataclasses.replace(VIEW, unannotated='drop')).subset
  assert len(dropped) == 24
  assert 'train3' not in [dropped.clip_id(i) for i in range(24)]


def test_boxes_stand_in_for_shapes(data_dir):
  clip = loader(data_dir)
  assert clip.subset.boxes_as_shapes == {'person', 'object'}
  regions = clip.evaluation_clip(1)['regions']
  np.testing.assert_array_equal(regions & PERSON > 0, regions & PERSON_BOX > 0)
  np.testing.assert_array_equal(regions & OBJECT > 0, regions & OBJECT_BOX > 0)
  assert (regions == 0).any()


def test_a_damaged_record_is_named(data_dir, monkeypatch):
  clips = loader(data_dir, 'validation')
  read = ClipFrames.frame
  monkeypatch.setattr(ClipFrames, 'frame', lambda self, n: read(self, n)[:-20])
  with pytest.raises(UserError, match='toy, clip validation2: .*build the data set again'):
    clips.evaluation_clip(2)


# Takes batches from two workers until a signal arrives, and keeps the last batch until it exits.
INTERRUPTED = """
import sys
from tests.data.pipeline_test import loader
from zsar_jax.data.pipeline import training_batches
from zsar_jax.runtime.interruption import DeferredSignals

kept = []

def main():
  batches = training_batches(loader(sys.argv[1]), 16, 0, 0, 2)
  with DeferredSignals() as interruption:
    try:
      while not interruption.signal:
        kept[:] = [next(batches)]
        print(kept[0]['frames'].shape, flush=True)
    finally:
      batches.close()

if __name__ == '__main__':
  main()
"""


@pytest.mark.skipif(not pathlib.Path('/dev/shm').is_dir(), reason='lists blocks only on Linux')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_shared_memory(tmp_path, data_dir, number):
  """The process has its own session, so that blocks of other tests do not count."""
  script = tmp_path / 'interrupted.py'
  script.write_text(INTERRUPTED)
  process = subprocess.Popen(
    [sys.executable, script, data_dir],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  assert '(16, 3, 8, 8, 3)' in process.stdout.readline()
  session = _session(process.pid)
  blocks = _blocks(session)
  process.send_signal(number)
  _, err = process.communicate(timeout=60)
  deadline = time.monotonic() + 20
  while any(pathlib.Path('/proc', str(pid)).exists() for pid in session - {process.pid}):
    assert time.monotonic() < deadline, 'a worker outlives the run'
    time.sleep(0.05)
  assert blocks
  assert not [block for block in blocks | _blocks(session) if block.exists()]
  if number == signal.SIGINT:
    assert process.returncode == 0, err
    assert 'leaked' not in err


def _session(leader: int) -> set[int]:
  """Returns the processes of a session."""
  pids = set()
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      if os.getsid(int(path.name)) == leader:
        pids.add(int(path.name))
    except ProcessLookupError:
      continue
  return pids


def _blocks(processes: set[int]) -> set[pathlib.Path]:
  """Returns the blocks of shared memory that processes have mapped."""
  blocks = set()
  for pid in processes:
    try:
      maps = pathlib.Path('/proc', str(pid), 'maps').read_text()
    except (FileNotFoundError, ProcessLookupError):
      continue
    blocks |= {pathlib.Path(name) for name in re.findall(r'/dev/shm/psm_\w+', maps)}
  return blocks
