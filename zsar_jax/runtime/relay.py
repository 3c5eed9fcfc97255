"""A port of this host that leads to a service elsewhere, and stays open when that is gone.

JAX's client aborts its process, with a stack of C++, as soon as the connection to JAX's service
ends. Through a relay it does not notice, and `zsar_jax.runtime.links` ends the process in order.
"""

import contextlib
import socket
import threading
import time

# Seconds in which the service has to begin to listen.
_PATIENCE = 60.0


def start_relay(address: tuple[str, int]) -> int:
  """Starts to relay, as long as this process lives.

  Args:
    address: host and port of the service, which need not be there yet.

  Returns:
    The port, of this host alone.
  """
  listener = socket.create_server(('127.0.0.1', 0))
  threading.Thread(target=_accept, args=(listener, address), daemon=True).start()
  return listener.getsockname()[1]


def _accept(listener: socket.socket, address: tuple[str, int]) -> None:
  while True:
    client, _ = listener.accept()
    threading.Thread(target=_join, args=(client, address), daemon=True).start()


def _join(client: socket.socket, address: tuple[str, int]) -> None:
  """Passes on both ways; the client's side stays open when the service's side ends."""
  service = _connect(address)
  if service is None:
    return
  for end in (client, service):
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  threading.Thread(target=_pass_on, args=(service, client), daemon=True).start()
  _pass_on(client, service)
  with contextlib.suppress(OSError):
    service.shutdown(socket.SHUT_RDWR)


def _connect(address: tuple[str, int]) -> socket.socket | None:
  deadline = time.monotonic() + _PATIENCE
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      service = socket.create_connection(address, timeout=5)
      service.settimeout(None)
      return service
    time.sleep(0.1)
  return None


def _pass_on(source: socket.socket, target: socket.socket) -> None:
  with contextlib.suppress(OSError):
    while received := source.recv(1 << 16):
      target.sendall(received)
