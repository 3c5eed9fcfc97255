# ruff: noqa: E501  HLO is written in long lines.
"""Parsing HLO: small programs written here, and programs that XLA compiles for eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from zsar_jax.performance.collectives import find_collectives, replica_groups
from zsar_jax.performance.hlo import Array, Module
from zsar_jax.performance.hlo_costs import memory_bytes
from zsar_jax.performance.hlo_flops import matmul_flops

# A loop of three passes, each with a product of a gathered matrix; a reduce-scatter as the TPU
# compiler writes it; and a sum that runs beside other work, in two fusions with one channel.
LOOP = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (input: bf16[16,4]) -> bf16[4,4] {
  %input = bf16[16,4]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.1 = bf16[16,4]{1,0} all-reduce(%input), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %slice.1 = bf16[4,4]{1,0} slice(%all-reduce.1), slice={[0:4], [0:4]}
}

%begin (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(128)S(1)} parameter(0)
  ROOT %all-reduce.2 = f32[8]{0} all-reduce(%p), channel_id=4, replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add
}

%end (p.2: f32[8]) -> f32[8] {
  %p.2 = f32[8]{0:T(128)S(1)} parameter(0)
  ROOT %all-reduce.3 = f32[8]{0} all-reduce(%p.2), channel_id=4, replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add
}

%body (state: (s32[], f32[8,16], f32[4,16])) -> (s32[], f32[8,16], f32[4,16]) {
  %state = (s32[]{:T(128)}, f32[8,16]{1,0}, /*index=2*/f32[4,16]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8,16]{1,0} get-tuple-element(%state), index=1
  %w = f32[4,16]{1,0:T(8,128)} get-tuple-element(%state), index=2
  %all-gather.1 = f32[16,16]{1,0} all-gather(%w), channel_id=1, replica_groups=mesh['x'=2,'y'=4] {'y'}, dimensions={0}, metadata={op_name="jit(step)/while/dot" stack_frame_id=3}
  %dot.1 = f32[8,16]{1,0} dot(%x, %all-gather.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %out = (s32[], f32[8,16], f32[4,16]) tuple(%next, %dot.1, %w)
}

%condition (state.1: (s32[], f32[8,16], f32[4,16])) -> pred[] {
  %state.1 = (s32[], f32[8,16], f32[4,16]) parameter(0)
  %limit = s32[] constant(3)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (state.2: (s32[], f32[8,16], f32[4,16]), g: bf16[16,4], v: f32[8]) -> bf16[4,4] {
  %state.2 = (s32[], f32[8,16], f32[4,16]) parameter(0)
  %g = bf16[16,4]{1,0:T(8,128)(2,1)} parameter(1)
  %v = f32[8]{0:T(128)S(1)} parameter(2)
  %while.1 = (s32[], f32[8,16], f32[4,16]) while(%state.2), condition=%condition, body=%body
  %async-collective-start = f32[8]{0:T(128)S(1)} fusion(%v), kind=kCustom, calls=%begin
  %async-collective-done = f32[8]{0:T(128)S(1)} fusion(%async-collective-start), kind=kCustom, calls=%end
  ROOT %fusion.1 = bf16[4,4]{1,0} fusion(%g), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
MESH = {'x': 2, 'y': 4}


def test_the_body_of_a_loop_counts_as_often_as_it_is_run():
  module = Module(LOOP)
  assert matmul_flops(module) == 3 * 2 * 8 * 16 * 16
  assert matmul_flops(module, loops_once=True) == 2 * 8 * 16 * 16
  assert not module.unknown_loops
  noted = LOOP.replace('body=%body', 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
  assert Module(noted).runs['body'] == 5
  for change in (('direction=LT', 'direction=NE'), ('add(%i, %one)', 'multiply(%i, %one)')):
    unknown = Module(LOOP.replace(*change))
    assert unknown.runs['body'] == 1
    assert unknown.unknown_loops == ['main/while.1']


def test_combined_reductions_count_separately():
  """All of them have the same channel."""
  second = LOOP[LOOP.index('%all-reduce-scatter.1') : LOOP.index('%begin')].replace(
    'scatter.1', 'scatter.2'
  )
  text = LOOP.replace('%begin', second + '%begin', 1).replace(
    '  ROOT %fusion.1',
    '  %fusion.2 = bf16[4,4]{1,0} fusion(%g), calls=%all-reduce-scatter.2\n  ROOT %fusion.1',
  )
  kinds = [collective.kind for collective in find_collectives(Module(text), MESH)]
  assert sorted(kinds) == ['all-gather', 'all-reduce', 'reduce-scatter', 'reduce-scatter']


def test_an_unrolled_loop_is_run_less_often():
  """The compiler keeps the limit and raises the counter by more, perhaps in a fusion."""
  unrolled = LOOP.replace('add(%i, %one)', 'add(%half, %one)').replace(
    '  %next =', '  %half = s32[] add(%i, %one)\n  %next ='
  )
  assert Module(unrolled).runs['body'] == 2
  fused = LOOP.replace('%next = s32[] add(%i, %one)', '%next = s32[] fusion(%i), calls=%raise')
  fused = fused.replace(
    '%body (',
    """%raise (p.3: s32[]) -> s32[] {
  %p.3 = s32[] parameter(0)
  %two = s32[] constant(2)
  ROOT %raised = s32[] add(%p.3, %two)
}

%body (""",
  )
  assert Module(fused).runs['body'] == 2


def test_collectives_with_their_axes_and_sizes():
  by_kind = {collective.kind: collective for collective in find_collectives(Module(LOOP), MESH)}
  assert len(find_collectives(Module(LOOP), MESH)) == 3
  gather = by_kind['all-gather']
  assert (gather.axes, gather.group, gather.count) == (('y',), 4, 3)
  assert gather.arrays == (Array('f32', (16, 16)),)
  assert gather.moved == 3 * 16 * 16 * 4 * 3 / 4
  assert gather.name == 'jit(step)/while/dot'
  scatter = by_kind['reduce-scatter']
  assert (scatter.axes, scatter.bytes, scatter.moved) == (('y',), 128, 96)
  # Pairs of devices 4 positions apart differ in x; the start and the end are the same sum.
  reduction = by_kind['all-reduce']
  assert (reduction.axes, reduction.group, reduction.count, reduction.moved) == (
    ('x',),
    2,
    1,
    2 * 32 / 2,
  )


# The sum of an array over two slices, as the TPU compiler writes it, and a gather over three.
SLICES = """HloModule jit_step, is_scheduled=true

ENTRY %main (g: bf16[64,128], e: f32[1,3,512]) -> bf16[64,128] {
  %g = bf16[64,128]{1,0} parameter(0)
  %e = f32[1,3,512]{2,1,0} parameter(1)
  %after-all = token[] after-all()
  %send = (bf16[64,128]{1,0}, u32[], token[]) send(%g, %after-all), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.2_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (bf16[64,128]{1,0}, u32[], token[]) recv(%after-all), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.2_0",_xla_megascale_target="{1,2}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done = token[] send-done(%send), channel_id=2, is_host_transfer=true
  %recv-done = (bf16[64,128]{1,0}, token[]) recv-done(%recv), channel_id=1, is_host_transfer=true
  %send.1 = (f32[1,3,512]{2,1,0}, u32[], token[]) send(%e, %after-all), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{0:2}x{0:15}",_xla_megascale_transfer_type="ALL_GATHER"}
  %send-done.1 = token[] send-done(%send.1), channel_id=3, is_host_transfer=true
  ROOT %sum = bf16[64,128]{1,0} get-tuple-element(%recv-done), index=0
}
"""


def test_what_goes_between_slices():
  module = Module(SLICES)
  reduction, gather = find_collectives(module, MESH)
  assert (reduction.kind, reduction.axes, reduction.group) == ('all-reduce', ('slices',), 2)
  assert reduction.moved == 64 * 128 * 2
  # A device sends its part to both other slices.
  assert (gather.kind, gather.group, gather.moved) == ('all-gather', 3, 2 * 3 * 512 * 4)
  # Each array is read once to be sent, and the sum is written once.
  assert memory_bytes(module) == 2 * 64 * 128 * 2 + 3 * 512 * 4


def test_arrays_on_the_chip_cause_no_memory_traffic():
  # Each of the three passes gathers w, multiplies, and increments a counter of 4 bytes (constants
  # are free); then g is read and its part is written.
  body = (4 + 16) * 16 * 4 + (8 + 16 + 8) * 16 * 4 + 3 * 4
  assert memory_bytes(Module(LOOP)) == 3 * body + 16 * 4 * 2 + 4 * 4 * 2


@pytest.mark.parametrize(
  ('text', 'groups'),
  [
    ('replica_groups={{0,2},{1,3}}', [[0, 2], [1, 3]]),
    ('replica_groups={}', [[0, 1, 2, 3]]),
    ('replica_groups=[2,2]<=[4]', [[0, 1], [2, 3]]),
    ('replica_groups=[2,2]<=[2,2]T(1,0)', [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'b'}", [[0, 1], [2, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", [[0, 1], [2, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [[0, 1, 2, 3]]),
    ("replica_groups=mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
    ("replica_groups=mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
    ('source_target_pairs={{0,1},{1,0},{2,2}}', [[0, 1], [1, 0]]),
  ],
)
def test_replica_groups(text, groups):
  assert replica_groups(f'channel_id=1, {text}, dimensions={{0}}', 4).tolist() == groups


def test_unreadable_replica_groups_are_an_error():
  with pytest.raises(ValueError, match='replica groups'):
    replica_groups('channel_id=1, replica_groups=<new>', 4)


@pytest.mark.parametrize(
  ('line', 'flops'),
  [
    # 16 x 3 products of (37 x 32) and (32 x 37), as the TPU compiler writes a batched product.
    (
      'bf16[16,3,37,37] convolution(%a, %b), window={size=16x3 stride=15x2 lhs_dilate=16x3},'
      ' dim_labels=0b1f_0o1i->01bf',
      2 * 48 * 37 * 37 * 32,
    ),
    # A dense layer over 3 heads of 32, and one from them.
    (
      'bf16[16,37,3,32] convolution(%c, %d), window={size=1x3 pad=0_0x2_2 rhs_reversal=0x1},'
      ' dim_labels=0bf1_i1o0->0b1f',
      2 * 16 * 37 * 96 * 96,
    ),
    ('bf16[16,64] convolution(%e, %f), dim_labels=bf_io->bf', 2 * 16 * 96 * 64),
    # An image of 8 x 8 with a kernel of 3 x 3 and padding of 1: 22 x 22 places lie inside.
    (
      'f32[1,8,8,5] convolution(%g, %h), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f',
      2 * 22 * 22 * 4 * 5,
    ),
  ],
)
def test_convolutions_count_products_inside_the_image(line, flops):
  shapes = {
    'a': (16, 37, 3, 32),
    'b': (16, 37, 3, 32),
    'c': (16, 37, 96, 1),
    'd': (96, 3, 32, 1),
    'e': (16, 96),
    'f': (96, 64),
    'g': (1, 8, 8, 4),
    'h': (3, 3, 4, 5),
  }
  parameters = [
    f'  %{name} = bf16[{",".join(map(str, shape))}]{{0}} parameter({number})'
    for number, (name, shape) in enumerate(shapes.items())
  ]
  text = '\n'.join(
    ['ENTRY %main (a: bf16[1]) -> bf16[1] {', *parameters, f'  ROOT %r = {line}', '}']
  )
  assert matmul_flops(Module(text)) == flops


@pytest.fixture(scope='module')
def mesh():
  return jax.make_mesh((2, 4), ('x', 'y'), axis_types=(AxisType.Auto,) * 2)


def compiled(mesh, function, *shapes_and_specs):
  arguments = [
    jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
    for shape, spec in shapes_and_specs
  ]
  return jax.jit(function).lower(*arguments).compile()


def test_a_program_of_xla_for_eight_devices(mesh):
  """A scan of products with a matrix that is gathered before the loop."""

  def function(x, w):
    w = jax.lax.with_sharding_constraint(w, NamedSharding(mesh, PartitionSpec()))

    def body(x, _):
      return jax.lax.with_sharding_constraint(
        jnp.tanh(x @ w), NamedSharding(mesh, PartitionSpec('x'))
      ), None

    return jax.lax.scan(body, x, length=5)[0].sum()

  program = compiled(mesh, function, ((64, 32), ('x',)), ((32, 32), ('y',)))
  module = Module(program.as_text())
  assert not module.unknown_loops
  assert matmul_flops(module) == 5 * 2 * 32 * 32 * 32
  collectives = find_collectives(module, {'x': 2, 'y': 4})
  gathers = [collective for collective in collectives if collective.kind == 'all-gather']
  assert [(gather.axes, gather.arrays[0].shape) for gather in gathers] == [(('y',), (32, 32))]
  assert [c.axes for c in collectives if c.kind == 'all-reduce'] == [('x',)]


def test_flops_agree_with_the_compilers_count(mesh):
  """Without loops, XLA's own count differs only by operations that are no products."""

  def function(x, w):
    return jnp.einsum('bld,bmd->blm', x @ w, x)

  program = compiled(mesh, function, ((8, 24, 64), ('x',)), ((64, 64), ()))
  flops = matmul_flops(Module(program.as_text()))
  assert flops == 4 * (2 * 24 * 64 * 64 + 2 * 24 * 24 * 64)
  np.testing.assert_allclose(flops, program.cost_analysis()['flops'], rtol=0.05)
