"""metrics.jsonl of runs that stop and resume."""

import json
import resource
import struct

import pytest

from zsar_jax.training.metric_writer import MetricWriter


def steps(workdir):
  return [json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('tail', ['', '{"step": 6, "lo', '\x00\x00', 'null\n{"step": 9}\n'])
def test_a_resumed_run_writes_no_step_twice(tmp_path, tail):
  first = MetricWriter(tmp_path, 0, tensorboard=False)
  for step in range(1, 6):
    first.write(step, {'loss': 1 / step})
  first.close()
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write(tail)
  second = MetricWriter(tmp_path, 3, tensorboard=False)
  for step in range(4, 8):
    second.write(step, {'loss': 1 / step})
  second.close()
  assert steps(tmp_path) == list(range(1, 8))


def test_a_new_run_begins_an_empty_file(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 5}\n')
  MetricWriter(tmp_path, 0, tensorboard=False).close()
  assert steps(tmp_path) == []


def test_an_evaluation_joins_the_line_of_its_step(tmp_path):
  writer = MetricWriter(tmp_path, 0, tensorboard=False)
  writer.write(1, {'loss': 1.0})
  writer.write(2, {'loss': 0.5})
  writer.write(2, {'toy/none/top1': 0.25})
  writer.close()
  # The run resumes after step 2 and repeats its evaluation.
  writer = MetricWriter(tmp_path, 2, tensorboard=False)
  assert writer.last == {'step': 2, 'loss': 0.5, 'toy/none/top1': 0.25}
  writer.write(2, {'loss': 0.5, 'toy/none/top1': 0.1234567})
  writer.write(2, {'toy/none/top1': 0.25, 'toy/none/top5': 0.75})
  writer.write(3, {'loss': 0.1})
  writer.close()
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert lines[1] == {'step': 2, 'loss': 0.5, 'toy/none/top1': 0.25, 'toy/none/top5': 0.75}
  assert [line['step'] for line in lines] == [1, 2, 3]


def test_event_files_are_read_by_other_programs(tmp_path):
  pytest.importorskip('tensorboardX')
  crc32c = pytest.importorskip('google_crc32c')
  from tensorboardX.proto import event_pb2

  writer = MetricWriter(tmp_path, 4, tensorboard=True)
  writer.write(5, {'loss': 0.5, 'toy/none/top1': 0.25})
  (path,) = (tmp_path / 'tensorboard').iterdir()
  content, events = path.read_bytes(), []  # While the file is open.
  writer.close()
  while content:
    (size,) = struct.unpack('<Q', content[:8])
    for start, end in ((0, 8), (12, 12 + size)):
      crc = crc32c.value(content[start:end])
      masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
      assert content[end : end + 4] == struct.pack('<I', masked)
    events.append(event_pb2.Event.FromString(content[12 : 12 + size]))
    content = content[16 + size :]
  assert events[0].file_version == 'brain.Event:2'
  assert (events[1].step, events[1].session_log.status) == (5, event_pb2.SessionLog.START)
  values = [(event.step, *event.summary.value) for event in events[2:]]
  assert [(step, value.tag, value.simple_value) for step, value in values] == [
    (5, 'loss', 0.5),
    (5, 'toy/none/top1', 0.25),
  ]


def test_a_full_disk_cuts_no_line(tmp_path):
  """The evaluation of a step would be lost with its line, as the run resumes after that step."""
  path = tmp_path / 'metrics.jsonl'
  for values in ((2, {'toy/none/top1': 0.25}), (3, {'loss': 0.1})):
    writer = MetricWriter(tmp_path, 0, tensorboard=False)
    writer.write(1, {'loss': 1.0})
    writer.write(2, {'loss': 0.5})
    complete = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(complete) + 9, before[1]))
    try:
      with pytest.raises(OSError, match='too large') as error:
        writer.write(*values)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()
    assert error.value.filename == str(path)
    assert path.read_bytes() == complete
