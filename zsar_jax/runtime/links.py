"""What the processes of a run agree on and tell each other.

Process 0 listens at the coordinator's address until all other processes have connected; JAX's own
service then takes the port, and these connections stay. A process that ends says so; a connection
that ends without that belongs to a process that is gone, and ends all others.

JAX's service also watches the processes, but it can only abort them and does not name the one that
is gone.
"""

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime.connections import Connections, Peer, encode
from zsar_jax.runtime.interruption import Interrupted

# Seconds of waiting after which a line says what is waited for.
_SILENT_WAIT = 10.0

# The most seconds that process 0 waits until the others have heard why it ends.
_FAREWELL_TIMEOUT = 5.0


class Links:
  """The links of one process to the others.

  Attributes:
    process: the number of this process.
    count: the number of processes.
    hosts: the host name of each; '' while it is unknown.
    all_joined: whether all processes have joined.
    run_has_ended: whether another process is gone, or some process has failed.
  """

  def __init__(
    self,
    address: tuple[str, int],
    count: int,
    process: int,
    on_signal: Callable[[int], None],
    on_end: Callable[[str, bool], None],
  ):
    """Opens no connection yet.

    Args:
      address: host and port of process 0.
      count: the number of processes.
      process: the number of this one, from 0.
      on_signal: is called, in another thread, with a signal that another process got.
      on_end: is called, in another thread, with a sentence when another process has failed (True)
        or is gone (False).
    """
    self.process, self.count = process, count
    self.hosts = [''] * count
    self.hosts[process] = socket.gethostname()
    self.all_joined = self.run_has_ended = False
    self._address, self._on_signal, self._on_end = address, on_signal, on_end
    self._connections = Connections(self._handle, self._handle_closed)
    self._changed = self._connections.changed
    self._is_leaving = False
    self._missing = list(range(count)) if process else [n for n in range(count) if n != process]
    self._refusal = ''  # Why the processes cannot join.
    self._exchanges = 0
    # In process 0, by exchange and process: the exchange's name and what the process contributed.
    self._contributions: dict[int, dict[int, tuple[str, Any]]] = {}
    self._results: dict[int, list[Any]] = {}

  def name(self, process: int) -> str:
    """Returns 'process N (HOST)'."""
    return f'process {process}' + (f' ({self.hosts[process]})' if self.hosts[process] else '')

  # Joining.

  def join(self, timeout: float) -> None:
    """Waits until all processes have joined; after a while a line names those that are missing.

    Args:
      timeout: seconds.

    Raises:
      UserError: if some process has not joined in time, or was started with other numbers.
      Interrupted: after a signal.
    """
    deadline = time.monotonic() + timeout
    if self.process == 0:
      self._listen()
    else:
      self._connect(deadline, timeout)
    self._connections.start()
    self._wait(
      lambda: self.all_joined, self._describe_missing, deadline if self.process == 0 else None
    )
    if self._refusal or not self.all_joined:
      refusal = self._refusal or (
        f'{self._describe_missing()} did not come to {self._describe_address()} within'
        f' {timeout:.0f} seconds; start each with the same --coordinator_address and'
        ' --num_processes, see docs/pods.md'
      )
      self.fail(refusal)
      raise UserError(refusal)

  def _listen(self) -> None:
    port = self._address[1]
    try:
      self._connections.listen(port, self.count)
    except (OSError, OverflowError) as error:
      raise UserError(
        f'--coordinator_address: this host cannot listen at port {port} ({error_reason(error)});'
        ' take another port'
      ) from None

  def _connect(self, deadline: float, timeout: float) -> None:
    """Connects to process 0 and introduces this process."""
    address = self._describe_address()
    start, is_reported, peer = time.monotonic(), False, None
    with _explain_interruption(lambda: f'process 0 at {address}'):
      while peer is None:
        try:
          peer = self._connections.connect(self._address, 0)
        except (OSError, OverflowError, UnicodeError) as error:
          now, reason = time.monotonic(), error_reason(error)
          if now > deadline:
            raise UserError(
              f'process 0 did not answer at {address} within {timeout:.0f} seconds ({reason});'
              ' start it, or correct --coordinator_address, see docs/pods.md'
            ) from None
          if not is_reported and now - start > _SILENT_WAIT:
            is_reported = True
            _print(f'waiting for process 0 at {address} ({reason})')
          time.sleep(0.5)
    peer.send(process=self.process, count=self.count, host=self.hosts[self.process])

  def _register(self, peer: Peer, message: dict[str, Any]) -> None:
    """Takes the first message of a connection to process 0."""
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
          self._connections.stop_listening()  # JAX's service takes the port.
          self.all_joined = True
        self._changed.notify_all()
      # The lists go to this process only: to send them to all whenever one joins would take a time
      # that grows with the third power of their number.
      peer.send(hosts=self.hosts, missing=self._missing)
      self._send_all(but=peer, joined=process, host=host)
      return
    peer.send(failed=refusal)
    self._refuse(refusal)

  def _refuse(self, refusal: str) -> None:
    with self._changed:
      self._refusal = refusal
      self._changed.notify_all()

  # Exchanging values.

  def exchange(self, name: str, value: Any = None) -> list[Any]:
    """Returns what every process contributes to an exchange, in the order of the processes.

    Args:
      name: of the exchange, the same in all processes.
      value: this process's contribution, of types that JSON has.

    Raises:
      Interrupted: after a signal, in a block that signals interrupt.
    """
    number, self._exchanges = self._exchanges, self._exchanges + 1
    if self.process == 0:
      self._contribute(0, number, name, value)
    else:
      self._send_all(at=number, name=name, value=value)
    self._wait(lambda: number in self._results, lambda: self._describe_late(number))
    return self._results.pop(number)

  def _contribute(self, process: int, number: int, name: str, value: Any) -> None:
    """Records a contribution in process 0, which sends all of them out when they are complete."""
    with self._changed:
      contributions = self._contributions.setdefault(number, {})
      contributions[process] = name, value
      if len(contributions) < self.count:
        return
      del self._contributions[number]
    names = [contributions[n][0] for n in range(self.count)]
    different = next((n for n in range(self.count) if names[n] != names[0]), None)
    if different is not None:
      self._end_run(
        f'{self.name(0)} is at {names[0]!r} and {self.name(different)} at {names[different]!r};'
        ' start all with the same command',
        failed=True,
      )
      return
    values = [contributions[n][1] for n in range(self.count)]
    self._send_all(number=number, values=values)
    with self._changed:
      self._results[number] = values
      self._changed.notify_all()

  # Signals and the end.

  def send_signal(self, number: int) -> None:
    """Passes a signal on to all other processes."""
    self._send_all(stop=number)

  def fail(self, sentence: str) -> None:
    """Tells the others why this process ends, so that they end too, and waits until they know."""
    self.run_has_ended = True  # What follows from it here is no news.
    self._send_all(failed=sentence)
    self._wait_silently(
      lambda: not self._connections.introduced(), _FAREWELL_TIMEOUT if self.process == 0 else 0.0
    )

  def leave(self, timeout: float) -> None:
    """Tells the others that this process ends in order.

    Process 0, whose service the others may need, first waits until they leave too.

    Args:
      timeout: the most seconds that process 0 waits.
    """
    self._is_leaving = True
    if self.process == 0:
      self._wait_silently(
        lambda: all(peer.is_leaving for peer in self._connections.introduced()), timeout
      )
    self._send_all(leaving=True)

  def _end_run(self, sentence: str, failed: bool, source: Peer | None = None) -> None:
    """Tells this process and all others, except the `source`, that the run has ended; once."""
    if self.run_has_ended:
      return
    self.run_has_ended = True
    self._send_all(but=source, failed=sentence, gone=not failed)
    if self.all_joined:
      self._on_end(sentence, failed)
    else:
      self._refuse(sentence)

  # Called by the reading thread.

  def _handle(self, peer: Peer, message: dict[str, Any]) -> None:
    if peer.process is None:
      self._register(peer, message)
    elif 'missing' in message:
      self._update_missing(message['hosts'], message['missing'])
    elif 'joined' in message:
      process = message['joined']
      self.hosts[process] = message['host']
      self._update_missing(self.hosts, [n for n in self._missing if n != process])
    elif 'left' in message:
      self._update_missing(self.hosts, sorted({*self._missing, message['left']}))
    elif 'at' in message:
      self._contribute(peer.process, message['at'], message['name'], message['value'])
    elif 'values' in message:
      with self._changed:
        self._results[message['number']] = message['values']
        self._changed.notify_all()
    elif 'stop' in message:
      self._send_all(but=peer, stop=message['stop'])
      self._on_signal(message['stop'])
    elif 'failed' in message:
      self._end_run(message['failed'], not message.get('gone'), source=peer)
    elif 'leaving' in message:
      with self._changed:
        peer.is_leaving = True
        self._changed.notify_all()

  def _update_missing(self, hosts: list[str], missing: list[int]) -> None:
    with self._changed:
      self.hosts, self._missing = hosts, missing
      self.all_joined = not missing
      self._changed.notify_all()

  def _handle_closed(self, peer: Peer, what_happened: str) -> None:
    """Ends the run, unless the peer is a stranger, has left in order, or may still join again."""
    if peer.process is None:
      return
    if self.process == 0 and not self.all_joined:
      with self._changed:
        self._missing = sorted({*self._missing, peer.process})
      self._send_all(but=peer, left=peer.process)
      return
    if peer.is_leaving or self._is_leaving:
      return
    remedy = 'its own output may say why; the same command goes on from the newest checkpoint'
    if not self.all_joined:
      what_happened = f'at {self._describe_address()} has ended, or begun without this one'
      remedy = 'start all processes together, see docs/pods.md'
    self._end_run(f'{self.name(peer.process)} {what_happened}; {remedy}', failed=False)

  def _send_all(self, but: Peer | None = None, **message: Any) -> None:
    line = encode(message)
    for peer in self._connections.introduced():
      if peer is not but:
        peer.send_line(line)

  # Waiting.

  def _wait(
    self,
    is_ready: Callable[[], bool],
    describe: Callable[[], str],
    deadline: float | None = None,
  ) -> None:
    """Waits in Python, where signals are handled at once.

    Args:
      is_ready: ends the wait.
      describe: returns whom this process waits for.
      deadline: on the monotonic clock.
    """
    start, is_reported = time.monotonic(), False
    with _explain_interruption(describe), self._changed:
      while not is_ready() and not self._refusal:
        now = time.monotonic()
        if deadline is not None and now > deadline:
          return
        if not is_reported and now - start > _SILENT_WAIT:
          is_reported = True
          _print(f'waiting for {describe()}')
        self._changed.wait(0.5)

  def _wait_silently(self, is_ready: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    with self._changed:
      while not is_ready() and time.monotonic() < deadline:
        self._changed.wait(0.1)

  def _describe_address(self) -> str:
    return f'{self._address[0]}:{self._address[1]}'

  def _describe_missing(self) -> str:
    """Returns the names of the processes that have not joined."""
    return self._describe([n for n in self._missing if n != self.process])

  def _describe_late(self, number: int) -> str:
    """Returns who has not contributed to an exchange, as far as this process knows."""
    contributions = self._contributions.get(number)
    if contributions is None:  # Only process 0 knows, until it has all and sends them out.
      return 'the other processes'
    return self._describe([n for n in range(self.count) if n not in contributions])

  def _describe(self, processes: list[int]) -> str:
    if len(processes) == self.count - 1 > 1:
      return f'the other {len(processes)} processes'
    names = ', '.join(map(self.name, processes[:5]))
    more = f' and {len(processes) - 5} more' if len(processes) > 5 else ''
    return f'{names}{more} of {self.count}'


@contextlib.contextmanager
def _explain_interruption(describe: Callable[[], str]) -> Iterator[None]:
  """Says in an `Interrupted` from the block whom the process was waiting for."""
  try:
    yield
  except Interrupted as interrupted:
    raise Interrupted(
      f'interrupted while waiting for {describe()}; the same command goes on', interrupted.status
    ) from None


def _print(text: str) -> None:
  with contextlib.suppress(OSError, ValueError):
    print(text, file=sys.stderr, flush=True)
