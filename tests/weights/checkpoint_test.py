"""Checkpoints: round trips, damage, and refusals."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from zsar_jax.errors import UserError
from zsar_jax.storage import checksums
from zsar_jax.weights import checkpoint
from zsar_jax.weights.array_store import missing_parts
from zsar_jax.weights.checkpoint import Checkpoints, load_params

ROOT = pathlib.Path(__file__).parents[2]

STATE = {
  'params': {'visual': {'0': {'kernel': jnp.arange(64.0).reshape(16, 4)}}, 'logit_scale': 2.0},
  'opt': ({'mu': jnp.ones(3), 'nu': None},),
  'step': jnp.int32(7),
}


def shapes(tree, mesh=None, spec=()):
  mesh = mesh or jax.make_mesh((1,), ('x',), (AxisType.Auto,), devices=jax.devices()[:1])

  def shape(leaf):
    leaf_spec = PartitionSpec(*spec) if jnp.ndim(leaf) == 2 else PartitionSpec()
    sharding = NamedSharding(mesh, leaf_spec)
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.asarray(leaf).dtype, sharding=sharding)

  return jax.tree.map(shape, tree)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  with Checkpoints(workdir, keep=2) as checkpoints:
    for step in (3, 5, 7):
      checkpoints.save(step, jax.tree.map(jnp.asarray, STATE), {'clips': step})
  return workdir


def test_checkpoints_of_the_same_second_are_verified_each(saved, tmp_path):
  """Some file systems have times in whole seconds."""
  folder = tmp_path / '7'
  shutil.copytree(saved / 'checkpoints' / '7', folder)
  sums = folder / 'checksums.json'
  written = sums.stat().st_mtime_ns
  assert checkpoint._verify(folder, '--workdir') == (True, None)
  shutil.rmtree(folder)
  shutil.copytree(saved / 'checkpoints' / '5', folder)
  (folder / 'meta' / 'metadata').write_text('{}')
  os.utime(sums, ns=(written, written))
  assert checkpoint._verify(folder, '--workdir')[1]


def test_round_trip_onto_another_mesh(saved):
  mesh = jax.make_mesh((8,), ('x',), (AxisType.Auto,))
  with Checkpoints(saved, keep=2) as checkpoints:
    assert checkpoints.latest == 7
    assert checkpoints.meta(7) == {'clips': 7}
    state = checkpoints.restore(5, shapes(STATE, mesh, ('x',)))
  kernel = state['params']['visual']['0']['kernel']
  assert len(kernel.sharding.device_set) == 8
  assert kernel.addressable_shards[0].data.shape == (2, 4)
  jax.tree.map(np.testing.assert_array_equal, state, STATE)
  assert not (saved / 'checkpoints' / '3').exists()


def test_the_parameters_alone_can_be_read(saved):
  params = load_params(saved, shapes(STATE['params']), '--workdir')
  jax.tree.map(np.testing.assert_array_equal, params, STATE['params'])


def test_other_models_are_refused(saved):
  wider = {**STATE['params'], 'visual': {'0': {'kernel': jnp.zeros((16, 5))}}}
  deeper = {**STATE['params'], 'visual': {**STATE['params']['visual'], '1': jnp.zeros(1)}}
  smaller = {'visual': STATE['params']['visual']}
  for params, words in (
    (wider, r'visual/0/kernel is \(16, 4\) there and \(16, 5\) here'),
    (deeper, 'lacks params/visual/1'),
    (smaller, 'also holds params/logit_scale'),
  ):
    with pytest.raises(UserError, match=f'another model: .*{words}.*config.model'):
      load_params(saved, shapes(params), '--workdir')


def damage(path, how):
  """Cuts a file, flips one bit of it, or deletes it; in a folder, the largest file."""
  if path.is_dir():
    path = max((file for file in path.rglob('*') if file.is_file()), key=lambda f: f.stat().st_size)
  content = path.read_bytes()
  middle = len(content) // 2
  if how == 'cut':
    path.write_bytes(content[:-3])
  elif how == 'flipped':
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
  else:
    path.unlink()


def value(checkpoints):
  return checkpoints.read_newest(
    lambda step: (
      checkpoints.meta(step)['clips'],
      float(checkpoints.restore(step, shapes(STATE))['params']['logit_scale']),
    )
  )


@pytest.mark.parametrize('how', ['cut', 'flipped', 'missing'])
@pytest.mark.parametrize('part', ['state', 'meta', 'state/_METADATA', 'state/d', 'meta/metadata'])
def test_a_damaged_checkpoint_is_passed_over(saved, tmp_path, capsys, part, how):
  shutil.copytree(saved, tmp_path / 'run')
  folder = tmp_path / 'run' / 'checkpoints'
  damage(folder / '7' / part, how)
  with Checkpoints(tmp_path / 'run', keep=2) as checkpoints:
    assert value(checkpoints) == (5, (5, 2.0))
    assert 'checkpoints/7: the checkpoint is damaged' in capsys.readouterr().err
    # The run resumes from step 5, and saves step 7 again.
    checkpoints.clear_after(5)
    assert checkpoints.latest == 5
    checkpoints.save(7, jax.tree.map(jnp.asarray, STATE), {'clips': 70})
    checkpoints.wait()
    assert value(checkpoints) == (7, (70, 2.0))
  assert [path.name for path in (tmp_path / 'run' / 'damaged_checkpoints').iterdir()] == ['7.0']
  params = load_params(tmp_path / 'run', shapes(STATE['params']), '--workdir')
  jax.tree.map(np.testing.assert_array_equal, params, STATE['params'])


@pytest.mark.parametrize('part', ['state', 'meta', 'state/_METADATA'])
def test_damage_shows_without_checksums(saved, tmp_path, part):
  """Checkpoints of earlier versions have no checksums."""
  shutil.copytree(saved, tmp_path / 'run')
  folder = tmp_path / 'run' / 'checkpoints' / '7'
  (folder / 'checksums.json').unlink()
  shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).write_bytes(b'{')
  with Checkpoints(tmp_path / 'run', keep=2) as checkpoints:
    assert value(checkpoints) == (5, (5, 2.0))


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
  ),
  max_leaves=9,
)


@settings(max_examples=60, deadline=None)
@given(
  file=st.sampled_from(
    ['state/_METADATA', 'meta/metadata', '_CHECKPOINT_METADATA', 'checksums.json']
  ),
  content=st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode()),
  sealed=st.booleans(),
)
def test_any_metadata_is_read_or_passed_over(saved, tmp_path_factory, file, content, sealed):
  """Metadata from strangers gives the saved arrays or a sentence, and nothing else."""
  run = tmp_path_factory.mktemp('any') / 'run'
  shutil.copytree(saved, run)
  folder = run / 'checkpoints' / '7'
  if not sealed:
    (folder / 'checksums.json').unlink()
  (folder / file).write_bytes(content)
  try:
    opened = Checkpoints(run, keep=2)
  except UserError:
    assert file == '_CHECKPOINT_METADATA'
    (folder / file).unlink()  # The remedy of the message.
    opened = Checkpoints(run, keep=2)
  with opened as checkpoints:
    step, (meta, state) = checkpoints.read_newest(
      lambda step: (checkpoints.meta(step), checkpoints.restore(step, shapes(STATE)))
    )
  assert step in (5, 7)
  assert isinstance(meta, dict)
  jax.tree.map(np.testing.assert_array_equal, state, STATE)


@pytest.mark.parametrize('name', ['/dev/zero', '../../../../outside', '../5/checksums.json'])
def test_checksums_of_files_elsewhere_are_refused(saved, tmp_path, name):
  shutil.copytree(saved, tmp_path / 'run')
  folder = tmp_path / 'run' / 'checkpoints' / '7'
  (folder / 'checksums.json').write_text(json.dumps({name: [1, 1]}))
  assert 'lies elsewhere' in checksums.find_damage(folder)


@pytest.mark.parametrize('lost', ['params.visual.0.kernel/1.0', 'opt.0.mu/.zarray', None])
def test_missing_parts_of_a_process_are_reported(tmp_path, lost):
  """Each process writes a part. Here the two devices stand for two processes."""
  mesh = jax.make_mesh((2,), ('x',), (AxisType.Auto,), devices=jax.devices()[:2])
  split = jax.tree.map(
    lambda leaf, shape: jax.device_put(leaf, shape.sharding), STATE, shapes(STATE, mesh, ('x',))
  )
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, split, {})
  state = tmp_path / 'checkpoints' / '1' / 'state'
  store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': f'file://{state}/'}).result()
  if lost:
    store.write(lost, None).result()
  expected = {
    'params.visual.0.kernel/1.0': '1 of 2 parts of params.visual.0.kernel',
    'opt.0.mu/.zarray': '1 of 4 arrays',
    None: None,
  }
  assert missing_parts(state, len(jax.tree.leaves(STATE))) == expected[lost]


def test_all_damaged(saved, tmp_path):
  shutil.copytree(saved, tmp_path / 'run')
  for step in ('5', '7'):
    damage(tmp_path / 'run' / 'checkpoints' / step / 'state', 'flipped')
  with pytest.raises(UserError, match='checkpoints/5.* other bytes .* none before it; delete'):
    load_params(tmp_path / 'run', shapes(STATE['params']), '--workdir')


FULL_DISK = """
import os, resource, sys
import jax, jax.numpy as jnp
from pathlib import Path
from zsar_jax.runtime import interruption
from zsar_jax.weights.checkpoint import Checkpoints
from zsar_jax.runtime.reporting import exit_on_user_error

interruption.GRACE_SECONDS = 1
make_folder = os.mkdir

def no_inodes(path, *args, **options):
  if '2.orbax-checkpoint-tmp/' in os.fspath(path):
    raise OSError(28, 'No space left on device', path)
  make_folder(path, *args, **options)

state = {name: jax.random.normal(jax.random.key(0), (int(sys.argv[2]),)) for name in 'xyz'}
run = Checkpoints(Path(sys.argv[1]), keep=1)
with interruption.interruptible_program(), exit_on_user_error(), run as checkpoints:
  checkpoints.save(1, state, {})
  checkpoints.wait()
  if sys.argv[3] == 'bytes':
    # A limit on the size of files acts like a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
  else:
    os.mkdir = no_inodes
  checkpoints.save(2, state, {})
  checkpoints.wait()
"""


@pytest.mark.parametrize('lacking', ['bytes', 'inodes'])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, lacking):
  begun = time.monotonic()
  done = subprocess.run(
    [sys.executable, '-c', FULL_DISK, tmp_path / 'run', '200000', lacking],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert time.monotonic() - begun < 60  # Threads of Orbax would wait for 300 seconds.
  assert done.returncode == 2, done.stderr
  # Nothing else is printed.
  assert re.fullmatch(
    r'error: \S+: the checkpoint of step 2 could not be written \([ \w]+\); make room, and the same'
    r' command goes on after step 1\n',
    done.stderr,
  )
  with Checkpoints(tmp_path / 'run') as checkpoints:
    checkpoints.clear_after(1)
    assert [path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir()] == ['1']
    template = shapes({name: jnp.zeros(200_000) for name in 'xyz'})
    step, state = checkpoints.read_newest(lambda step: checkpoints.restore(step, template))
  assert step == 1
  expected = jax.random.normal(jax.random.key(0), (200_000,))
  np.testing.assert_array_equal(state['x'], expected)


def test_no_checkpoint(tmp_path):
  with pytest.raises(UserError, match='--workdir: .* holds no checkpoint'):
    load_params(pathlib.Path(tmp_path), shapes(STATE['params']), '--workdir')


def test_a_run_that_still_trains_deletes_what_is_read(tmp_path):
  state = jax.tree.map(jnp.asarray, STATE)

  def save(step):
    with Checkpoints(tmp_path) as run:
      run.save(step, state, {'clips': step})

  save(3)
  with Checkpoints(tmp_path) as checkpoints:
    read = []

    def read_late(step):
      if not read:
        save(5)
      read.append(step)
      return checkpoints.meta(step)

    assert checkpoints.read_newest(read_late) == (5, {'clips': 5})
    assert read == [3, 5]
