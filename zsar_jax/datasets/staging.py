"""Encoding the clips of one chunk into one file: the unit of work of building a data set.

A chunk is a short list of tasks, one for each clip. Staging it writes three files:

    {path}.array_record             the serialized records of the clips that could be read, in order
    {path}.array_record.frames.npy  where their frames are, see `zsar_jax.data.frame_table`
    {path}.json                     the tasks' fingerprint, the records' index entries, the failures

The .json file is written last, so that where it exists the chunk is finished. Staging is a
function of the chunk and the path alone: it may run in this process or any other, in any
order, and leaves the same bytes. A finished chunk is kept; of its clips only those that
had failed are tried again.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import cv2
import numpy as np
from array_record.python import array_record_module

from zsar_jax.data import frame_table, records
from zsar_jax.data.records import ClipError
from zsar_jax.errors import UserError
from zsar_jax.runtime import file_systems

# Frames and planes are compressed already. Groups of one record allow random access.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


class ClipTask(Protocol):
  """What is to be done for one clip: a small dataclass that pickles."""

  @property
  def id(self) -> str:
    """The clip's id, unique in the split."""


Encode = Callable[[Any], records.EncodedClip]


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Some clips of a split.

  Attributes:
    tasks: one for each clip.
    encode: a function of a module, from a task to the encoded clip; raises
      `records.ClipError`.
    classes: the data set's vocabulary.
    parameters: what else determines the records, as JSON values.
  """

  tasks: tuple[ClipTask, ...]
  encode: Encode
  classes: tuple[str, ...]
  parameters: dict[str, Any] = dataclasses.field(default_factory=dict)

  def fingerprint(self) -> str:
    """Equal for two chunks that stage the same bytes."""
    content = [f'{self.encode.__module__}.{self.encode.__qualname__}', self.classes]
    content.append(self.parameters)
    content += [dataclasses.asdict(task) for task in self.tasks]
    return hashlib.sha256(json.dumps(content, default=_jsonable).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class IndexEntry:
  """What the index and the report say of one clip; see `dataset.ClipIndex` and `EncodedClip`.

  `start` and `mark` are known when the record is written.
  """

  id: str
  label: int
  num_frames: int
  num_annotated: int
  coverage: tuple[float, ...]
  empty: tuple[int, ...]
  remarks: dict[str, str]
  attributes: str
  start: int = 0
  mark: int = 0


@dataclasses.dataclass(frozen=True)
class Failure:
  """A clip that could not be built."""

  id: str
  reason: str
  missing: bool


# A clip's index entry with its serialized record, or why there is none.
_Outcome = tuple[IndexEntry, bytes] | Failure


@dataclasses.dataclass(frozen=True)
class StagedChunk:
  """A staged chunk.

  Attributes:
    records: the file of its records.
    entries: one for each record, in order.
    failures: the other clips, in order.
  """

  records: pathlib.Path
  entries: tuple[IndexEntry, ...]
  failures: tuple[Failure, ...]


def stage_chunk(chunk: Chunk, path: str) -> StagedChunk:
  """Stages a chunk, or what is left of it to do.

  Args:
    chunk: the clips.
    path: where, without the files' extensions.
  """
  before = _load(path, chunk)
  if before is None:
    outcomes = (_attempt(chunk, task) for task in chunk.tasks)
  else:
    failed = {failure.id for failure in before.failures}
    retried = {task.id: _attempt(chunk, task) for task in chunk.tasks if task.id in failed}
    if all(isinstance(outcome, Failure) for outcome in retried.values()):
      return before
    outcomes = _merged(chunk, before, retried)
  return _write(outcomes, path, chunk)


def serialized_size(chunk: Chunk, task: ClipTask) -> int | None:
  """The bytes that the record of one of the chunk's tasks takes, or None if it fails."""
  outcome = _attempt(chunk, task)
  return None if isinstance(outcome, Failure) else len(outcome[1])


def _attempt(chunk: Chunk, task: ClipTask) -> _Outcome:
  try:
    clip = chunk.encode(task)
  except ClipError as error:
    return Failure(task.id, error.reason, error.missing)
  except cv2.error as error:
    return Failure(task.id, f'OpenCV cannot encode it: {error}'.splitlines()[0], missing=False)
  record = clip.record
  entry = IndexEntry(
    id=task.id,
    label=record['label'],
    num_frames=len(record['frames']),
    num_annotated=sum(record['annotated']),
    coverage=clip.coverage,
    empty=clip.empty,
    remarks=clip.remarks,
    attributes=record['attributes'],
  )
  return entry, records.serialize(record)


def _merged(chunk: Chunk, before: StagedChunk, retried: dict[str, _Outcome]) -> Iterator[_Outcome]:
  """The outcomes of all tasks, in order: the retried ones and, from the file, the others."""
  reader = array_record_module.ArrayRecordReader(os.fspath(before.records))
  entries = enumerate(before.entries)
  for task in chunk.tasks:
    if task.id in retried:
      yield retried[task.id]
    else:
      position, entry = next(entries)
      yield entry, reader.read([position])[0]
  reader.close()


def _write(outcomes: Iterable[_Outcome], path: str, chunk: Chunk) -> StagedChunk:
  output, report = _paths(path)
  temporary = pathlib.Path(f'{path}.tmp')
  entries, failures = [], []
  located, sizes = [], []
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    writer = array_record_module.ArrayRecordWriter(os.fspath(temporary), _WRITER_OPTIONS)
    for outcome in outcomes:
      if isinstance(outcome, Failure):
        failures.append(outcome)
      else:
        entry, serialized = outcome
        entries.append(entry)
        located.append(frame_table.locate_frames(serialized))
        sizes.append(len(serialized))
        writer.write(serialized)
    writer.close()
    reader = array_record_module.ArrayRecordReader(os.fspath(temporary))
    written = reader.num_records()
    reader.close()
    if written != len(entries):
      raise OSError(f'{written} of {len(entries)} records arrived')
    # A report never describes another file than the one beside it.
    report.unlink(missing_ok=True)
    file_systems.replace(temporary, output)
    marks = frame_table.write_table(frame_table.table_path(output), output, located, sizes)
    entries = [
      dataclasses.replace(entry, start=start, mark=mark)
      for entry, (start, mark) in zip(entries, marks, strict=True)
    ]
    staged = StagedChunk(output, tuple(entries), tuple(failures))
    content = {
      'fingerprint': chunk.fingerprint(),
      'bytes': output.stat().st_size,
      'entries': [dataclasses.asdict(entry) for entry in entries],
      'failures': [dataclasses.asdict(failure) for failure in failures],
    }
    temporary.write_text(json.dumps(content))
    file_systems.replace(temporary, report)
  except (OSError, RuntimeError, ValueError) as error:  # ArrayRecord's are not OSErrors.
    raise UserError(
      f'{path}: the records cannot be written ({error}); see whether the disk is full, make room,'
      ' and the same command continues'
    ) from None
  return staged


def _load(path: str, chunk: Chunk) -> StagedChunk | None:
  """What was staged at `path`, if it was finished and is the same chunk."""
  output, report = _paths(path)
  try:
    content = json.loads(report.read_text())
    size = output.stat().st_size
    frame_table.table_path(output).stat()
    if content['fingerprint'] != chunk.fingerprint() or content['bytes'] != size:
      return None
    if not all('mark' in entry for entry in content['entries']):
      return None  # An earlier version staged it.
    return StagedChunk(
      output,
      tuple(_entry(entry) for entry in content['entries']),
      tuple(Failure(**failure) for failure in content['failures']),
    )
  except (FileNotFoundError, KeyError, TypeError, ValueError):  # Not there, cut, or another's.
    return None


def _entry(values: dict[str, Any]) -> IndexEntry:
  """An entry as it was before it became JSON, which has no tuples."""
  return IndexEntry(**values | {name: tuple(values[name]) for name in ('coverage', 'empty')})


def _paths(path: str) -> tuple[pathlib.Path, pathlib.Path]:
  return pathlib.Path(f'{path}.array_record'), pathlib.Path(f'{path}.json')


def _jsonable(value: Any) -> Any:
  """Stands in for what JSON does not know in a task: an array, or a path."""
  if isinstance(value, np.ndarray):
    return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
  return str(value)
