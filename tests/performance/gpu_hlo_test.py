# ruff: noqa: E501  HLO is written in long lines.
"""Programs as XLA's compiler for GPUs writes them: calls of libraries, fusions, collectives."""

import pytest

from zsar_jax.performance import kernels
from zsar_jax.performance.collectives import find_collectives
from zsar_jax.performance.hlo import Module
from zsar_jax.performance.hlo_costs import memory_bytes
from zsar_jax.performance.hlo_flops import matmul_flops
from zsar_jax.performance.hlo_sources import Sources

# Two products with a bias by cuBLAS, the second of which is batched; attention, forward and
# backward; a GELU; an update of one row in place; a slice of a large array; and the copy that the
# compiler adds.
PROGRAM = """HloModule jit_step, is_scheduled=true

FileNames
1 "/somewhere/zsar_jax/models/layers.py"
2 "/somewhere/flax/nnx/nn/linear.py"

FunctionNames
1 "Mlp.__call__"
2 "Linear.__call__"
3 "quick_gelu"

FileLocations
1 {file_name_id=1 function_name_id=1 line=10 end_line=10 column=1 end_column=9}
2 {file_name_id=2 function_name_id=2 line=20 end_line=20 column=1 end_column=9}
3 {file_name_id=1 function_name_id=3 line=30 end_line=30 column=1 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=2}

%gelu (p0: bf16[8,32]) -> bf16[8,32] {
  %p0 = bf16[8,32]{1,0} parameter(0)
  %negate = bf16[8,32]{1,0} negate(%p0), metadata={op_name="jit(step)/transpose(jvp())/neg" stack_frame_id=3}
  %exp = bf16[8,32]{1,0} exponential(%negate), metadata={op_name="jit(step)/transpose(jvp())/exp" stack_frame_id=3}
  ROOT %product = bf16[8,32]{1,0} multiply(%exp, %p0), metadata={op_name="jit(step)/jvp()/mul" stack_frame_id=1}
}

%update (p1: f32[100,16], p2: f32[1,16], p3: s32[]) -> f32[100,16] {
  %p1 = f32[100,16]{1,0} parameter(0)
  %p2 = f32[1,16]{1,0} parameter(1)
  %p3 = s32[] parameter(2)
  ROOT %updated = f32[100,16]{1,0} dynamic-update-slice(%p1, %p2, %p3, %p3)
}

%row (p4: f32[100,16], p5: s32[]) -> bf16[1,16] {
  %p4 = f32[100,16]{1,0} parameter(0)
  %p5 = s32[] parameter(1)
  %negative = f32[100,16]{1,0} negate(%p4)
  %part = f32[1,16]{1,0} dynamic-slice(%negative, %p5, %p5), dynamic_slice_sizes={1,16}
  ROOT %narrow = bf16[1,16]{1,0} convert(%part)
}

ENTRY %main (x: bf16[8,16], w: bf16[16,32], q: bf16[2,24,3,4], t: f32[100,16], r: f32[1,16], i: s32[]) -> bf16[1,16] {
  %x = bf16[8,16]{1,0} parameter(0)
  %w = bf16[16,32]{1,0} parameter(1)
  %q = bf16[2,24,3,4]{3,2,1,0} parameter(2)
  %t = f32[100,16]{1,0} parameter(3)
  %r = f32[1,16]{1,0} parameter(4)
  %i = s32[] parameter(5)
  %matmul.1 = (bf16[8,32]{1,0}, s8[33554432]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(step)/jvp()/dot_general" stack_frame_id=2}, backend_config={"operation_queue_id":"0","gemm_backend_config":{"alpha_real":1,"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"],"lhs_batch_dimensions":[],"rhs_batch_dimensions":[]},"epilogue":"BIAS"}}
  %matmul.2 = (f32[2,24,24]{2,1,0}, s8[4194304]{0}) custom-call(%q, %q), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["2","3"],"rhs_contracting_dimensions":["2","3"],"lhs_batch_dimensions":["0"],"rhs_batch_dimensions":["0"]}}}
  %forward = (bf16[2,3,24,4]{3,1,2,0}, f32[2,3,24]{2,1,0}, u8[0]{0}) custom-call(%q, %q, %q), custom_call_target="__cudnn$fmhaSoftmax", backend_config={"cudnn_fmha_backend_config": {"intermediate_tensor_shape": {"dimensions": ["2", "3", "24", "24"]}}}
  %activation = f32[2,3,24]{2,1,0} get-tuple-element(%forward), index=1
  %backward = (bf16[2,3,24,4]{3,1,2,0}, bf16[2,3,24,4]{3,1,2,0}, bf16[2,3,24,4]{3,1,2,0}, u8[64]{0}) custom-call(%q, %q, %q, %activation, %q, %q), custom_call_target="__cudnn$fmhaSoftmaxBackward", backend_config={"cudnn_fmha_backend_config": {"intermediate_tensor_shape": {"dimensions": ["2", "3", "24", "24"]}}}
  %result = bf16[8,32]{1,0} get-tuple-element(%matmul.1), index=0, metadata={op_name="jit(step)/jvp()/dot_general" stack_frame_id=2}
  %loop_multiply_fusion = bf16[8,32]{1,0} fusion(%result), kind=kLoop, calls=%gelu
  %copy.1 = bf16[8,32]{0,1} copy(%loop_multiply_fusion)
  %in_place = f32[100,16]{1,0} fusion(%t, %r, %i), kind=kLoop, calls=%update
  ROOT %slice = bf16[1,16]{1,0} fusion(%in_place, %i), kind=kLoop, calls=%row
}
"""


def test_products_of_libraries():
  dense, batched = 2 * 8 * 16 * 32, 2 * 2 * 24 * 24 * 12
  attention = 2 * 2 * 3 * 24 * 24 * 4
  # Forward logits and values; backward logits again, and four gradients.
  assert matmul_flops(Module(PROGRAM)) == dense + batched + (2 + 5) * attention


def test_memory_traffic():
  """Without the libraries' working memory; what is changed or read in part counts in part."""
  dense = 2 * (8 * 16 + 16 * 32 + 8 * 32)
  heads = 2 * 2 * 24 * 3 * 4
  batched = 2 * heads + 4 * 2 * 24 * 24
  sums = 4 * 2 * 3 * 24
  attention = (3 + 1) * heads + sums + (5 + 3) * heads + sums
  gelu_and_copy = 2 * 2 * 2 * 8 * 32
  update = 4 * 16 + 4 + 4 * 16
  row = 4 * 16 + 4 + 2 * 16
  expected = dense + batched + attention + gelu_and_copy + update + row
  assert memory_bytes(Module(PROGRAM)) == expected


def test_an_asynchronous_slice_reads_its_part_only():
  text = """ENTRY %main (x: f32[100,16]) -> f32[1,16] {
  %x = f32[100,16]{1,0} parameter(0)
  %slice-start = ((f32[100,16]{1,0}), f32[1,16]{1,0:S(1)}) slice-start(%x), slice={[0:1], [0:16]}
  ROOT %slice-done = f32[1,16]{1,0:S(1)} slice-done(%slice-start)
}
"""
  assert memory_bytes(Module(text)) == 4 * 16


def test_kernels_with_their_sources():
  module = Module(PROGRAM)
  found = kernels.find_kernels(module, Sources(PROGRAM, 'zsar_jax'))
  assert sum(kernel.bytes for kernel in found) == memory_bytes(module)
  assert sum(kernel.flops for kernel in found) == matmul_flops(module)
  kinds = [kernel.kind for kernel in found]
  attention = ['cuDNN attention', 'cuDNN attention, backward']
  assert kinds == ['cuBLASLt', 'cuBLAS', *attention, 'elementwise', 'copy', 'copy', 'elementwise']
  # Flax's function is in the stack, too, and inside of the project's own.
  assert found[0].source == 'layers.Mlp'
  gelu, copy = found[4:6]
  assert (gelu.source, gelu.backward, gelu.results) == (
    'layers.quick_gelu + layers.Mlp',
    True,
    'bf16[8,32]',
  )
  assert (copy.source, copy.backward) == (gelu.source, True)
  rows = kernels.kernel_rows(found, 3)
  assert {row['kind']: row['count'] for row in rows}['cuDNN attention'] == 3
  moves = kernels.traffic_rows(found, 3)
  assert not {row['kind'] for row in moves} & set(kernels.PRODUCTS)
  assert moves[0]['bytes'] == max(row['bytes'] for row in moves) == 3 * gelu.bytes


COLLECTIVES = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%concatenation (p0: bf16[48], p1: bf16[16]) -> bf16[64] {
  %p0 = bf16[48]{0} parameter(0)
  %p1 = bf16[16]{0} parameter(1)
  ROOT %both = bf16[64]{0} concatenate(%p0, %p1), dimensions={0}
}

%wrapped (p2: f32[16,8]) -> f32[4,8] {
  %p2 = f32[16,8]{1,0} parameter(0)
  ROOT %scatter = f32[4,8]{1,0} reduce-scatter(%p2), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
}

ENTRY %main (w: bf16[4,8], v: f32[2,8], g: f32[16,8], m: bf16[48], n: bf16[16]) -> f32[4,8] {
  %w = bf16[4,8]{1,0} parameter(0)
  %v = f32[2,8]{1,0} parameter(1)
  %g = f32[16,8]{1,0} parameter(2)
  %m = bf16[48]{0} parameter(3)
  %n = bf16[16]{0} parameter(4)
  %all-gather-start.1 = ((bf16[4,8]{1,0}, f32[2,8]{1,0}), (bf16[16,8]{1,0}, f32[8,8]{1,0})) all-gather-start(%w, %v), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %all-gather-done.1 = (bf16[16,8]{1,0}, f32[8,8]{1,0}) all-gather-done(%all-gather-start.1)
  %wrapped_concatenate = bf16[64]{0} fusion(%m, %n), kind=kLoop, calls=%concatenation
  %all-reduce-start.1 = bf16[64]{0} all-reduce-start(%wrapped_concatenate), channel_id=2, replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_1'}, to_apply=%add
  %all-reduce-done.1 = bf16[64]{0} all-reduce-done(%all-reduce-start.1)
  %async-start = ((f32[16,8]{1,0}), f32[4,8]{1,0}) async-start(%g), calls=%wrapped
  ROOT %async-done = f32[4,8]{1,0} async-done(%async-start)
}
"""


def test_asynchronous_and_combined_collectives():
  module = Module(COLLECTIVES)
  found = {collective.kind: collective for collective in find_collectives(module, {'d': 2, 'f': 4})}
  assert len(found) == 3
  gather = found['all-gather']
  assert (gather.axes, gather.group) == (('f',), 4)
  assert gather.moved == (2 * 16 * 8 + 4 * 8 * 8) * 3 / 4
  # One reduction of two arrays.
  reduction = found['all-reduce']
  assert (reduction.axes, [array.size for array in reduction.arrays]) == (('d',), [48, 16])
  assert reduction.moved == 2 * 2 * 64 / 2
  assert found['reduce-scatter'].moved == 4 * 16 * 8 * 3 / 4
  gathered = 2 * 4 * 8 + 4 * 2 * 8 + 2 * 16 * 8 + 4 * 8 * 8
  concatenated_and_reduced = 2 * (2 * 64 + 2 * 64)
  scattered = 4 * 16 * 8 + 4 * 4 * 8
  assert memory_bytes(module) == gathered + concatenated_and_reduced + scattered


@pytest.mark.parametrize(
  ('line', 'kind'),
  [
    ('f32[8]{0} fusion(%x), kind=kInput, calls=%f', 'reduction'),
    ('f32[8]{0} fusion(%x), kind=kLoop, calls=%f', 'elementwise'),
    (
      'f32[8]{0} fusion(%x), kind=kCustom, calls=%f, backend_config={"fusion_backend_config":{"kind":"__triton"}}',
      'Triton',
    ),
    ('f32[8]{0} custom-call(%x), custom_call_target="another"', 'another'),
    ('f32[8,8]{0,1} transpose(%x), dimensions={1,0}', 'transposition'),
  ],
)
def test_kinds_of_kernels(line, kind):
  text = f"""%f (p: f32[8,8]) -> f32[8] {{
  %p = f32[8,8]{{1,0}} parameter(0)
  %zero = f32[] constant(0)
  ROOT %r = f32[8]{{0}} reduce(%p, %zero), dimensions={{1}}, to_apply=%add
}}

ENTRY %main (x: f32[8,8]) -> f32[8] {{
  %x = f32[8,8]{{1,0}} parameter(0)
  ROOT %y = {line}
}}
"""
  assert [kernel.kind for kernel in kernels.find_kernels(Module(text), Sources(text, 'x'))] == [
    kind
  ]
