"""Summaries of small traces of each kind of device, which this test writes field by field."""

import json

import jax
import pytest

from tools import summarize_profile
from zsar_jax.performance import traces
from zsar_jax.performance.trace_programs import Operation
from zsar_jax.performance.traces import categorize

MS = 1_000_000_000  # ps


def field(number, value):
  """A field of a protocol buffer, in the wire format."""

  def varint(n):
    out = b''
    while n > 0x7F:
      out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])

  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  value = value.encode() if isinstance(value, str) else value
  return varint(number << 3 | 2) + varint(len(value)) + value


def instruction(name, opcode, scope='', called=(), target=''):
  out = field(1, name) + field(2, opcode)
  out += field(7, field(2, scope)) if scope else b''
  out += field(28, target) if target else b''
  return out + b''.join(field(38, number) for number in called)


def hlo(module):
  """An HloProto: a product, a transpose, attention, a sum over devices, a loop, a GPU's calls."""
  fused = [
    (2, [instruction('p', 'parameter'), instruction('d', 'dot', 'jit(f)/mlp/dot_general')]),
    (3, [instruction('q', 'parameter'), instruction('t', 'transpose')]),
    (4, [instruction('e', 'exponential', 'jit(f)/transpose(jvp(attention))/exp')]),
    (5, [instruction('g', 'all-gather')]),
    (6, [instruction('m', 'multiply', 'jit(f)/optimizer/mul'), instruction('s', 'sqrt')]),
    (7, [instruction('c', 'convert'), instruction('r', 'reduce', 'jit(f)/jvp()/reduce_sum')]),
  ]
  entry = [
    instruction('fusion.1', 'fusion', called=[2]),
    instruction('fusion.2', 'fusion', called=[3]),
    instruction('fusion.3', 'fusion', called=[4]),
    instruction('all-reduce.1', 'all-reduce'),
    instruction('loop.1', 'while'),
    instruction('async-done.1', 'async-done', called=[5]),
    instruction('cublas-lt-matmul.52', 'custom-call', target='__cublas$lt$matmul'),
    instruction('custom-call.7', 'custom-call', target='__cudnn$fmhaSoftmaxBackward'),
    instruction('loop_multiply_fusion.8', 'fusion', called=[6]),
    instruction('input_reduce_fusion', 'fusion', called=[7]),
    instruction('copy.2', 'copy'),
  ]
  content = field(1, module)
  for number, instructions in [*fused, (1, entry)]:
    content += field(3, b''.join(field(2, message) for message in instructions) + field(5, number))
  return field(1, content)


def plane(name, line, events, with_stat):
  """The text of a plane.

  Events are (name, start in ms, duration in ms), or with the operation's name at the end if it is
  another one, '' for none.
  """
  events = [(*event, event[0])[:4] for event in events]
  names = sorted({name for event in events for name in (event[0], event[3])})
  out = f'planes {{ name: "{name}"\n'
  for n, event in enumerate(names, start=1):
    out += f'event_metadata {{ key: {n} value {{ id: {n} name: "{event}" }} }}\n'
    out += f'stat_metadata {{ key: {n + 100} value {{ id: {n + 100} name: "{event}" }} }}\n'
  out += 'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }\n'
  out += 'stat_metadata { key: 2 value { id: 2 name: "hlo_module" } }\n'
  out += f'lines {{ id: 1 name: "{line}"\n'
  for event, start, duration, operation in events:
    number = names.index(event) + 1
    stat = ''
    if with_stat and operation:
      stat = f'stats {{ metadata_id: 1 ref_value: {names.index(operation) + 101} }}'
      stat += ' stats { metadata_id: 2 str_value: "jit_f" }'
    out += f'events {{ metadata_id: {number} offset_ps: {start * MS}'
    out += f' duration_ps: {duration * MS} {stat} }}\n'
  return out + '}}\n'


def metadata(module='jit_f'):
  text = ''.join(f'\\{byte:03o}' for byte in hlo(module))
  return (
    'planes { name: "/host:metadata" event_metadata { key: 1 value { id: 1 name: "jit_f"'
    f' stats {{ metadata_id: 1 bytes_value: "{text}" }} }} }} }}\n'
  )


HOST = [('train', 0, 40), ('data_wait', 0, 30), ('train', 40, 10), ('data_wait', 40, 2)]
OPS = [
  ('loop.1', 30, 60),  # The loop around the other operations.
  ('fusion.1', 30, 30),
  ('fusion.2', 60, 6),
  ('fusion.3', 66, 14),
  ('all-reduce.1', 80, 10),
]


def write(workdir, text):
  folder = workdir / 'profile' / 'plugins' / 'profile' / '2026_01_01'
  folder.mkdir(parents=True)
  content = jax.profiler.ProfileData.text_proto_to_serialized_xspace(text)
  (folder / 'host.xplane.pb').write_bytes(content)


@pytest.mark.parametrize(
  ('name', 'line', 'with_stat', 'device'),
  [
    ('/host:CPU', 'tf_XLAEigen/1', True, 'CPU'),
    ('/device:GPU:0', 'Stream #14(Compute)', True, 'GPU:0'),
    ('/device:TPU:0', 'XLA Ops', False, 'TPU:0'),
  ],
)
def test_a_trace_of_each_kind_of_device(tmp_path, name, line, with_stat, device):
  summary_line = plane(name, 'XLA Modules' if with_stat else 'Steps', [('fusion.1', 0, 90)], False)
  text = plane('/host:CPU', 'python', HOST, False) + plane(name, line, OPS, with_stat) + metadata()
  write(tmp_path, text + (summary_line if device != 'CPU' else ''))
  (path,) = traces.newest_files(tmp_path / 'profile')
  trace = traces.read_trace(path)
  assert list(trace.ops) == [device]
  summary = summarize_profile.summarize(trace, 2)
  assert summary.steps == 2
  assert summary.seconds == pytest.approx(0.045)  # 90 ms from the first dispatch to the last end.
  assert summary.waiting == pytest.approx(30 / 90)  # The second wait was behind operations.
  assert summary.idle == pytest.approx(30 / 90)
  shares = {name: share for name, share in summary.categories.items() if share}
  assert shares == pytest.approx(
    {'matmul': 0.5, 'attention': 14 / 60, 'collectives': 1 / 6, 'copies': 0.1}
  )
  assert summary.top == [
    ('fusion.1', 'matmul', pytest.approx(0.5)),
    ('fusion.3', 'attention', pytest.approx(14 / 60)),
  ]
  assert 'waits for data 33% of the time' in summarize_profile.verdict(summary)


def test_asynchronous_operations_of_a_tpu_count_while_they_are_waited_for(tmp_path):
  """Copies that overlap each other and the products take no time of their own."""
  asynchronous = [('copy-start.1', 30, 40), ('copy-start.2', 40, 50)]
  text = plane('/device:TPU:0', 'XLA Ops', [*OPS, ('async-done.1', 90, 20)], False)
  text += plane('/device:TPU:0', 'Async XLA Ops', asynchronous, False) + metadata()
  write(tmp_path, plane('/host:CPU', 'python', HOST, False) + text)
  (path,) = traces.newest_files(tmp_path / 'profile')
  summary = summarize_profile.summarize(traces.read_trace(path), 5)
  assert summary.categories['collectives'] == pytest.approx(30 / 80)
  assert summary.categories['copies'] == pytest.approx(6 / 80)


# Kernels as cuBLAS, cuDNN, XLA and NCCL name them, with the operations that launch them.
STREAM = [
  ('MemcpyD2H', 30, 1, 'loop.1'),  # The loop reads its condition.
  ('nvjet_tst_256x128_64x4_2x1_v_bz_coopA_NNT', 31, 20, 'cublas-lt-matmul.52'),
  ('cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16', 51, 9, 'custom-call.7'),
  ('loop_multiply_fusion_8', 60, 5, 'loop_multiply_fusion.8'),
  ('input_reduce_fusion', 65, 4, 'input_reduce_fusion'),
  ('MemcpyD2D', 69, 2, 'copy.2'),
  ('sm90_xmma_gemm_bf16bf16_bf16f32_tn_n_tilesize128x128x64', 71, 3, ''),
  ('void my_kernel<float>(float*)', 74, 1, ''),
  ('MemcpyH2D', 75, 5, ''),
]
COLLECTIVES = [('ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevComm*)', 60, 30, 'all-reduce.1')]


def test_kernels_of_a_gpu_are_told_apart(tmp_path):
  """By their operations or, where they have none, by their names."""
  calls = [('cuLaunchKernel', 30, 60, 'cublas-lt-matmul.52')]
  text = plane('/host:CPU', 'python', HOST, False) + metadata()
  text += plane('/host:CPU', 'Host Threads/77', calls, True)
  text += plane('/device:GPU:0', 'Stream #7(Kernel,MemcpyD2D)', STREAM, True)
  text += plane('/device:GPU:0', 'Stream #9(Kernel)', COLLECTIVES, True)
  text += plane('/device:GPU:0', 'CUPTI overhead', [('BUFFER_FLUSH', 0, 90, '')], True)
  write(tmp_path, text)
  (path,) = traces.newest_files(tmp_path / 'profile')
  trace = traces.read_trace(path)
  assert list(trace.ops) == ['GPU:0']
  summary = summarize_profile.summarize(trace, 1)
  ms = {name: 80 * share for name, share in summary.categories.items() if share}
  assert ms == pytest.approx(
    {
      'collectives': 30,
      'matmul': 23,
      'attention': 9,
      'infeed and transfers': 6,
      'optimizer': 5,
      'elementwise': 4,
      'copies': 2,
      'other': 1,
    }
  )
  assert summary.idle == pytest.approx(30 / 90)  # Between 30 and 90 ms, a stream always runs.


def test_utilization_where_the_peak_is_known(tmp_path, capsys):
  text = plane('/host:CPU', 'python', HOST, False) + metadata()
  write(tmp_path, text + plane('/device:TPU:0', 'XLA Ops', OPS, False))
  facts = {'device': 'TPU v5 lite', 'devices': 4, 'clips_per_step': 9, 'flops_per_step': 3.5e12}
  (tmp_path / 'profile' / 'run.json').write_text(json.dumps(facts))
  summarize_profile.main([str(tmp_path), '--top=3'])
  out = capsys.readouterr().out
  assert 'MFU 9.9%' in out  # 3.5e12 / 0.045 s / (4 x 197e12)
  assert '200 clips/s' in out


def test_verdicts():
  zeros = {name: 0.0 for name in traces.CATEGORIES}

  def verdict(waiting=0.0, idle=0.0, **shares):
    categories = zeros | {name.replace('_', ' '): share for name, share in shares.items()}
    summary = summarize_profile.Summary(1, 1.0, waiting, idle, categories, 1.0, [])
    return summarize_profile.verdict(summary)

  assert 'workers' in verdict(waiting=0.2, idle=0.2, matmul=1.0)
  assert 'the host' in verdict(waiting=0.01, idle=0.5, matmul=1.0)
  assert verdict(collectives=0.3, matmul=0.7).startswith('collectives')
  assert verdict(matmul=0.8, attention=0.2).startswith('computing')


@pytest.mark.parametrize(
  ('name', 'parts', 'scope', 'expected'),
  [
    ('fusion.1', {'parameter', 'bitcast', 'copy'}, '', 'copies'),
    ('fusion.2', {'multiply', 'dot'}, 'jit(f)/layer_norm/mul', 'matmul'),
    ('fusion.3', {'multiply'}, 'jit(f)/while/body/jvp(layer_norm)/mul', 'layer norm'),
    ('fusion.4', {'dot'}, 'jit(f)/attention/dot_general', 'attention'),
    ('reduce-scatter.1', {'reduce-scatter'}, '', 'collectives'),
    ('fusion.5', {'select'}, 'jit(f)/augment/vmap()/select_n', 'augmentation and masks'),
    ('fusion.6', {'add'}, '', 'elementwise'),
    ('fusion.7', {'multiply', 'sqrt'}, 'jit(f)/optimizer/mul', 'optimizer'),
    ('gather.1', {'gather'}, 'jit(f)/gather', 'other'),
  ],
)
def test_categories(name, parts, scope, expected):
  operation = Operation('fusion', frozenset(parts), (scope,) if scope else ())
  assert categorize(name, operation) == expected


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('MemcpyH2D', 'infeed and transfers'),
    ('MemcpyD2D', 'copies'),
    ('ncclDevKernel_AllReduce_Sum_f32', 'collectives'),
    ('gemm_fusion_dot.3', 'matmul'),
    ('nvjet_tst_128x64_64x8_4x1_v_bz_TNT', 'matmul'),
    ('void cublasLt::splitKreduce_kernel<32, 16, int, float>', 'matmul'),
    ('cudnn_generated_fort_native_sdpa_sm80_flash_fprop_wmma_f16', 'attention'),
    ('loop_add_fusion_12', 'elementwise'),
    ('wrapped_copy_3', 'copies'),
    ('Memset', 'copies'),
    ('infeed.1', 'infeed and transfers'),
    ('my_kernel', 'other'),
  ],
)
def test_categories_by_name_alone(name, expected):
  assert categorize(name, None) == expected


@pytest.mark.parametrize('content', [b'not a trace at all', b'\x0a\xff\xff', b''])
def test_other_files_are_refused(tmp_path, content, capsys):
  write(tmp_path, '')
  (path,) = traces.newest_files(tmp_path / 'profile')
  path.write_bytes(content)
  with pytest.raises(SystemExit) as exit_:
    summarize_profile.main([str(tmp_path)])
  assert exit_.value.code == 2
  assert len(capsys.readouterr().err.splitlines()) == 1


def test_refusals(tmp_path, capsys):
  with pytest.raises(SystemExit):
    summarize_profile.main([str(tmp_path)])
  assert '--config.profile.steps' in capsys.readouterr().err
  write(tmp_path, plane('/device:TPU:0', 'XLA Ops', OPS, False))
  (tmp_path / 'profile' / 'run.json').write_text('{"device": 3}')
  with pytest.raises(SystemExit):
    summarize_profile.main([str(tmp_path)])
  assert 'run.json' in capsys.readouterr().err
