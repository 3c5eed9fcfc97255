"""Connections between the processes of a run: who is there, who is gone, what they agree on.

Process 0 listens at the coordinator's address until all the others have come; after that JAX's own
service has the port, and these connections stay. Each carries lines of JSON. A connection that ends
without a farewell, or brings nothing for `SILENCE` seconds, is of a process that is gone.

JAX's service looks after processes too, but can only abort the others, without naming any.
"""

import contextlib
import dataclasses
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.runtime.interruption import Interrupted

# Seconds between two signs of life, and without one until a process counts as gone.
_BEAT = 2.0
SILENCE = 60.0

# Seconds until what is waited for is printed.
_PATIENCE = 10.0

# Seconds that process 0 waits at most for the others to hear why it ends.
_FAREWELL = 5.0

# Bytes of the first line of a connection, which may come from anyone.
_HELLO = 4096


@dataclasses.dataclass
class _Peer:
  """The other end of a connection; `process` is None until it has said hello."""

  socket: socket.socket
  process: int | None = None
  buffer: bytes = b''
  heard: float = dataclasses.field(default_factory=time.monotonic)
  leaving: bool = False
  lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

  def send(self, **message: Any) -> None:
    """Sends a message; one that cannot be sent is noticed where the connection is read."""
    with self.lock, contextlib.suppress(OSError):
      self.socket.sendall(json.dumps(message).encode() + b'\n')


class Links:
  """The connections of one process.

  Attributes:
    process: the number of this process.
    count: how many processes there are.
    hosts: the host name of each; '' until it is known.
    together: whether all have come.
    lost: whether another process is gone or some process has failed.
  """

  def __init__(
    self,
    address: tuple[str, int],
    count: int,
    process: int,
    stop: Callable[[int], None],
    end: Callable[[str, bool], None],
  ):
    """Prepares.

    Args:
      address: host and port of process 0.
      count: of processes.
      process: the number of this one, from 0.
      stop: is called with a signal that another process got.
      end: is called, in another thread as is `stop`, with a sentence, and with True where another
        process has failed and False where it is gone.
    """
    self.process, self.count = process, count
    self.hosts = [''] * count
    self.hosts[process] = socket.gethostname()
    self.lost = False
    self._address, self._stop, self._end = address, stop, end
    self._peers: list[_Peer] = []
    self._selector = selectors.DefaultSelector()
    self._listener: socket.socket | None = None
    self._changed = threading.Condition()
    self.together = self._left = False
    self._missing = list(range(count)) if process else [n for n in range(count) if n != process]
    self._refusal = ''
    self._exchanges = 0
    self._values: dict[int, dict[int, tuple[str, Any]]] = {}  # In process 0.
    self._results: dict[int, list[Any]] = {}

  def name(self, process: int) -> str:
    """A process with its host, for people."""
    return f'process {process}' + (f' ({self.hosts[process]})' if self.hosts[process] else '')

  def gather(self, patience: float) -> None:
    """Waits until all processes have come; prints who is waited for, when that takes long.

    Args:
      patience: seconds.

    Raises:
      UserError: when some process has not come by then, or comes with other numbers.
      Interrupted: after a signal.
    """
    deadline = time.monotonic() + patience
    if self.process == 0:
      self._listen()
    else:
      self._connect(deadline, patience)
    threading.Thread(target=self._run, daemon=True).start()
    self._wait(lambda: self.together, self._absent, deadline if self.process == 0 else None)
    if self._refusal or not self.together:
      refusal = self._refusal or (
        f'{self._absent()} did not come to {self._where()} within {patience:.0f} seconds; start'
        ' each with the same --coordinator_address and --num_processes, see docs/pods.md'
      )
      self.fail(refusal)
      raise UserError(refusal)

  def exchange(self, name: str, value: Any = None) -> list[Any]:
    """What all processes bring to the same exchange, in their order; waits for them all.

    Args:
      name: of the exchange, the same in all of them.
      value: JSON can write it.

    Raises:
      Interrupted: after a signal, where that ends the block.
    """
    number, self._exchanges = self._exchanges, self._exchanges + 1
    if self.process == 0:
      self._bring(0, number, name, value)
    else:
      for peer in self._known():
        peer.send(at=number, name=name, value=value)
    self._wait(lambda: number in self._results, lambda: self._late(number))
    return self._results.pop(number)

  def stop_all(self, number: int) -> None:
    """Passes a signal on to all the others."""
    for peer in self._known():
      peer.send(stop=number)

  def fail(self, sentence: str) -> None:
    """Tells the others why this process ends, so that they end too, and gives them time to hear."""
    self.lost = True  # What comes of it here is no news.
    for peer in self._known():
      peer.send(failed=sentence)
    self._until(lambda: not self._known(), _FAREWELL if self.process == 0 else 0.0)

  def leave(self, seconds: float) -> None:
    """Says farewell: that this process ends is no failure.

    Process 0, whose service the others may need, waits until they leave too.

    Args:
      seconds: how long process 0 waits at most.
    """
    self._left = True
    if self.process == 0:
      self._until(lambda: all(peer.leaving for peer in self._known()), seconds)
    for peer in self._known():
      peer.send(leaving=True)

  def _until(self, ready: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with self._changed:
      while not ready() and time.monotonic() < deadline:
        self._changed.wait(0.1)

  def _known(self) -> list[_Peer]:
    # A copy: the thread that reads the connections takes peers out meanwhile.
    return [peer for peer in list(self._peers) if peer.process is not None]

  def _where(self) -> str:
    return f'{self._address[0]}:{self._address[1]}'

  def _absent(self) -> str:
    """Who has not come yet."""
    missing = [self.name(n) for n in self._missing if n != self.process]
    if len(missing) == self.count - 1 > 1:
      return f'the other {len(missing)} processes'
    more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
    return f'{", ".join(missing[:5])}{more} of {self.count}'

  def _late(self, number: int) -> str:
    """Who has not come to an exchange yet, as far as this process knows."""
    if self.process:
      return 'the other processes'
    come = self._values.get(number, {})
    return ', '.join(self.name(n) for n in range(self.count) if n not in come)

  def _wait(
    self, ready: Callable[[], bool], who: Callable[[], str], deadline: float | None = None
  ) -> None:
    """Waits in Python, where signals are handled at once."""
    since, said = time.monotonic(), False
    try:
      with self._changed:
        while not ready() and not self._refusal:
          now = time.monotonic()
          if deadline is not None and now > deadline:
            return
          if not said and now - since > _PATIENCE:
            said = True
            _print(f'waiting for {who()}')
          self._changed.wait(0.5)
    except Interrupted as end:
      raise Interrupted(
        f'interrupted while waiting for {who()}; the same command goes on', end.status
      ) from None

  def _listen(self) -> None:
    port = self._address[1]
    try:
      if socket.has_dualstack_ipv6():
        options = dict(family=socket.AF_INET6, dualstack_ipv6=True)
      else:
        options = {}
      self._listener = socket.create_server(('', port), backlog=self.count, **options)
    except (OSError, OverflowError) as error:
      raise UserError(
        f'--coordinator_address: this host cannot listen at port {port}'
        f' ({getattr(error, "strerror", None) or error}); take another port'
      ) from None
    self._listener.setblocking(False)
    self._selector.register(self._listener, selectors.EVENT_READ)

  def _connect(self, deadline: float, patience: float) -> None:
    since, said, connection = time.monotonic(), False, None
    try:
      while connection is None:
        try:
          connection = socket.create_connection(self._address, timeout=3)
        except (OSError, OverflowError, UnicodeError) as error:
          now, reason = time.monotonic(), getattr(error, 'strerror', None) or str(error)
          if now > deadline:
            raise UserError(
              f'process 0 did not answer at {self._where()} within {patience:.0f} seconds'
              f' ({reason}); start it, or correct --coordinator_address, see docs/pods.md'
            ) from None
          if not said and now - since > _PATIENCE:
            said = True
            _print(f'waiting for process 0 at {self._where()} ({reason})')
          time.sleep(0.5)
    except Interrupted as end:
      raise Interrupted(
        f'interrupted while waiting for process 0 at {self._where()}; the same command goes on',
        end.status,
      ) from None
    peer = self._add(connection)
    peer.process = 0
    peer.send(process=self.process, count=self.count, host=self.hosts[self.process])

  def _add(self, connection: socket.socket) -> _Peer:
    connection.settimeout(SILENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = _Peer(connection)
    self._peers.append(peer)
    self._selector.register(connection, selectors.EVENT_READ, peer)
    return peer

  def _run(self) -> None:
    """The thread that reads the connections and sends signs of life."""
    beaten = last = time.monotonic()
    while True:
      for key, _ in self._selector.select(_BEAT / 2):
        if key.data is None:
          with contextlib.suppress(OSError):
            self._add(self._listener.accept()[0])
        else:
          self._read(key.data)
      now = time.monotonic()
      if now - last > _BEAT * 5:  # This process was stopped itself, and has not read yet.
        for peer in self._peers:
          peer.heard = now
      last = now
      if now - beaten > _BEAT:
        beaten = now
        for peer in self._known():
          peer.send(alive=True)
      for peer in list(self._peers):
        if now - peer.heard > SILENCE:
          self._drop(peer, f'has not answered for {SILENCE:.0f} seconds')

  def _read(self, peer: _Peer) -> None:
    try:
      received = peer.socket.recv(1 << 20)
    except OSError:
      received = b''
    if not received:
      self._drop(peer, 'is gone')
      return
    peer.heard = time.monotonic()
    *lines, peer.buffer = (peer.buffer + received).split(b'\n')
    if peer.process is None and len(peer.buffer) > _HELLO:
      self._drop(peer, '')
      return
    for line in lines:
      if peer not in self._peers:
        return
      try:
        message = json.loads(line)
        self._greet(peer, message) if peer.process is None else self._take(peer, message)
      except (ValueError, KeyError, TypeError):
        self._drop(peer, 'sends what no process of this program does')
        return

  def _drop(self, peer: _Peer, how: str) -> None:
    """Ends a connection, and this process with it unless the other one said farewell."""
    early = not self.together and self.process == 0
    if not (peer.process is None or peer.leaving or self._left or early):
      remedy = 'its own output may say why; the same command goes on from the newest checkpoint'
      if not self.together:
        how = f'at {self._where()} has ended, or begun without this one'
        remedy = 'start all processes together, see docs/pods.md'
      self._lose(f'{self.name(peer.process)} {how}; {remedy}', failed=False)
    self._selector.unregister(peer.socket)
    with self._changed:
      self._peers.remove(peer)
      if early and peer.process is not None:
        self._missing = sorted({*self._missing, peer.process})  # It may come again.
      self._changed.notify_all()
    with contextlib.suppress(OSError):
      peer.socket.close()

  def _lose(self, what: str, failed: bool, but: _Peer | None = None) -> None:
    """Ends this process and all that it is connected to, once."""
    if self.lost:
      return
    self.lost = True
    for peer in self._known():
      if peer is not but:
        peer.send(failed=what, gone=not failed)
    if not self.together:
      with self._changed:
        self._refusal = what
        self._changed.notify_all()
      return
    self._end(what, failed)

  def _greet(self, peer: _Peer, message: dict[str, Any]) -> None:
    """The first line of a connection to process 0."""
    process, count, host = int(message['process']), int(message['count']), str(message['host'])
    if count != self.count:
      refusal = (
        f'--num_processes is {self.count} in {self.name(0)} and {count} in process {process}'
        f' ({host}); give the same everywhere'
      )
    elif not 0 < process < count or process not in self._missing:
      refusal = f'two processes are process {process}: --process_id differs in each'
    else:
      peer.process, self.hosts[process] = process, host
      with self._changed:
        self._missing.remove(process)
        if not self._missing:
          # The port is for JAX's service from now on.
          self._selector.unregister(self._listener)
          self._listener.close()
          self.together = True
        self._changed.notify_all()
      for other in self._known():
        other.send(hosts=self.hosts, missing=self._missing)
      return
    peer.send(failed=refusal)
    with self._changed:
      self._refusal = refusal
      self._changed.notify_all()

  def _take(self, peer: _Peer, message: dict[str, Any]) -> None:
    """A message of a process that is known."""
    if 'hosts' in message:
      with self._changed:
        self.hosts, self._missing = message['hosts'], message['missing']
        self.together = not self._missing
        self._changed.notify_all()
    elif 'at' in message:
      self._bring(peer.process, message['at'], message['name'], message['value'])
    elif 'values' in message:
      with self._changed:
        self._results[message['number']] = message['values']
        self._changed.notify_all()
    elif 'stop' in message:
      for other in self._known():
        if other is not peer:
          other.send(stop=message['stop'])
      self._stop(message['stop'])
    elif 'failed' in message:
      self._lose(message['failed'], not message.get('gone'), but=peer)
    elif 'leaving' in message:
      with self._changed:
        peer.leaving = True
        self._changed.notify_all()

  def _bring(self, process: int, number: int, name: str, value: Any) -> None:
    """Takes what a process brings to an exchange; process 0 sends it all when all have come."""
    with self._changed:
      come = self._values.setdefault(number, {})
      come[process] = name, value
      if len(come) < self.count:
        return
      del self._values[number]
    other = next((n for n in range(self.count) if come[n][0] != come[0][0]), None)
    if other is not None:
      self._lose(
        f'{self.name(0)} is at {come[0][0]!r} and {self.name(other)} at {come[other][0]!r}; start'
        ' all with the same command',
        failed=True,
      )
      return
    values = [come[n][1] for n in range(self.count)]
    for peer in self._known():
      peer.send(number=number, values=values)
    with self._changed:
      self._results[number] = values
      self._changed.notify_all()


def _print(text: str) -> None:
  with contextlib.suppress(OSError, ValueError):
    print(text, file=sys.stderr, flush=True)
