"""Locks on folders in buckets: an object with an owner, which the owner renews while it lives.

A bucket has no lock that ends with its process. So the lock is an object that names its owner and
counts up every few seconds. Whoever finds it unchanged for some time takes it over, and an owner
that finds another one's name in it, because it was stopped or had no network for that time, ends.
No clocks are compared except for leases that were left behind long ago.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from zsar_jax.runtime.interruption import exit_now

# Seconds between renewals, and without any after which a lease has ended.
_RENEW_SECONDS = 8.0
_EXPIRE_SECONDS = 40.0

# A lease this old, by the clock, has ended; no clock of a cluster is that wrong.
_ABANDONED_SECONDS = 600.0

_POLL_SECONDS = 2.0

# After a lease was taken, the time in which another taker, which saw the same, would show. Stores
# without exclusive creation need it; others take over a lease in two requests.
_SETTLE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class _Record:
  """The content of the object.

  Attributes:
    owner: a random number.
    machine: identifies the processes among which `pid` is unique.
    host: its name, for people.
    pid: the process.
    renewal: counts up.
    time: of the renewal, in seconds since 1970.
  """

  owner: str
  machine: str
  host: str
  pid: int
  renewal: int
  time: float


@contextlib.contextmanager
def hold(path: Any, folder: str) -> Iterator[None]:
  """Holds a lease inside the block; waits, and says so, while another process holds it.

  If another process takes it over inside the block, this process ends.

  Args:
    path: the object, in a bucket.
    folder: what it locks, for messages.
  """
  own = _Record(secrets.token_hex(8), _machine(), socket.gethostname(), os.getpid(), 0, time.time())
  _acquire(path, own, folder)
  ended = threading.Event()
  thread = threading.Thread(target=_renew, args=(path, own, folder, ended), daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join(_RENEW_SECONDS)
    with contextlib.suppress(Exception):  # It ends by itself as well.
      if (held := _read(path)) and held.owner == own.owner:
        path.fs.rm_file(path.path)


def _acquire(path: Any, own: _Record, folder: str) -> None:
  """Waits until the lease is free or has ended, and takes it."""
  seen, seen_at, said = None, 0.0, False
  while True:
    held = _read(path)
    if held is None:
      _create(path, own)
    elif held.owner != own.owner:
      if held != seen:
        seen, seen_at = held, time.monotonic()
      if not _has_ended(held, time.monotonic() - seen_at):
        if not said:
          said = True
          print(
            f'waiting for the other process that works in {folder} (process {held.pid} on'
            f' {held.host}; if it was killed, at most {_EXPIRE_SECONDS:.0f} s)',
            file=sys.stderr,
            flush=True,
          )
        time.sleep(_POLL_SECONDS)
        continue
      if _read(path) == held:
        _replace(path, own)
    time.sleep(_SETTLE_SECONDS)
    held = _read(path)
    if held and held.owner == own.owner:
      return


def _has_ended(held: _Record, unchanged: float) -> bool:
  """Returns whether the owner of a lease that was not renewed for some seconds is gone."""
  if held.machine == _machine():
    with contextlib.suppress(PermissionError):
      try:
        os.kill(held.pid, 0)
      except ProcessLookupError:
        return True
  return unchanged > _EXPIRE_SECONDS or time.time() - held.time > _ABANDONED_SECONDS


def _renew(path: Any, own: _Record, folder: str, ended: threading.Event) -> None:
  """Renews the lease until `ended` is set; ends the process if another one has taken it."""
  while not ended.wait(_RENEW_SECONDS):
    # Without network the next attempt may succeed, and the checkpoints report lasting errors.
    with contextlib.suppress(Exception):
      held = _read(path)
      if ended.is_set():
        return
      if held and held.owner != own.owner:
        exit_now(
          2,
          f'error: {folder}: process {held.pid} on {held.host} has taken this folder over, because'
          f' this process did not answer for {_EXPIRE_SECONDS:.0f} s; it goes on there',
        )
      own = dataclasses.replace(own, renewal=own.renewal + 1, time=time.time())
      _replace(path, own)


def _read(path: Any) -> _Record | None:
  """Reads the lease; None if there is none. One that is damaged is nobody's."""
  try:
    return _Record(**json.loads(path.fs.cat_file(path.path)))
  except (FileNotFoundError, ValueError, TypeError):
    return None


def _create(path: Any, record: _Record) -> None:
  """Writes the lease unless there is one; whose it is must be read afterwards.

  Some stores create nothing exclusively, and replace the object.
  """
  try:
    path.fs.pipe_file(path.path, _content(record), mode='create')
    return
  except FileExistsError:
    if _read(path):
      return
  except Exception as error:
    if not isinstance(error, NotImplementedError) and getattr(error, 'errno', 0) != errno.ENOSYS:
      # Another process writes it at this moment (S3's name for that), or has written it, or this
      # process has, and the answer was lost.
      if 'ConditionalRequestConflict' not in str(error) and _read(path) is None:
        raise
      return
  _replace(path, record)


def _replace(path: Any, record: _Record) -> None:
  path.fs.pipe_file(path.path, _content(record))


def _content(record: _Record) -> bytes:
  return json.dumps(dataclasses.asdict(record)).encode()


def _machine() -> str:
  """Returns a text that is the same for processes which see each other by their numbers."""
  facts = [socket.gethostname()]
  with contextlib.suppress(OSError):
    facts.append(pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip())
    facts.append(os.readlink('/proc/self/ns/pid'))
  return ' '.join(facts)
