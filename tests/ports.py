"""TCP ports for servers that the tests start."""

import secrets
import socket

# Below the ports from which Linux takes those of outgoing connections (32768 to 60999 by default,
# ip_local_port_range): a connection of another test cannot take the port before the server does.
_PORTS = range(10_000, 32_768)


def free_port() -> int:
  """Returns a TCP port at which no program of this host listens now, at any address."""
  while True:
    port = secrets.choice(_PORTS)
    with socket.socket() as probe:
      try:
        probe.bind(('', port))
      except OSError:  # Taken.
        continue
    return port
