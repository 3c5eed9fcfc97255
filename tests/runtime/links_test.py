"""How processes join, wait for each other and lose each other; threads stand for the processes.

survival_test.py runs real processes.
"""

import contextlib
import dataclasses
import json
import shutil
import signal
import socket
import threading
import time

import pytest

from tests.ports import free_port
from tests.toy import Toy, build_toy
from zsar_jax.config import default_config
from zsar_jax.data import dataset, subset
from zsar_jax.errors import UserError
from zsar_jax.experiment import settings
from zsar_jax.runtime import agreement, connections, distributed, links, relay
from zsar_jax.runtime.interruption import DeferredSignals, Interrupted
from zsar_jax.storage import shared_folder


def connect(port):
  """A plain socket to a process that may not listen yet."""
  while True:
    with contextlib.suppress(ConnectionRefusedError):
      return socket.create_connection(('localhost', port), timeout=5)
    time.sleep(0.01)


class Process(links.Links):
  """A process that records the signals and the ends that it hears of."""

  def __init__(self, port, count, number):
    self.signals, self.ends = [], []
    super().__init__(
      ('localhost', port),
      count,
      number,
      self.signals.append,
      lambda sentence, failed: self.ends.append((sentence, failed)),
    )

  def wait_for_end(self):
    wait_until(lambda: self.ends)
    return self.ends

  def die(self):
    """Closes the connections, as the system does when a process is killed."""
    self.run_has_ended = True  # It sends nothing about what it sees.
    for peer in list(self._connections.peers):  # Its own thread removes them meanwhile.
      with contextlib.suppress(OSError):
        peer.socket.shutdown(socket.SHUT_RDWR)


def wait_until(is_ready):
  deadline = time.monotonic() + 5
  while not is_ready() and time.monotonic() < deadline:
    time.sleep(0.01)


def run_concurrently(*calls):
  """Returns what each call returns or raises; none may take a minute."""
  results = [None] * len(calls)

  def run(number):
    try:
      results[number] = calls[number]()
    except BaseException as error:
      results[number] = error

  threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(calls))]
  for thread in threads:
    thread.start()
  deadline = time.monotonic() + 60
  for thread in threads:
    thread.join(max(0, deadline - time.monotonic()))
  assert not any(thread.is_alive() for thread in threads), f'a call hangs: {results}'
  return results


def joined_processes(count):
  port = free_port()
  processes = [Process(port, count, number) for number in range(count)]
  answers = run_concurrently(*(lambda process=process: process.join(10) for process in processes))
  assert answers == [None] * count
  return processes


def test_an_exchange_gives_all_contributions_to_all():
  processes = joined_processes(3)
  for number in range(2):
    results = run_concurrently(
      *(
        lambda n=n, process=process, number=number: process.exchange('x', [n, number])
        for n, process in enumerate(processes)
      )
    )
    assert results == [[[0, number], [1, number], [2, number]]] * 3
  assert processes[2].hosts == [socket.gethostname()] * 3
  # A process that leaves in order does not end the others.
  run_concurrently(*(lambda process=process: process.leave(5) for process in processes))
  for process in processes:
    process.die()
  time.sleep(0.1)
  assert [process.ends for process in processes] == [[], [], []]


@pytest.mark.parametrize('gone', [0, 2])
def test_all_others_name_the_process_that_is_gone(gone):
  processes = joined_processes(3)
  processes[gone].die()
  for number in {0, 1, 2} - {gone}:
    ((sentence, failed),) = processes[number].wait_for_end()
    assert sentence.startswith(f'process {gone} ({socket.gethostname()}) is gone'), sentence
    assert not failed


def test_a_silent_process_is_gone(monkeypatch):
  monkeypatch.setattr(connections, 'SILENCE_TIMEOUT', 0.6)
  monkeypatch.setattr(connections, '_HEARTBEAT_INTERVAL', 0.2)
  port = free_port()
  first = Process(port, 2, 0)
  joining = threading.Thread(target=lambda: first.join(10), daemon=True)
  joining.start()
  with connect(port) as silent:
    silent.sendall(b'{"process": 1, "count": 2, "host": "somewhere"}\n')
    joining.join()
    ((sentence, _),) = first.wait_for_end()
  assert 'process 1 (somewhere) has not answered for' in sentence


@pytest.mark.parametrize('failing', [0, 1])
def test_a_process_that_fails_tells_the_others(failing, monkeypatch):
  monkeypatch.setattr(links, '_FAREWELL_TIMEOUT', 0.1)
  processes = joined_processes(3)
  processes[failing].fail('the disk is full')
  for number in {0, 1, 2} - {failing}:
    assert processes[number].wait_for_end() == [('the disk is full', True)]


def test_a_late_process_is_refused():
  """JAX's service, or another program, has the port by then."""
  with socket.create_server(('localhost', 0)) as other:
    late = Process(other.getsockname()[1], 2, 1)
    threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
    with pytest.raises(UserError, match='process 0 at localhost:.* or begun without this one'):
      late.join(5)


def test_signals_reach_all_others():
  processes = joined_processes(3)
  processes[1].send_signal(15)
  wait_until(lambda: processes[0].signals and processes[2].signals)
  assert [process.signals for process in processes] == [[15], [], [15]]


def test_different_exchanges_at_once_are_an_error():
  first, second = joined_processes(2)
  threads = [
    threading.Thread(target=process.exchange, args=(name,), daemon=True)
    for process, name in ((first, 'the checkpoint'), (second, 'the evaluation'))
  ]
  for thread in threads:
    thread.start()
  for process in (first, second):
    ((sentence, failed),) = process.wait_for_end()
    assert "at 'the checkpoint'" in sentence
    assert "at 'the evaluation'" in sentence
    assert failed


def test_a_missing_process_is_named(monkeypatch):
  monkeypatch.setattr(links, '_FAREWELL_TIMEOUT', 0.1)
  port = free_port()
  answers = run_concurrently(*(lambda n=n: Process(port, 4, n).join(5) for n in (0, 1, 3)))
  for answer in answers:
    assert isinstance(answer, UserError)
    assert str(answer).startswith(f'process 2 of 4 did not come to localhost:{port}')
  with pytest.raises(UserError, match='process 0 did not answer at localhost:.*refused'):
    Process(free_port(), 2, 1).join(0.3)


def test_a_process_that_ends_before_all_have_joined_may_join_again():
  """The others must not take it for joined."""
  port = free_port()
  first, second, third = (Process(port, 4, number) for number in range(3))
  threads = [
    threading.Thread(target=process.join, args=(20,)) for process in (first, second, third)
  ]
  for thread in threads[:2]:
    thread.start()
  with connect(port) as restarted:
    restarted.sendall(b'{"process": 3, "count": 4, "host": "a"}\n')
    wait_until(lambda: second.hosts[3])
    assert second._describe_missing() == 'process 2 of 4'
  wait_until(lambda: len(second._missing) == 2)
  threads[2].start()
  wait_until(lambda: third.hosts[0] and second.hosts[2])
  assert second._describe_missing() == third._describe_missing() == 'process 3 (a) of 4'
  assert not second.all_joined
  last = Process(port, 4, 3)
  last.join(20)
  for thread in threads:
    thread.join()
  assert all(process.hosts == [socket.gethostname()] * 4 for process in (first, second, last))


def test_process_0_says_who_is_late():
  """It names at most five, and none while it sends out what all have contributed."""
  processes = joined_processes(8)
  threads = [threading.Thread(target=process.exchange, args=('x',)) for process in processes[:2]]
  for thread in threads:
    thread.start()
  wait_until(lambda: len(processes[0]._contributions.get(0, ())) == 2)
  host = socket.gethostname()
  names = ', '.join(f'process {number} ({host})' for number in range(2, 7))
  assert processes[0]._describe_late(0) == f'{names} and 1 more of 8'
  run_concurrently(*(lambda process=process: process.exchange('x') for process in processes[2:]))
  assert processes[0]._describe_late(0) == 'the other processes'
  for thread in threads:
    thread.join()


def test_contradicting_numbers_are_refused(monkeypatch):
  monkeypatch.setattr(links, '_FAREWELL_TIMEOUT', 0.1)
  port = free_port()
  processes = [Process(port, 2, 0), Process(port, 3, 1)]
  for answer in run_concurrently(
    *(lambda process=process: process.join(5) for process in processes)
  ):
    assert '--num_processes is 2 in process 0' in str(answer)
    assert 'and 3 in process 1' in str(answer)
  port = free_port()
  processes = [Process(port, 3, 0), Process(port, 3, 1), Process(port, 3, 1)]
  for answer in run_concurrently(
    *(lambda process=process: process.join(5) for process in processes)
  ):
    assert str(answer) == 'two processes are process 1: --process_id differs in each'


def test_strangers_are_ignored():
  port = free_port()
  first, second = Process(port, 2, 0), Process(port, 2, 1)
  waiting = threading.Thread(target=lambda: first.join(10))
  waiting.start()
  for text in (b'GET / HTTP/1.1\r\n\r\n', b'[1]\n', b'x' * 10_000, b'{"process": null}\n', b''):
    with connect(port) as stranger, contextlib.suppress(ConnectionError):
      stranger.sendall(text)
  second.join(10)
  waiting.join()
  assert first.all_joined
  assert not first.ends


@pytest.mark.parametrize('waiting', ['join', 'connection', 'exchange'])
def test_a_signal_ends_the_wait_at_once(waiting):
  first = Process(free_port(), 2, 1 if waiting == 'connection' else 0)
  if waiting == 'exchange':
    first, _ = joined_processes(2)
  start = time.monotonic()
  with DeferredSignals() as signals:
    threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM]).start()
    with pytest.raises(Interrupted) as end, signals.interruptible():
      first.exchange('x') if waiting == 'exchange' else first.join(60)
  assert time.monotonic() - start < 3
  expected = 'process 0 at localhost' if waiting == 'connection' else 'process 1'
  assert str(end.value).startswith(f'interrupted while waiting for {expected}')
  assert end.value.status == 0


def test_a_relay_hides_that_the_service_is_gone():
  service = socket.create_server(('127.0.0.1', 0))
  client = socket.create_connection(('127.0.0.1', relay.start_relay(service.getsockname()[:2])))
  answering, _ = service.accept()
  client.sendall(b'question')
  assert answering.recv(100) == b'question'
  answering.sendall(b'answer')
  assert client.recv(100) == b'answer'
  answering.close()
  service.close()
  client.settimeout(0.3)
  with pytest.raises(TimeoutError):
    client.recv(100)


@pytest.fixture
def run_in_both(monkeypatch):
  """Calls a function with 0 and with 1, in two "processes"; returns or raises what both do."""
  current = threading.local()

  class CurrentLinks:
    def __getattr__(self, name):
      return getattr(current.links, name)

  monkeypatch.setattr(distributed, '_links', CurrentLinks())
  monkeypatch.setattr(distributed, 'is_main', lambda: current.links.process == 0)
  processes = joined_processes(2)

  def run(function):
    def call(number):
      current.links = processes[number]
      return function(number)

    first, second = run_concurrently(lambda: call(0), lambda: call(1))
    if isinstance(first, BaseException):
      assert str(first) == str(second)
      raise first
    assert not isinstance(second, BaseException), second
    return first, second

  return run


def test_process_0_makes_values_and_files_for_all(run_in_both):
  assert (
    run_in_both(lambda n: distributed.broadcast_from_main(lambda: {'from': n}))
    == ({'from': 0},) * 2
  )
  calls = []
  assert run_in_both(lambda n: distributed.run_main_first(lambda: calls.append(n) or n)) == (0, 1)
  assert calls == [0, 1]


@pytest.mark.parametrize(
  ('field', 'values', 'mode'),
  [
    ('optim.lr', (1e-3, 2e-3), 'train'),
    ('data.batch_size', (16, 32), 'eval'),
    ('checkpoint.every', (5, 6), 'train'),
    ('seed', (0, 1), 'train'),
    ('recipe', ('none', 'object=mean'), 'eval'),
    ('model.init_from', ('', 'other'), 'train'),
  ],
)
def test_a_different_config_is_named(run_in_both, field, values, mode):
  def check(number):
    config = default_config()
    config.update_from_flattened_dict({field: values[number]})
    agreement.check_command(settings(config, mode))

  with pytest.raises(UserError) as error:
    run_in_both(check)
  first, second = values
  assert f'config.{field} is {first!r} in process 0 ({socket.gethostname()})' in str(error.value)
  assert f'and {second!r} in process 1 ({socket.gethostname()})' in str(error.value)


def test_different_modes_and_versions_are_named(run_in_both, monkeypatch):
  run_in_both(lambda n: agreement.check_command(settings(default_config(), 'eval')))
  with pytest.raises(UserError, match="--mode is 'train' in process 0"):
    run_in_both(lambda n: agreement.check_command(settings(default_config(), ['train', 'eval'][n])))
  numbers = iter(['0.10.2', '0.12.0'])
  monkeypatch.setattr(agreement, '_versions', lambda: {"jax's version": next(numbers)})
  with pytest.raises(UserError, match="jax's version is '0.1.*' in process 0 .* the same versions"):
    run_in_both(lambda n: agreement.check_command(settings(default_config(), 'eval')))


def test_the_workdir_is_the_same_folder(run_in_both, tmp_path, monkeypatch):
  monkeypatch.setattr(shared_folder, '_VISIBILITY_TIMEOUT', 0.1)
  run_in_both(lambda n: shared_folder.check_workdir(tmp_path / 'shared'))
  assert list((tmp_path / 'shared').iterdir()) == []
  (tmp_path / '1').mkdir()
  with pytest.raises(UserError, match=r'--workdir: process 1 .*/1 what process 0 wrote to .*/0;'):
    run_in_both(lambda n: shared_folder.check_workdir(tmp_path / str(n)))
  assert not (tmp_path / '0' / 'checkpoints').exists()


def test_different_data_are_named(run_in_both, tmp_path, monkeypatch):
  tasks = Toy.tasks

  def tasks_with_a_longer_clip(self):
    first, *others = tasks(self)['train']
    longer = dataclasses.replace(first, num_frames=first.num_frames + 1)
    return tasks(self) | {'train': [longer, *others]}

  build_toy(tmp_path / '0')

  def check(number):
    folder = str(tmp_path / str(number))
    clips = subset.select(dataset.open_dataset(folder, 'toy', 'train'), 'base', 'leave', 'field')
    identity = subset.data_identity(clips)
    agreement.check_files(lambda: {'config.data.train': identity})

  shutil.copytree(tmp_path / '0', tmp_path / '1')
  run_in_both(check)
  shutil.rmtree(tmp_path / '1')
  monkeypatch.setattr(Toy, 'tasks', tasks_with_a_longer_clip)
  build_toy(tmp_path / '1')
  with pytest.raises(UserError, match="config.data.train is '23 of 37 clips.* give all hosts"):
    run_in_both(check)


def test_checksums_of_arrays():
  tree = {'a': [1.0, 2.0], 'b': 3}
  assert agreement.tree_checksum(tree) == agreement.tree_checksum(json.loads(json.dumps(tree)))
  assert agreement.tree_checksum(tree) != agreement.tree_checksum({'a': [1.0, 2.5], 'b': 3})
  assert agreement.tree_checksum(tree) != agreement.tree_checksum({'a': [1.0, 2.0], 'c': 3})
