"""Leases: waiting, releasing, taking over, and losing one."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
import uuid

import pytest

from zsar_jax.storage import leases, locks
from zsar_jax.storage.paths import as_path

# A lease does not end by itself within this time, in seconds.
LONG = 60


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
  for name, seconds in {'RENEW': 0.1, 'EXPIRE': 1.0, 'POLL': 0.02, 'SETTLE': 0.02}.items():
    monkeypatch.setattr(leases, f'_{name}_SECONDS', seconds)


@pytest.fixture
def folder():
  """A folder in fsspec's bucket in memory."""
  return as_path(f'memory://{uuid.uuid4().hex}/run', '--workdir')


def write_record(folder, **changes):
  """Writes a lease of another owner."""
  record = leases._Record('other', 'another machine', 'host-7', 42, 0, time.time())
  content = json.dumps(dataclasses.asdict(dataclasses.replace(record, **changes)))
  folder.fs.pipe_file((folder / 'lock').path, content.encode())


def seconds_to_lock(folder):
  start = time.monotonic()
  with locks.lock_folder(folder):
    return time.monotonic() - start


def check_exclusive(folder):
  """Has four threads take turns in a folder; on a busy machine, they also do for long."""
  leases._EXPIRE_SECONDS = LONG  # `_fast` restores it.
  inside, most = [], []

  def work():
    with locks.lock_folder(folder):
      inside.append(1)
      most.append(len(inside))
      time.sleep(0.05)
      inside.pop()

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert most == [1] * 4
  assert not (folder / 'lock').exists()


def test_owners_take_turns(folder, capsys):
  check_exclusive(folder)
  assert f'waiting for the other process that works in {folder} (process' in capsys.readouterr().err


def test_owners_take_turns_on_servers(bucket_url):
  check_exclusive(as_path(bucket_url, '--workdir'))


def test_a_renewed_lease_is_kept(folder):
  released = threading.Event()

  def renew():
    for number in range(15):
      write_record(folder, renewal=number)
      time.sleep(0.1)
    released.set()
    folder.fs.rm_file((folder / 'lock').path)

  write_record(folder)
  thread = threading.Thread(target=renew)
  thread.start()
  with locks.lock_folder(folder):
    assert released.is_set()
  thread.join()


def test_a_lease_ends_some_time_after_its_last_renewal(folder):
  write_record(folder)
  assert 0.9 < seconds_to_lock(folder) < 20


def test_a_lease_of_long_ago_has_ended(folder, monkeypatch):
  monkeypatch.setattr(leases, '_EXPIRE_SECONDS', LONG)
  write_record(folder, time=time.time() - 3600)
  assert seconds_to_lock(folder) < LONG / 2


def test_a_lease_ends_with_its_process_on_the_same_machine(folder, monkeypatch):
  monkeypatch.setattr(leases, '_EXPIRE_SECONDS', LONG)
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  write_record(folder, machine=leases._machine(), pid=process.pid)
  assert seconds_to_lock(folder) < LONG / 2


def test_a_damaged_lease_is_nobodys(folder, monkeypatch):
  monkeypatch.setattr(leases, '_EXPIRE_SECONDS', LONG)
  folder.fs.pipe_file((folder / 'lock').path, b'{')
  assert seconds_to_lock(folder) < LONG / 2


@pytest.mark.parametrize('error', [FileExistsError(17, 'exists'), OSError(5, 'no answer')])
def test_the_answer_to_its_creation_is_lost(folder, monkeypatch, error):
  """The package for the bucket sends the request again, and sees its own object, or gives up."""
  write = type(folder.fs).pipe_file
  written = []

  def lose_answer(self, path, content, **options):
    written.append(options)
    write(self, path, content)
    if options.get('mode') == 'create':
      raise error

  monkeypatch.setattr(type(folder.fs), 'pipe_file', lose_answer)
  assert seconds_to_lock(folder) < LONG / 2
  assert written[0] == {'mode': 'create'}


def test_another_process_creates_it_at_the_same_moment(folder, monkeypatch):
  """S3 answers so before the object of the other process is there, which may vanish again."""
  write = type(folder.fs).pipe_file
  conflicts = [1, 2]

  def conflict(self, path, content, **options):
    if conflicts:
      conflicts.pop()
      raise OSError(5, 'An error occurred (ConditionalRequestConflict) when calling PutObject')
    write(self, path, content)

  monkeypatch.setattr(type(folder.fs), 'pipe_file', conflict)
  assert seconds_to_lock(folder) < LONG / 2
  assert not conflicts


@pytest.mark.parametrize('error', [NotImplementedError(), OSError(38, 'Not Implemented')])
def test_stores_that_create_nothing_exclusively(folder, monkeypatch, error):
  write = type(folder.fs).pipe_file

  def refuse(self, path, content, **options):
    if options.get('mode') == 'create':
      raise error
    write(self, path, content)

  monkeypatch.setattr(type(folder.fs), 'pipe_file', refuse)
  assert seconds_to_lock(folder) < LONG / 2


def test_a_lease_that_cannot_be_written(folder, monkeypatch):
  def forbid(*_, **__):
    raise PermissionError(13, 'Forbidden')

  monkeypatch.setattr(type(folder.fs), 'pipe_file', forbid)
  with pytest.raises(PermissionError):
    seconds_to_lock(folder)


def test_whoever_loses_its_lease_ends(folder, monkeypatch):
  ends = []
  monkeypatch.setattr(leases, 'exit_now', lambda *arguments: ends.append(arguments))
  with locks.lock_folder(folder):
    time.sleep(0.3)
    assert not ends
    deadline = time.monotonic() + 20
    while not ends and time.monotonic() < deadline:
      write_record(folder)  # A renewal at the same moment may replace it.
      time.sleep(0.01)
  status, message = ends[0]
  assert status == 2
  assert message.startswith(f'error: {folder}: process 42 on host-7 has taken this folder over')
