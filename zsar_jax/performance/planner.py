"""Plans a run: memory, FLOPs, collectives and time of its training and evaluation step."""

import collections
import dataclasses
import math
import re
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.models import flops
from zsar_jax.models.from_config import build_model
from zsar_jax.performance import collectives, estimate, hlo, topologies
from zsar_jax.performance.programs import Program, evaluation_programs, train_program
from zsar_jax.performance.topologies import Topology
from zsar_jax.runtime import sharding
from zsar_jax.training import optim

# How a batch that does not fit is made smaller until one does.
_MOST_HALVINGS = 4


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says of one program, for each device.

  Attributes:
    seconds: that it took.
    arguments: bytes, with the padding of their layouts.
    outputs: bytes that are no argument's.
    temporaries: bytes.
    code: bytes.
    flops: of the compiler's own count, in which bodies of loops count once.
    module: the program; None where it did not fit.
    needed: bytes in all.
    fits: whether the compiler found room for it.
  """

  seconds: float
  arguments: float
  outputs: float
  temporaries: float
  code: float
  flops: float
  module: hlo.Module | None
  needed: float
  fits: bool = True


def compile_program(program: Program) -> Compiled:
  """Compiles a program for the devices of its arguments; running out of memory is an answer."""
  start = time.monotonic()
  lowered = program.trace().lower()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    needed = parse_required_bytes(str(error))
    if needed is None:
      raise
    return Compiled(time.monotonic() - start, 0, 0, 0, 0, math.nan, None, needed, fits=False)
  memory = compiled.memory_analysis()
  outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
  parts = (
    memory.argument_size_in_bytes,
    outputs,
    memory.temp_size_in_bytes,
    memory.generated_code_size_in_bytes,
  )
  operations = (compiled.cost_analysis() or {}).get('flops', math.nan)
  module = hlo.Module(compiled.as_text())
  return Compiled(time.monotonic() - start, *parts, operations, module, sum(parts))


def parse_required_bytes(message: str) -> float | None:
  """Bytes that the TPU compiler would have needed, from what it says when it has too few."""
  found = re.search(r'Used ([\d.]+)([KMGT]?) of|temporaries \(([\d.]+)([KMGT]?)\)', message)
  if not ('Ran out of memory' in message and found):
    return None
  number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
  return float(number) * 1024 ** ' KMGT'.index(unit or ' ')


def make_plan(
  config: ConfigDict, topology: Topology, classes: int, largest: str = 'estimate'
) -> dict[str, Any]:
  """Everything that is known of a run on a topology, as JSON has it.

  Args:
    config: a validated config.
    topology: the devices.
    classes: the number of classes, in training and in evaluation.
    largest: whether to look for the largest batch that fits: 'estimate', 'verify' or 'skip'.

  Raises:
    UserError: for a mesh or a batch that does not fit the devices, or a missing compiler.
  """
  mesh = sharding.make_mesh(config.mesh, topology.devices())
  config, changes = _fitted(config, sharding.num_batch_shards(mesh))
  model = build_model(config)
  plan = {
    'changes': changes,
    'topology': topology.name,
    'devices': topology.count,
    'mesh': dict(mesh.shape),
    'chip': dataclasses.asdict(topology.chip) if topology.chip else None,
    'compiled': topology.compiles,
    'classes': classes,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params)),
    'model': {name: config.model[name] for name in ('preset', 'temporal', 'dtype', 'remat')},
    'frames': config.view.num_frames,
    'accumulation': config.optim.accumulation,
  }
  planner = _Planner(config, topology, mesh, classes)
  plan['train'] = planner.training(largest)
  if config.eval.datasets:
    plan['evaluation'] = planner.evaluation(largest)
  return plan


def _fitted(config: ConfigDict, parts: int) -> tuple[ConfigDict, list[str]]:
  """The config with batches that divide over the devices, and in words what was changed."""
  config, changes = config.copy_and_resolve_references(), []

  def change(group: str, name: str, value: int) -> None:
    if config[group][name] != value:
      changes.append(f'config.{group}.{name} is {value} here instead of {config[group][name]}')
      config[group][name] = value

  accumulation = config.optim.accumulation
  if config.data.batch_size % (parts * accumulation):
    share = -(-config.data.batch_size // parts)  # Clips of each device.
    change('data', 'batch_size', share * parts)
    change('optim', 'accumulation', max(n for n in range(1, accumulation + 1) if share % n == 0))
  change('eval', 'batch_size', -(-config.eval.batch_size // parts) * parts)
  return config, changes


class _Planner:
  """Plans steps of a config, of which the batch sizes may change."""

  def __init__(self, config: ConfigDict, topology: Topology, mesh: Mesh, classes: int):
    self._config, self._topology, self._mesh = config, topology, mesh
    self._classes = classes
    self._kept = 0.0  # Bytes of the optimizer's state, which an evaluation on the way leaves there.

  def training(self, largest: str) -> dict[str, Any]:
    """The optimizer step."""
    config, mesh = self._config, self._mesh
    program = train_program(config, mesh, self._classes)
    state = program.arguments['state']
    model = build_model(config)
    _, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
    owed = estimate.required_traffic(
      config, model.spec, state['params'], trained, mesh, self._classes
    )
    rest = {name: tree for name, tree in state.items() if name != 'params'}
    self._kept = estimate.device_bytes(rest)
    memory = {
      'parameters': estimate.device_bytes(state['params']),
      'optimizer state': self._kept,
      'batch': estimate.device_bytes(program.arguments['batch']),
      'class texts and keys': estimate.device_bytes(program.arguments['inputs']),
    }
    step = {'batch': config.data.batch_size, 'flops': {'traced': self._traced([program])}}
    step['must_move'] = dataclasses.asdict(owed) | {'total': owed.total}
    if not self._topology.compiles:
      memory['activations'] = estimate.activation_bytes(config, model.spec, self._classes, mesh)
      memory['gradients'] = memory['parameters']
      fsdp = mesh.shape['fsdp']
      memory['gathered parameters'] = owed.gathered * fsdp / max(fsdp - 1, 1)
      step |= self._rated(memory, step['flops']['traced'], None, owed.total / self._ring('fsdp'))
      return step | {'largest_batch': self._largest_estimated(step)}
    exact = sum(memory.values())
    self._describe(step, memory, [compile_program(program)], exact)

    def needed(size: int) -> float:
      smaller = config.copy_and_resolve_references()
      smaller.data.batch_size = size
      program = train_program(smaller, mesh, self._classes)
      found = compile_program(program)
      return found.needed + estimate.device_bytes(program.arguments['batch'])

    quantum = sharding.num_batch_shards(mesh) * config.optim.accumulation
    step['largest_batch'] = self._largest(step, needed, quantum, largest)
    return step

  def evaluation(self, largest: str) -> dict[str, Any]:
    """Preparing and scoring a batch under each recipe."""
    config, mesh = self._config, self._mesh
    programs = evaluation_programs(config, mesh, self._classes)
    *prepared, scored = programs
    recipes = len(prepared)
    operations = self._traced(prepared) + recipes * self._traced([scored])
    step = {
      'batch': config.eval.batch_size,
      'recipes': recipes,
      'flops': {'traced': operations},
    }
    memory = {
      'parameters': estimate.device_bytes(scored.arguments['params']),
      'optimizer state': self._kept,
      'batch': estimate.device_bytes(prepared[0].arguments['batch']),
      'frames of each recipe': recipes * estimate.device_bytes(scored.arguments['video']),
      'class texts and keys': estimate.device_bytes(scored.arguments['classes']),
    }
    if not self._topology.compiles:
      # Nothing is kept for a backward pass: about what one block works on.
      clips = config.copy_and_resolve_references()
      clips.model.remat = 'full'
      clips.data.batch_size, clips.optim.accumulation = config.eval.batch_size, 1
      spec = dataclasses.replace(build_model(config).spec, image_layers=1)
      memory['activations'] = estimate.activation_bytes(clips, spec, self._classes, mesh)
      itemsize = np.dtype(jax.numpy.dtype(config.model.dtype)).itemsize
      parameters = itemsize / 4 * memory['parameters'] * (mesh.shape['fsdp'] - 1)
      gathered = recipes * parameters / self._ring('fsdp')
      step |= self._rated(memory, operations, None, gathered)
      return step | {'largest_batch': self._largest_estimated(step)}
    # `prepare` differs between recipes in what it draws and paints; the last one stands for all.
    compiled = [compile_program(prepared[-1]), compile_program(scored)]
    exact = estimate.device_bytes(scored.arguments)
    self._describe(step, memory, compiled, exact, recipes)

    def needed(size: int) -> float:
      smaller = config.copy_and_resolve_references()
      smaller.eval.batch_size = size
      program = evaluation_programs(smaller, mesh, self._classes)[-1]
      video = estimate.device_bytes(program.arguments['video'])
      batch = 2 * estimate.device_bytes(batch_of(smaller, mesh))
      return compile_program(program).needed + self._kept + (recipes - 1) * video + batch

    step['largest_batch'] = self._largest(step, needed, sharding.num_batch_shards(mesh), largest)
    return step

  def _describe(
    self,
    step: dict[str, Any],
    memory: dict[str, float],
    compiled: list[Compiled],
    exact: float,
    times: int = 1,
  ) -> None:
    """Completes a step with what the compiler says of its programs.

    Args:
      step: changed.
      memory: bytes by kind, of what is known without it.
      compiled: of the programs, which are run one after another.
      exact: bytes of the last one's arguments, without padding.
      times: how often in a step.
    """
    step['compile_seconds'] = sum(one.seconds for one in compiled)
    short = [one for one in compiled if not one.fits]
    if short:
      needed = max(one.needed for one in short)
      memory = {'all that the program needs': needed, 'next batch': memory['batch']}
      step['memory'] = memory | {
        'total': sum(memory.values()),
        'available': self._topology.chip.memory,
      }
      step['fits'] = False
      return
    last = compiled[-1]
    memory['next batch'] = memory['batch']
    memory['padding'] = max(0.0, last.arguments - exact)
    memory['temporaries'] = max(one.temporaries for one in compiled)
    memory['outputs'] = last.outputs
    memory['program'] = sum(one.code for one in compiled)
    modules = [one.module for one in compiled]
    found = [one for module in modules for one in module.collectives(dict(self._mesh.shape))]
    rows = self._collectives(found, times)
    step['collectives'] = rows
    step['flops'] |= {
      'compiler': times * sum(one.flops for one in compiled),
      'compiled': times * sum(module.matmul_flops() for module in modules),
    }
    step['unknown_loops'] = [loop for module in modules for loop in module.unknown_loops]
    main_bytes = times * sum(module.memory_bytes() for module in modules)
    network = sum(row['seconds'] for row in rows)
    step |= self._rated(memory, step['flops']['compiled'], main_bytes, network)

  def _rated(
    self, memory: dict[str, float], operations: float, main_bytes: float | None, network: float
  ) -> dict[str, Any]:
    """The memory with its sum, and the roofline."""
    chip = self._topology.chip
    total = sum(memory.values())
    rated: dict[str, Any] = {'memory': memory | {'total': total}, 'bytes': main_bytes}
    if not chip:
      return rated
    rated['memory']['available'] = chip.memory
    rated['fits'] = total <= chip.memory
    times = {'compute': operations / chip.flops, 'network': network}
    if main_bytes is not None:
      times['memory'] = main_bytes / chip.memory_bandwidth
    bound = max(times, key=times.get)
    rated['roofline'] = times | {'bound_by': bound, 'seconds': times[bound]}
    rated['roofline']['without_overlap'] = sum(times.values())
    return rated

  def _collectives(self, found: list[collectives.Collective], times: int) -> list[dict[str, Any]]:
    """Rows of collectives of one kind, over the same axes, of the same things."""
    sizes = self._sizes()
    rows: dict[tuple, dict[str, Any]] = collections.defaultdict(
      lambda: {'count': 0, 'bytes': 0.0, 'moved': 0.0, 'seconds': 0.0}
    )
    for one in found:
      by_what: dict[str, list[hlo.Array]] = collections.defaultdict(list)
      for array in one.arrays:
        by_what[sizes.get(array.size, 'other')].append(array)
      for what, arrays in by_what.items():
        part = dataclasses.replace(one, arrays=tuple(arrays))
        row = rows[one.kind, one.axes, what]
        row['count'] += times * one.count
        row['bytes'] += times * one.count * part.bytes
        row['moved'] += times * part.moved
        if self._topology.chip:
          row['seconds'] += times * part.moved / self._ring(*one.axes)
    return [
      {'kind': kind, 'axes': axes, 'what': what} | row
      for (kind, axes, what), row in sorted(rows.items(), key=lambda item: -item[1]['moved'])
    ]

  def _sizes(self) -> dict[int, str]:
    """What arrays of so many elements are; the parts that devices have of them included."""
    config, mesh = self._config, self._mesh
    model = build_model(config)
    params = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
    padded = self._classes + -self._classes % sharding.num_batch_shards(mesh)
    sizes = {count * model.spec.embed_dim: 'class embeddings' for count in (self._classes, padded)}
    for leaf in jax.tree.leaves(params):
      tensor = mesh.shape['tensor'] if 'tensor' in leaf.sharding.spec else 1
      own = math.prod(leaf.sharding.shard_shape(leaf.shape))
      for size in (leaf.size // tensor, own):
        # Scalars are as likely sums of anything.
        if size > 1:
          sizes.setdefault(size, 'parameters')
    return sizes

  def _traced(self, programs: list[Program]) -> float:
    """FLOPs on each device."""
    return sum(flops.of_jaxpr(program.trace().jaxpr) for program in programs) / self._topology.count

  def _ring(self, *axes: str) -> float:
    """Bytes per second in a ring over mesh axes; infinite where nothing is published."""
    chip = self._topology.chip
    if not chip:
      return math.inf
    numbers = tuple(sharding.AXES.index(axis) for axis in axes)
    return chip.ring_bandwidth(topologies.torus_dimensions(self._mesh.devices, numbers))

  def _largest(
    self, step: dict[str, Any], needed: Any, quantum: int, how: str
  ) -> dict[str, Any] | None:
    """The largest batch, on the line through what two batches need.

    Args:
      step: the step as the config has it.
      needed: maps a batch size to bytes, by compiling.
      quantum: of which a batch must be a multiple.
      how: 'estimate', 'verify' or 'skip'.
    """
    if how == 'skip' or not self._topology.chip:
      return None
    available = self._topology.chip.memory
    sizes = {step['batch']: step['memory']['total']}
    for _ in range(1 if step['fits'] else _MOST_HALVINGS):
      half = min(sizes) // 2 // quantum * quantum or 2 * max(sizes)
      sizes[half] = needed(half)
      if sizes[half] <= available:
        break
    (low, least), (high, most) = sorted(sizes.items())[:2]
    slope = (most - least) / (high - low)
    if slope <= 0:
      # Of models so small that the compiler's choices weigh more than the batch.
      return None
    size = int(low + (available - least) / slope) // quantum * quantum
    answer = {'batch': max(0, size), 'from': sorted(sizes), 'verified': False}
    while how == 'verify' and answer['batch'] > 0 and not answer['verified']:
      answer['verified'] = needed(answer['batch']) <= available
      if not answer['verified']:
        answer['batch'] -= max(quantum, answer['batch'] // 20 // quantum * quantum)
    return answer

  def _largest_estimated(self, step: dict[str, Any]) -> dict[str, Any]:
    """From the estimate of the activations, which is proportional to the batch."""
    memory = step['memory']
    grows = [kind for kind in ('batch', 'activations', 'frames of each recipe') if kind in memory]
    growing = sum(memory[kind] for kind in grows)
    fixed = memory['total'] - growing
    accumulation = 1 if 'recipes' in step else self._config.optim.accumulation
    quantum = sharding.num_batch_shards(self._mesh) * accumulation
    size = int(step['batch'] * (memory['available'] - fixed) / growing) // quantum * quantum
    return {'batch': max(0, size), 'from': [], 'verified': False}


def batch_of(config: ConfigDict, mesh: Mesh) -> Any:
  """The shapes of an evaluation batch."""
  return evaluation_programs(config, mesh, 1)[0].arguments['batch']


def check_config(config: ConfigDict) -> None:
  """Validates the config, without what needs an accelerator.

  Raises:
    UserError: as `config.validate`.
  """
  config_lib.validate(config)
  # Which attention computes it changes no shape, and cuDNN's cannot be traced without a GPU.
  config.model.attention = 'xla'
