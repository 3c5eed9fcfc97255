"""Stages a chunk, the unit of work of a build: encodes a few clips into one file of records.

A chunk is a list of tasks, one for each clip. Staging it writes three files:

    {path}.array_record             the serialized records of the clips that can be read, in order
    {path}.array_record.frames.npy  where their frames are, see `zsar_jax.data.frame_table`
    {path}.json                     the chunk's fingerprint, index entries and failures

A chunk is finished when its .json file exists, which is written last. The bytes depend only on the
chunk, so that chunks may be staged in any process and in any order. Staging a finished chunk again
only retries the clips that failed.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
from array_record.python import array_record_module

from zsar_jax.data import frame_table, records
from zsar_jax.data.records import ClipError
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.storage import file_systems
from zsar_jax.storage.files import write_file

# Frames and planes are compressed already. Groups of one record allow random access.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


class ClipTask(Protocol):
  """The inputs that determine a clip: a small dataclass that pickles."""

  __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

  @property
  def id(self) -> str:
    """The clip's id, unique in the split."""


Encode = Callable[[Any], records.EncodedClip]


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Some clips of a split.

  Attributes:
    tasks: one for each clip.
    encode: a module-level function from a task to the encoded clip; raises `records.ClipError`.
    classes: the data set's vocabulary.
    parameters: everything else that determines the records, as JSON values.
    inpainted: whether the data set has inpainted frames; implied by the parameters.
  """

  tasks: tuple[ClipTask, ...]
  encode: Encode
  classes: tuple[str, ...]
  parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
  inpainted: bool = False

  def fingerprint(self) -> str:
    """Returns a hash that is equal for two chunks with the same records."""
    content: list[Any] = [f'{self.encode.__module__}.{self.encode.__qualname__}', self.classes]
    content.append(self.parameters)
    content += [dataclasses.asdict(task) for task in self.tasks]
    return hashlib.sha256(json.dumps(content, default=_jsonable).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class IndexEntry:
  """One clip in the index and the report; see `clip_index.ClipIndex` and `EncodedClip`.

  `start` and `mark` are set when the record is written. Entries that an earlier version staged have
  no `failed_gates`.
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
  failed_gates: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Failure:
  """A clip that could not be built."""

  id: str
  reason: str
  missing: bool


# A clip's index entry with its serialized record, or its failure.
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
  """Stages a chunk; if it was staged before, retries the clips that failed.

  Args:
    chunk: the clips.
    path: where to write, without the files' extensions.

  Raises:
    UserError: if the files cannot be written.
  """
  previous = _load(path, chunk)
  if previous is None:
    outcomes: Iterator[tuple[IndexEntry, bytes] | Failure] = (
      _encode(chunk, task) for task in chunk.tasks
    )
  else:
    failed = {failure.id for failure in previous.failures}
    retried = {task.id: _encode(chunk, task) for task in chunk.tasks if task.id in failed}
    if all(isinstance(outcome, Failure) for outcome in retried.values()):
      return previous
    outcomes = _merge(chunk, previous, retried)
  return _write(outcomes, path, chunk)


def serialized_size(chunk: Chunk, task: ClipTask) -> int | None:
  """Returns the size of the record of one of the chunk's tasks, in bytes, or None if it fails."""
  outcome = _encode(chunk, task)
  return None if isinstance(outcome, Failure) else len(outcome[1])


def _encode(chunk: Chunk, task: ClipTask) -> _Outcome:
  try:
    clip = chunk.encode(task)
  except ClipError as error:
    return Failure(task.id, error.reason, error.missing)
  except cv2.error as error:
    return Failure(task.id, f'OpenCV cannot encode it: {error}'.splitlines()[0], missing=False)
  record = clip.record
  if chunk.inpainted:
    # Recipes rely on it: where people are known, frames without them are.
    people_known = np.isfinite(clip.coverage[list(REGION_BITS).index('person')])
    assert 'inpainted' in record or not people_known, f'no inpainted frames of {task.id}'
    record.setdefault('inpainted', [])
  entry = IndexEntry(
    id=task.id,
    label=record['label'],
    num_frames=len(record['frames']),
    num_annotated=sum(record['annotated']),
    coverage=clip.coverage,
    empty=clip.empty,
    remarks=clip.remarks,
    attributes=record['attributes'],
    failed_gates=clip.failed_gates,
  )
  return entry, records.serialize(record)


def _merge(chunk: Chunk, previous: StagedChunk, retried: dict[str, _Outcome]) -> Iterator[_Outcome]:
  """Yields the outcomes of all tasks, in order: retried ones, and the others from the file."""
  reader = array_record_module.ArrayRecordReader(os.fspath(previous.records))
  entries = enumerate(previous.entries)
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
    # The report must never describe another file than the one beside it.
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
    write_file(report, json.dumps(content))
  except (OSError, RuntimeError, ValueError) as error:  # ArrayRecord raises RuntimeErrors.
    raise UserError(
      f'{path}: the records cannot be written ({error}); check whether the disk is full, make room,'
      ' and the same command continues'
    ) from None
  return staged


def _load(path: str, chunk: Chunk) -> StagedChunk | None:
  """Returns the chunk staged at `path`; None if it is unfinished or another chunk."""
  output, report = _paths(path)
  try:
    content = json.loads(report.read_text())
    size = output.stat().st_size
    frame_table.table_path(output).stat()
    if content['fingerprint'] != chunk.fingerprint() or content['bytes'] != size:
      return None
    if not all('mark' in entry for entry in content['entries']):
      return None  # Staged by an earlier version.
    return StagedChunk(
      output,
      tuple(_entry(entry) for entry in content['entries']),
      tuple(Failure(**failure) for failure in content['failures']),
    )
  except (FileNotFoundError, KeyError, TypeError, ValueError):  # Missing, cut, or another format.
    return None


def _entry(values: dict[str, Any]) -> IndexEntry:
  """Restores an entry from JSON, which has no tuples."""
  return IndexEntry(**values | {name: tuple(values[name]) for name in ('coverage', 'empty')})


def _paths(path: str) -> tuple[pathlib.Path, pathlib.Path]:
  return pathlib.Path(f'{path}.array_record'), pathlib.Path(f'{path}.json')


def _jsonable(value: Any) -> Any:
  """Returns a JSON value in place of an array or a path in a task."""
  if isinstance(value, np.ndarray):
    return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
  return str(value)
