"""Reads traces of `jax.profiler`: when each operation ran, and its category.

`jax.profiler.ProfileData` reads the planes of a trace, their lines and events; `trace_programs`
reads what an operation consists of. Operations are found as follows:

    CPU    in the plane '/host:CPU', on the lines of threads: events with a stat 'hlo_op'
    GPU    in the planes '/device:GPU:0', ...: kernels and copies on the lines of streams,
           'Stream #7(Kernel,MemcpyD2D)', most with 'hlo_op'; the host's planes then have calls of
           the driver that carry 'hlo_op' too and are not operations
    TPU    in the planes '/device:TPU:0', ...: on the line 'XLA Ops'; operations that run beside
           them, on the line 'Async XLA Ops', count only while 'XLA Ops' waits for them

The layout of CPU traces was observed; the others follow the profiler's sources: for GPUs
xla/backends/profiler/gpu/cupti_collector.cc and xla/service/gpu/runtime/annotation.cc. While a
trace runs, XLA launches the kernels of CUDA graphs one by one, so that they have their 'hlo_op'
(xla_enable_command_buffers_during_profiling changes that); kernels without one are told apart by
their names.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from zsar_jax.errors import UserError, first_line
from zsar_jax.performance.trace_programs import Operation, read_operations
from zsar_jax.training.profiling import DATA_WAIT, STEP

# 'elementwise' has reductions too, such as the gradients of biases.
CATEGORIES = (
  'matmul',
  'attention',
  'layer norm',
  'elementwise',
  'optimizer',
  'copies',
  'collectives',
  'augmentation and masks',
  'infeed and transfers',
  'other',
)

# Operations whose time is that of the operations inside them.
_CONTROL = ('while', 'call', 'conditional')

# The name of the host among the devices.
_HOST = 'CPU'

_COLLECTIVES = ('all-reduce', 'all-gather', 'all-to-all', 'reduce-scatter', 'collective', 'ragged')
_TRANSFERS = ('infeed', 'outfeed', 'send', 'recv', 'memcpyh2d', 'memcpyd2h')
_COPIES = ('memcpy', 'memset', 'copy-')
_MOVES = {
  'bitcast',
  'bitcast-convert',
  'broadcast',
  'concatenate',
  'constant',
  'copy',
  'copy-done',
  'copy-start',
  'dynamic-slice',
  'dynamic-update-slice',
  'get-tuple-element',
  'pad',
  'parameter',
  'reshape',
  'slice',
  'transpose',
  'tuple',
}

# An operation with one of these parts is neither elementwise nor a reduction.
_OTHERS = {
  'custom-call',
  'dynamic-reshape',
  'fft',
  'gather',
  'rng-bit-generator',
  'scatter',
  'select-and-scatter',
  'sort',
  'topk',
}

# Custom calls and kernels by their names: cuDNN's attention ('__cudnn$fmhaSoftmax',
# 'cudnn_generated_fort_native_sdpa_sm90_flash_fprop_...'), and products of cuBLAS, CUTLASS and
# Triton ('__cublas$lt$matmul', 'nvjet_tst_...', 'sm90_xmma_gemm_...', 'gemm_fusion_dot.3').
_ATTENTION_NAME = re.compile(r'fmha|sdpa|flash|dot_product_attention')
_PRODUCT_NAME = re.compile(r'gemm|matmul|dot|convolution|nvjet|cublas|cutlass|splitkreduce')

# By the scopes that the models and the step set with `jax.named_scope`.
_SCOPES = {
  'attention': 'attention',
  'layer_norm': 'layer norm',
  'augment': 'augmentation and masks',
  'optimizer': 'optimizer',
}


@dataclasses.dataclass(frozen=True)
class Span:
  """An operation or an annotation, with its time.

  Attributes:
    name: of the operation, such as 'fusion.3', or of the annotation.
    start: in ns.
    end: in ns.
    category: of an operation, one of `CATEGORIES`.
    own: ns without the operations that ran inside it.
  """

  name: str
  start: float
  end: float
  category: str = ''
  own: float = 0.0


@dataclasses.dataclass(frozen=True)
class Trace:
  """The contents of a trace.

  Attributes:
    ops: the operations of each device, such as 'CPU' or 'TPU:0'.
    waits: when the training loop waited for a batch.
    steps: when the training loop dispatched its steps.
  """

  ops: dict[str, list[Span]]
  waits: list[Span]
  steps: list[Span]


@dataclasses.dataclass(frozen=True)
class _Event:
  """An event of an operation.

  Attributes:
    program: the program that it is of; '' if unknown.
    name: the operation; on a GPU of a kernel without one, the kernel.
    kernel: on a GPU the kernel, or the kind of copy; otherwise ''.
    start: in ns.
    end: in ns.
  """

  program: str
  name: str
  kernel: str
  start: float
  end: float


def newest_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files of the newest trace below a folder, one of each host.

  Raises:
    UserError: if there is none.
  """
  files = sorted(folder.glob('**/*.xplane.pb'), key=lambda path: path.parent.name)
  if not files:
    raise UserError(
      f'{folder}: no *.xplane.pb there; record a trace with --config.profile.steps=(10,15)'
    )
  return [path for path in files if path.parent == files[-1].parent]


def read_trace(path: pathlib.Path) -> Trace:
  """Reads the trace of one host.

  Raises:
    UserError: if the file is no trace, or has no operations.
  """
  try:
    content = path.read_bytes()
    planes = list(jax.profiler.ProfileData.from_serialized_xspace(content).planes)
    operations = read_operations(content)
  except (OSError, RuntimeError, ValueError, IndexError) as error:
    raise UserError(
      f'{path}: not readable as a trace of jax.profiler ({first_line(error)}); record it anew'
    ) from None
  ops: dict[str, list[Span]] = {}
  waits, steps = [], []
  for plane in planes:
    device = re.fullmatch(r'/device:((GPU|TPU):\d+).*', plane.name)
    for line in plane.lines:
      if device and not _has_operations(device[2], line.name):
        continue
      events = []
      for event in line.events:
        end = event.start_ns + event.duration_ns
        if plane.name.startswith('/host') and event.name in (STEP, DATA_WAIT):
          spans = steps if event.name == STEP else waits
          spans.append(Span(event.name, event.start_ns, end))
        elif names := _operation_names(event, bool(device)):
          kernel = event.name if device and device[2] == 'GPU' else ''
          events.append(_Event(*names, kernel, event.start_ns, end))
      if events:
        name = device[1] if device else _HOST
        ops.setdefault(name, []).extend(_nested_spans(events, operations))
  if not ops:
    raise UserError(f'{path}: the trace holds no operation of a device; record it anew')
  if len(ops) > 1:
    ops.pop(_HOST, None)  # Calls of the GPU's driver, or what the host computed for itself.
  return Trace(ops, waits, steps)


def _has_operations(platform: str, line: str) -> bool:
  """Returns whether a line of a device's plane has operations; other lines sum them up."""
  return line == 'XLA Ops' if platform == 'TPU' else line.startswith('Stream')


def _operation_names(event: Any, is_device: bool) -> tuple[str, str] | None:
  """Returns the program ('' if unknown) and the HLO operation of an event; None if it has none."""
  stats = dict(event.stats)
  if 'hlo_op' in stats:
    return str(stats.get('hlo_module', '')), str(stats['hlo_op'])
  # TPUs name events by their operation; GPU kernels and copies without one keep their own names.
  return ('', event.name.lstrip('%').split(' = ')[0]) if is_device else None


def _nested_spans(
  events: list[_Event], operations: dict[tuple[str, str], Operation]
) -> Iterator[Span]:
  """Yields the spans of one line, whose events are nested or follow one another."""
  stack: list[list[Any]] = []  # [event, ns of the events inside it]

  def close(until: float) -> Iterator[Span]:
    while stack and stack[-1][0].end <= until:
      event, inside = stack.pop()
      duration = event.end - event.start
      if stack:
        stack[-1][1] += duration
      # If an event does not name its program, take any program with such an operation.
      operation = operations.get((event.program, event.name)) or operations.get(('', event.name))
      is_control = (operation.opcode if operation else event.name).startswith(_CONTROL)
      if is_control and event.kernel:
        operation = None  # What a loop launches itself, such as the copy of its condition.
      if event.kernel or not is_control:
        category = categorize(event.name, operation, event.kernel)
        yield Span(event.name, event.start, event.end, category, max(duration - inside, 0))

  for event in sorted(events, key=lambda event: (event.start, -event.end)):
    yield from close(event.start)
    stack.append([event, 0.0])
  yield from close(float('inf'))


def categorize(name: str, operation: Operation | None, kernel: str = '') -> str:
  """Returns the category of an operation, one of `CATEGORIES`.

  Args:
    name: the operation's name.
    operation: what it consists of; None if that is unknown, so that names decide.
    kernel: on a GPU the name of the kernel, or the kind of copy.
  """
  known = operation is not None
  operation = operation or Operation('', frozenset((_opcode_in_name(kernel or name),)), ())
  names = {operation.opcode, *operation.parts, kernel.lower() or name.lower()}
  if any(part.startswith(_COLLECTIVES) or 'nccl' in part for part in names):
    return 'collectives'
  if any(part.startswith(_TRANSFERS) for part in names):
    return 'infeed and transfers'
  if operation.parts <= _MOVES or (not known and any(part.startswith(_COPIES) for part in names)):
    return 'copies'
  called = f'{name} {operation.target} {kernel}'.lower()
  if _ATTENTION_NAME.search(called):
    return 'attention'
  is_product = bool(operation.parts & {'dot', 'convolution'} or _PRODUCT_NAME.search(called))
  for scope, category in _SCOPES.items():
    in_scope = any(scope in path.split('/') or f'({scope})' in path for path in operation.scopes)
    # A product that a norm is fused into counts as a product.
    if in_scope and not (is_product and category == 'layer norm'):
      return category
  if is_product:
    return 'matmul'
  is_elementwise = not operation.parts & _OTHERS if known else 'fusion' in called
  return 'elementwise' if is_elementwise else 'other'


def _opcode_in_name(name: str) -> str:
  """Returns 'all-reduce' for 'all-reduce.3', and 'copy' for a GPU's kernel 'wrapped_copy_3'."""
  return re.sub(r'^wrapped_|[._]\d+$', '', name.lower())


def busy_intervals(spans: Iterable[Span]) -> list[tuple[float, float]]:
  """Returns the intervals in which at least one of the spans was running, in order."""
  merged: list[tuple[float, float]] = []
  for start, end in sorted((span.start, span.end) for span in spans):
    if merged and start <= merged[-1][1]:
      merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    else:
      merged.append((start, end))
  return merged


def uncovered_time(start: float, end: float, intervals: Iterable[tuple[float, float]]) -> float:
  """Returns the ns between `start` and `end` that lie in none of the disjoint intervals."""
  covered = sum(max(0.0, min(end, last) - max(start, first)) for first, last in intervals)
  return end - start - covered
