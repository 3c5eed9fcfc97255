"""A local port that forwards to a remote service and stays open when the service is gone.

JAX's client aborts its process with a C++ stack as soon as the connection to JAX's service ends.
Behind a relay it does not notice, and `zsar_jax.runtime.links` ends the process in order.
"""

import contextlib
import socket
import threading
import time

# Seconds in which the service has to start listening.
_CONNECT_TIMEOUT = 60.0


def start_relay(address: tuple[str, int]) -> int:
  """Starts a relay, which lasts as long as the process.

  Args:
    address: host and port of the service, which may not listen yet.

  Returns:
    The local port, which only this host can reach.
  """
  listener = socket.create_server(('127.0.0.1', 0))
  threading.Thread(target=_accept, args=(listener, address), daemon=True).start()
  return listener.getsockname()[1]


def _accept(listener: socket.socket, address: tuple[str, int]) -> None:
  while True:
    client, _ = listener.accept()
    threading.Thread(target=_relay, args=(client, address), daemon=True).start()


def _relay(client: socket.socket, address: tuple[str, int]) -> None:
  """Forwards both ways; the client's side stays open when the service's side ends."""
  service = _connect(address)
  if service is None:
    return
  for side in (client, service):
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  threading.Thread(target=_forward, args=(service, client), daemon=True).start()
  _forward(client, service)
  with contextlib.suppress(OSError):
    service.shutdown(socket.SHUT_RDWR)


def _connect(address: tuple[str, int]) -> socket.socket | None:
  deadline = time.monotonic() + _CONNECT_TIMEOUT
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      service = socket.create_connection(address, timeout=5)
      service.settimeout(None)
      return service
    time.sleep(0.1)
  return None


def _forward(source: socket.socket, target: socket.socket) -> None:
  with contextlib.suppress(OSError):
    while received := source.recv(1 << 16):
      target.sendall(received)
