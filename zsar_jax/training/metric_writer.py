"""Writes a run's metrics: metrics.jsonl, and copies for other programs such as TensorBoard."""

import contextlib
import json
import os
import pathlib
import socket
import struct
import time
from typing import Any, Protocol

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed
from zsar_jax.storage.files import naming, write_file


class Mirror(Protocol):
  """Shows the metrics in another program. It exists in process 0 only."""

  def write(self, step: int, values: dict[str, float], more: bool) -> None:
    """Takes the arguments of `MetricWriter.write`."""

  def close(self, failed: bool) -> None:
    """Closes it; `failed` says whether the run ends by an error or a signal."""


class MetricWriter:
  """Writes one JSON object per step to `workdir`/metrics.jsonl, and optionally TensorBoard events.

  A resumed run drops the lines after its checkpoint, because it will write them again: the file
  has each step once. Only process 0 writes.

  Attributes:
    kept: the lines up to the step that the run resumes after.
    last: the last line, as a dictionary; {} if there is none.
    last_on_disk: the last line before lines were dropped, as a dictionary; {} if there is none.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    first_step: int,
    tensorboard: bool,
    out: pathlib.Path | None = None,
  ):
    """Opens the files.

    Args:
      workdir: the run's folder.
      first_step: the step after which the run resumes; 0 starts an empty file.
      tensorboard: whether to write event files too.
      out: where to write, a folder of this machine, see `OutputFolder.path`; None for `workdir`.

    Raises:
      UserError: if `tensorboard` is set and tensorboardX is not installed.
    """
    out = out or workdir
    lines = distributed.broadcast_from_main(lambda: _read_lines(workdir / 'metrics.jsonl'))
    self.kept = kept = [line for line in lines if line['step'] <= first_step]
    self.last: dict[str, Any] = kept[-1] if kept else {}
    self.last_on_disk: dict[str, Any] = lines[-1] if lines else {}
    self._file = None
    self._mirrors: list[Mirror] = []
    if distributed.is_main():
      path = out / 'metrics.jsonl'
      write_file(path, ''.join(json.dumps(line) + '\n' for line in kept))
      self._path, self._file = path, path.open('r+b', buffering=0)
      end = self._file.seek(0, os.SEEK_END)
      self._start = end - len(_encode(self.last))
      if tensorboard:
        self.add(_TensorBoard(out, first_step))

  def add(self, mirror: Mirror) -> None:
    """Also writes to `mirror` from now on."""
    self._mirrors.append(mirror)

  def write(self, step: int, values: dict[str, float], more: bool = False) -> None:
    """Writes the values of a step; values of the last step join its line.

    The line is handed to the system at once, so that a crash of the process does not lose it. If
    the disk is full, the file keeps its complete lines.

    Args:
      step: its number.
      values: by the names of the metrics.
      more: whether other values of this step will follow.
    """
    same_step = self.last.get('step') == step
    before, self.last = self.last, self.last | values if same_step else {'step': step, **values}
    if self._file:
      if not same_step:
        self._start += len(_encode(before))
      try:
        self._put(_encode(self.last))
      except OSError:
        with contextlib.suppress(OSError):  # The line that was replaced had its space already.
          self._put(_encode(before) if same_step else b'')
        raise
    for mirror in self._mirrors:
      mirror.write(step, values, more)

  def _put(self, encoded: bytes) -> None:
    """Replaces the file's content from the last line on."""
    assert self._file
    with naming(self._path):
      self._file.seek(self._start)
      while encoded:
        encoded = encoded[self._file.write(encoded) :]
      self._file.truncate()

  def close(self, failed: bool = False) -> None:
    """Closes the files; `failed` says whether the run ends by an error or a signal."""
    if self._file:
      self._file.close()
    for mirror in self._mirrors:
      mirror.close(failed)


def _encode(line: dict[str, Any]) -> bytes:
  return json.dumps(line).encode() + b'\n' if line else b''


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of a metrics file, up to one that a crash cut short."""
  lines = []
  if path.exists():
    for text in path.read_text().splitlines():
      try:
        line = json.loads(text)
        line['step'] + 0
      except (ValueError, TypeError, KeyError):
        break
      lines.append(line)
  return lines


class _TensorBoard:
  """Writes event files, which TensorBoard shows.

  tensorboardX encodes the events. Its own writer has a thread that ends if the disk is full, after
  which the program waits for it forever.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int):
    try:
      from tensorboardX import record_writer, summary
      from tensorboardX.proto import event_pb2
    except ImportError:
      raise UserError(
        "config.log.tensorboard: tensorboardX is not installed; pip install 'zsar_jax[tensorboard]'"
      ) from None
    self._checksum, self._scalar = record_writer.masked_crc32c, summary.scalar
    self._event = event_pb2.Event
    folder = workdir / 'tensorboard'
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard looks for 'tfevents', and reads the files in the order of their names.
    name = f'events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}'
    self._path, self._file = folder / name, (folder / name).open('wb')
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._put(
      self._event(wall_time=time.time(), file_version='brain.Event:2'),
      # TensorBoard drops the events of later steps from earlier files.
      self._event(wall_time=time.time(), step=first_step + 1, session_log=start),
    )

  def write(self, step: int, values: dict[str, float], more: bool) -> None:
    del more
    now = time.time()
    self._put(
      *(
        self._event(wall_time=now, step=step, summary=self._scalar(name, value))
        for name, value in values.items()
      )
    )

  def _put(self, *events: Any) -> None:
    """Writes events as the records of a TFRecord file."""
    with naming(self._path):
      for event in events:
        content = event.SerializeToString()
        size = struct.pack('<Q', len(content))
        for part in (size, content):
          self._file.write(part + struct.pack('<I', self._checksum(part)))
      self._file.flush()

  def close(self, failed: bool) -> None:
    del failed
    with contextlib.suppress(OSError):  # Of a full disk, which `write` has reported.
      self._file.close()
