"""Sockets between the processes of a run: lines of JSON, signs of life, and peers that are gone.

One thread reads all sockets of a process and sends signs of life. A peer is gone when its socket
is closed or brings nothing for `SILENCE_TIMEOUT` seconds.
"""

import contextlib
import dataclasses
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

# Seconds between two signs of life, and without one until a process counts as gone.
_HEARTBEAT_INTERVAL = 2.0
SILENCE_TIMEOUT = 60.0

# The most bytes of a connection's first line, which may come from anyone.
_MAX_HELLO = 4096


@dataclasses.dataclass(eq=False)
class Peer:
  """The other end of a connection.

  Attributes:
    socket: the connection.
    process: the peer's number; None until the peer has introduced itself.
    buffer: bytes received after the last complete line.
    last_heard: when bytes arrived last, on the monotonic clock.
    is_leaving: whether the peer has said that it ends in order.
  """

  socket: socket.socket
  process: int | None = None
  buffer: bytes = b''
  last_heard: float = dataclasses.field(default_factory=time.monotonic)
  is_leaving: bool = False
  _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

  def send(self, **message: Any) -> None:
    """Sends a message; a failure to send shows when the connection is read."""
    self.send_line(encode(message))

  def send_line(self, line: bytes) -> None:
    """Sends an encoded message."""
    with self._lock, contextlib.suppress(OSError):
      self.socket.sendall(line)


def encode(message: dict[str, Any]) -> bytes:
  """Returns a message as `Peer.send_line` takes it."""
  return json.dumps(message).encode() + b'\n'


class Connections:
  """The sockets of one process.

  Attributes:
    peers: the open connections, those of strangers included.
    changed: notified, and its lock held, when the peers change; users may share it.
  """

  def __init__(
    self,
    on_message: Callable[[Peer, dict[str, Any]], None],
    on_closed: Callable[[Peer, str], None],
  ):
    """Opens nothing yet.

    Args:
      on_message: is called in the reading thread with each message; a ValueError, KeyError or
        TypeError from it closes the connection.
      on_closed: is called in the reading thread before a connection is removed, with what happened
        in words, such as 'is gone'.
    """
    self.peers: list[Peer] = []
    self.changed = threading.Condition()
    self._on_message, self._on_closed = on_message, on_closed
    self._selector = selectors.DefaultSelector()
    self._listener: socket.socket | None = None

  def start(self) -> None:
    """Starts the thread that reads."""
    threading.Thread(target=self._run, daemon=True).start()

  def listen(self, port: int, backlog: int) -> None:
    """Accepts connections at a port of all addresses, IPv4 and IPv6.

    Raises:
      OSError: if the port is taken or not allowed.
      OverflowError: if there is no such port.
    """
    if socket.has_dualstack_ipv6():
      options: dict[str, Any] = dict(family=socket.AF_INET6, dualstack_ipv6=True)
    else:
      options = {}
    self._listener = socket.create_server(('', port), backlog=backlog, **options)
    self._listener.setblocking(False)
    self._selector.register(self._listener, selectors.EVENT_READ)

  def stop_listening(self) -> None:
    """Frees the port."""
    assert self._listener is not None, 'no port is open'
    self._selector.unregister(self._listener)
    self._listener.close()

  def connect(self, address: tuple[str, int], process: int) -> Peer:
    """Connects to a process, in one attempt.

    Raises:
      OSError: if nothing answers there.
      OverflowError: if there is no such port.
      UnicodeError: if the host's name cannot be one.
    """
    peer = self._add(socket.create_connection(address, timeout=3))
    peer.process = process
    return peer

  def introduced(self) -> list[Peer]:
    """Returns the peers whose process is known."""
    # The reading thread removes peers meanwhile: iterate over a copy.
    return [peer for peer in list(self.peers) if peer.process is not None]

  def _add(self, connection: socket.socket) -> Peer:
    connection.settimeout(SILENCE_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = Peer(connection)
    self.peers.append(peer)
    self._selector.register(connection, selectors.EVENT_READ, peer)
    return peer

  def _run(self) -> None:
    last_sent = last_round = time.monotonic()
    while True:
      for key, _ in self._selector.select(_HEARTBEAT_INTERVAL / 2):
        if key.data is None:
          assert self._listener is not None  # The selector has it.
          with contextlib.suppress(OSError):
            self._add(self._listener.accept()[0])
        else:
          self._read(key.data)
      now = time.monotonic()
      if now - last_round > _HEARTBEAT_INTERVAL * 5:
        # This process itself was suspended, and has not read what arrived meanwhile.
        for peer in self.peers:
          peer.last_heard = now
      last_round = now
      if now - last_sent > _HEARTBEAT_INTERVAL:
        last_sent = now
        for peer in self.introduced():
          peer.send(alive=True)
      for peer in list(self.peers):
        if now - peer.last_heard > SILENCE_TIMEOUT:
          self._close(peer, f'has not answered for {SILENCE_TIMEOUT:.0f} seconds')

  def _read(self, peer: Peer) -> None:
    try:
      received = peer.socket.recv(1 << 20)
    except OSError:
      received = b''
    if not received:
      self._close(peer, 'is gone')
      return
    peer.last_heard = time.monotonic()
    *lines, peer.buffer = (peer.buffer + received).split(b'\n')
    if peer.process is None and len(peer.buffer) > _MAX_HELLO:
      self._close(peer, 'is a stranger')
      return
    for line in lines:
      if peer not in self.peers:
        return
      try:
        self._on_message(peer, json.loads(line))
      except (ValueError, KeyError, TypeError):
        self._close(peer, 'sends what no process of this program does')
        return

  def _close(self, peer: Peer, what_happened: str) -> None:
    self._on_closed(peer, what_happened)
    self._selector.unregister(peer.socket)
    with self.changed:
      self.peers.remove(peer)
      self.changed.notify_all()
    with contextlib.suppress(OSError):
      peer.socket.close()
