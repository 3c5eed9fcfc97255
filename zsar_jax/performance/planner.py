"""Plans a run: memory, FLOPs, collectives and time of its training and evaluation steps."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.errors import UserError
from zsar_jax.models import flops
from zsar_jax.models.from_config import build_model, choose_attention, compute_dtype
from zsar_jax.performance import estimate, hlo_costs, hlo_flops, kernels, largest_batch, topologies
from zsar_jax.performance.collective_table import array_contents, collective_rows
from zsar_jax.performance.collectives import SLICES, find_collectives
from zsar_jax.performance.compiler import Compiled, compile_program
from zsar_jax.performance.programs import Program, evaluation_programs, train_program
from zsar_jax.performance.topologies import Topology
from zsar_jax.runtime import sharding
from zsar_jax.runtime.chips import DEFAULT_GPU_MEMORY_SHARE, GPU_MEMORY_SHARE
from zsar_jax.training import optim

# Kinds of memory that are proportional to the batch.
_PROPORTIONAL = ('batch', 'activations', 'frames of each recipe')


def make_plan(
  config: ConfigDict, topology: Topology, classes: int, largest: str = 'estimate'
) -> dict[str, Any]:
  """Returns what is known about a run on a topology, of types that JSON has.

  Args:
    config: a validated config.
    topology: the devices.
    classes: the number of classes, in training and in evaluation.
    largest: whether to look for the largest batch that fits: 'estimate', 'verify' or 'skip'.

  Raises:
    UserError: if the mesh or a batch does not fit the devices, or the compiler is missing.
  """
  mesh = sharding.make_mesh(config.mesh, topology.devices())
  config, changes = _round_batches(config, sharding.num_batch_shards(mesh))
  estimated = None if topology.compiles else _estimated_attention(config)
  model = build_model(config, mesh)
  attention = estimated or model.compute.attention
  plan = {
    'changes': changes,
    'topology': topology.name,
    'platform': topology.platform,
    'machines': topology.machines,
    'slices': topology.slices,
    'devices': topology.count,
    'mesh': dict(mesh.shape),
    'chip': dataclasses.asdict(topology.chip) if topology.chip else None,
    'compiled': topology.compiles,
    'classes': classes,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params)),
    'model': {name: config.model[name] for name in ('preset', 'temporal', 'dtype', 'remat')}
    | {'attention': attention},
    'frames': config.view.num_frames,
    'accumulation': config.optim.accumulation,
  }
  planner = _Planner(config, topology, mesh, classes, largest, attention)
  plan['train'] = planner.training()
  if config.eval.datasets:
    plan['evaluation'] = planner.evaluation()
  return plan


def _round_batches(config: ConfigDict, parts: int) -> tuple[ConfigDict, list[str]]:
  """Returns a config whose batches divide over the devices, and its changes in words."""
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


def _estimated_attention(config: ConfigDict) -> str:
  """Returns the attention that a run on GPUs would use: 'xla' or 'cudnn'.

  Args:
    config: its attention is changed to what can be traced without a compiler for GPUs.

  Raises:
    UserError: if the dtype does not have the attention that the config asks for.
  """
  attention, config.model.attention = choose_attention(config), 'xla'
  # All GPUs in the table of chips have cuDNN's kernels.
  if compute_dtype(config).itemsize == 2:
    return 'xla' if attention == 'xla' else 'cudnn'
  if attention == 'cudnn':
    raise UserError(
      'config.model.attention: cudnn computes attention in bfloat16 only; set config.model.dtype to'
      " 'bfloat16', or take 'auto'"
    )
  return 'xla'


class _Planner:
  """Plans the steps of a config."""

  def __init__(
    self,
    config: ConfigDict,
    topology: Topology,
    mesh: Mesh,
    classes: int,
    largest: str,
    attention: str,
  ):
    self._config, self._topology, self._mesh = config, topology, mesh
    self._classes, self._largest, self._attention = classes, largest, attention
    # Bytes of the optimizer's state, which stays on the device while a run evaluates.
    self._optimizer_bytes = 0.0

  def training(self) -> dict[str, Any]:
    """Plans the optimizer step."""
    config, mesh = self._config, self._mesh
    program = train_program(config, mesh, self._classes)
    state = program.arguments['state']
    model = build_model(config, mesh)
    _, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
    traffic = estimate.required_traffic(
      config, model.spec, state['params'], trained, mesh, self._classes
    )
    self._optimizer_bytes = estimate.device_bytes(
      {name: tree for name, tree in state.items() if name != 'params'}
    )
    memory: dict[str, float] = {
      'parameters': estimate.device_bytes(state['params']),
      'optimizer state': self._optimizer_bytes,
      'batch': estimate.device_bytes(program.arguments['batch']),
      'class texts and keys': estimate.device_bytes(program.arguments['inputs']),
    }
    step = {'batch': config.data.batch_size, 'flops': {'traced': self._traced_flops([program])}}
    must_move = dataclasses.asdict(traffic) | {'total': traffic.total}
    must_move['of it between slices'] = must_move.pop('between_slices')
    step['must_move'] = must_move
    multiple = sharding.num_batch_shards(mesh) * config.optim.accumulation
    if not self._topology.compiles:
      memory['activations'] = estimate.activation_bytes(
        config, model.spec, self._classes, mesh, self._attention
      )
      memory['gradients'] = memory['parameters']
      fsdp = mesh.shape['fsdp']
      memory['gathered parameters'] = traffic.gathered * fsdp / max(fsdp - 1, 1)
      seconds = traffic.total / self._bandwidth(('fsdp',))
      return self._complete_estimate(step, memory, seconds, multiple)

    def measure(size: int) -> float:
      changed = config.copy_and_resolve_references()
      changed.data.batch_size = size
      program = train_program(changed, mesh, self._classes)
      next_batch = estimate.device_bytes(program.arguments['batch'])
      return self._compile(program).required + next_batch

    unpadded = sum(memory.values())
    self._add_compiled(step, memory, [self._compile(program)], unpadded)
    step['largest_batch'] = self._largest_batch(step, measure, multiple)
    return step

  def evaluation(self) -> dict[str, Any]:
    """Plans preparing and scoring a batch under each recipe."""
    config, mesh = self._config, self._mesh
    *preparing, scoring = evaluation_programs(config, mesh, self._classes)
    recipes = len(preparing)
    operations = self._traced_flops(preparing) + recipes * self._traced_flops([scoring])
    video_bytes = estimate.device_bytes(scoring.arguments['video'])
    step = {'batch': config.eval.batch_size, 'recipes': recipes, 'flops': {'traced': operations}}
    memory = {
      'parameters': estimate.device_bytes(scoring.arguments['params']),
      'optimizer state': self._optimizer_bytes,
      'batch': estimate.device_bytes(preparing[0].arguments['batch']),
      'frames of each recipe': recipes * video_bytes,
      'class texts and keys': estimate.device_bytes(scoring.arguments['classes']),
    }
    multiple = sharding.num_batch_shards(mesh)
    if not self._topology.compiles:
      memory['activations'] = self._evaluation_activations()
      itemsize = compute_dtype(config).itemsize
      gathered = itemsize / 4 * memory['parameters'] * (mesh.shape['fsdp'] - 1)
      seconds = recipes * gathered / self._bandwidth(('fsdp',))
      return self._complete_estimate(step, memory, seconds, multiple)

    def measure(size: int) -> float:
      changed = config.copy_and_resolve_references()
      changed.eval.batch_size = size
      prepare, *_, score = evaluation_programs(changed, mesh, self._classes)
      other_videos = (recipes - 1) * estimate.device_bytes(score.arguments['video'])
      batches = 2 * estimate.device_bytes(prepare.arguments['batch'])
      return self._compile(score).required + self._optimizer_bytes + other_videos + batches

    # The programs that prepare differ only in what they draw and paint; the last stands for all.
    compiled = [self._compile(preparing[-1]), self._compile(scoring)]
    self._add_compiled(step, memory, compiled, estimate.device_bytes(scoring.arguments), recipes)
    step['largest_batch'] = self._largest_batch(step, measure, multiple)
    return step

  def _compile(self, program: Program) -> Compiled:
    return compile_program(program, self._topology.compiler_options)

  def _evaluation_activations(self) -> float:
    """Estimates the activations of an evaluation: without a backward pass, those of one block."""
    config = self._config.copy_and_resolve_references()
    config.model.remat = 'full'
    config.data.batch_size, config.optim.accumulation = config.eval.batch_size, 1
    spec = dataclasses.replace(build_model(config, self._mesh).spec, image_layers=1)
    return estimate.activation_bytes(config, spec, self._classes, self._mesh, self._attention)

  def _complete_estimate(
    self, step: dict[str, Any], memory: dict[str, float], network: float, multiple: int
  ) -> dict[str, Any]:
    """Returns a step with an estimated memory, roofline and largest batch.

    Args:
      step: the step so far.
      memory: bytes by kind.
      network: seconds that the network needs.
      multiple: a batch must be a multiple of this number.
    """
    step |= self._rate(memory, step['flops']['traced'], None, network)
    proportional = sum(memory[kind] for kind in _PROPORTIONAL if kind in memory)
    fixed = sum(memory.values()) - proportional
    available = step['memory']['available']
    step['largest_batch'] = largest_batch.estimate(
      step['batch'], proportional, fixed, available, multiple
    )
    return step

  def _add_compiled(
    self,
    step: dict[str, Any],
    memory: dict[str, float],
    compiled: list[Compiled],
    unpadded: float,
    times: int = 1,
  ) -> None:
    """Adds to a step what the compiler says about its programs.

    Args:
      step: is changed.
      memory: the bytes by kind that are known without the compiler.
      compiled: the programs, which run one after another.
      unpadded: bytes of the last program's arguments, without padding.
      times: how often the step runs them.
    """
    step['compile_seconds'] = sum(program.seconds for program in compiled)
    too_large = [program for program in compiled if not program.fits]
    if too_large:
      required = max(program.required for program in too_large)
      memory = {'all that the program needs': required, 'next batch': memory['batch']}
      assert self._topology.chip is not None  # The compiler for a CPU knows no limit.
      total, available = sum(memory.values()), self._topology.chip.memory
      step['memory'] = memory | {'total': total, 'available': available}
      step['fits'] = False
      return
    memory['next batch'] = memory['batch']
    memory['padding'] = max(0.0, compiled[-1].arguments - unpadded)
    memory['temporaries'] = max(program.temporaries for program in compiled)
    memory['outputs'] = compiled[-1].outputs
    memory['program'] = sum(program.code for program in compiled)
    # All programs fit, so each has a module.
    modules = [program.module for program in compiled if program.module is not None]
    shape = dict(self._mesh.shape)
    step['collectives'] = collective_rows(
      [collective for module in modules for collective in find_collectives(module, shape)],
      array_contents(self._config, self._mesh, self._classes),
      times,
      self._bandwidth,
    )
    step['flops']['compiled'] = times * sum(map(hlo_flops.matmul_flops, modules))
    own_count = times * sum(program.flops for program in compiled)
    if not math.isnan(own_count):
      step['flops']['compiler'] = own_count
    sequential = None
    if self._topology.platform == 'gpu':
      all_kernels = [
        kernel
        for program in compiled
        if program.module and program.sources
        for kernel in kernels.find_kernels(program.module, program.sources)
      ]
      step['kernels'] = kernels.kernel_rows(all_kernels, times)
      step['moves'] = kernels.traffic_rows(all_kernels, times)
      sequential = times * sum(self._kernel_seconds(kernel) for kernel in all_kernels)
    step['unknown_loops'] = [loop for module in modules for loop in module.unknown_loops]
    traffic = times * sum(map(hlo_costs.memory_bytes, modules))
    network = sum(row['seconds'] for row in step['collectives'] if row['axes'] != SLICES)
    between_slices = sum(row['seconds'] for row in step['collectives'] if row['axes'] == SLICES)
    step |= self._rate(memory, step['flops']['compiled'], traffic, network, between_slices)
    if sequential is not None and 'roofline' in step:
      step['roofline']['kernel_by_kernel'] = sequential

  def _kernel_seconds(self, kernel: kernels.Kernel) -> float:
    """Returns how long a kernel takes at the peaks, computing while it moves memory."""
    chip = self._topology.chip
    assert chip is not None  # Only CPUs have no published figures.
    return max(kernel.flops / chip.flops, kernel.bytes / chip.memory_bandwidth)

  def _rate(
    self,
    memory: dict[str, float],
    operations: float,
    traffic: float | None,
    network: float,
    between_slices: float = 0.0,
  ) -> dict[str, Any]:
    """Returns the memory with its total, whether it fits, and the roofline.

    Args:
      memory: bytes by kind.
      operations: FLOPs of a device.
      traffic: bytes that a device reads from and writes to its memory, if known.
      network: seconds that the network needs.
      between_slices: seconds that the network between slices needs.
    """
    chip = self._topology.chip
    total = sum(memory.values())
    rated: dict[str, Any] = {'memory': memory | {'total': total}, 'bytes': traffic}
    if not chip:
      return rated
    rated['memory']['available'] = chip.memory
    rated['fits'] = total <= chip.memory
    # JAX takes less of a GPU's memory by default.
    default = chip.memory * DEFAULT_GPU_MEMORY_SHARE / GPU_MEMORY_SHARE
    if self._topology.platform == 'gpu' and default < total <= chip.memory:
      rated['memory_fraction'] = GPU_MEMORY_SHARE
    times = {'compute': operations / chip.flops, 'network': network}
    if traffic is not None:
      times['memory'] = traffic / chip.memory_bandwidth
    if self._topology.slices > 1:
      times['slices'] = between_slices
    bound = max(times, key=times.__getitem__)
    rated['roofline'] = times | {'bound_by': bound, 'seconds': times[bound]}
    rated['roofline']['without_overlap'] = sum(times.values())
    return rated

  def _largest_batch(
    self, step: dict[str, Any], measure: Callable[[int], float], multiple: int
  ) -> dict[str, Any] | None:
    """Returns the largest batch by compiling; None if it is not looked for."""
    if self._largest == 'skip' or not self._topology.chip:
      return None
    return largest_batch.search(
      step['batch'],
      step['memory']['total'],
      self._topology.chip.memory,
      multiple,
      measure,
      verify=self._largest == 'verify',
    )

  def _traced_flops(self, programs: list[Program]) -> float:
    """Returns the FLOPs of programs on each device."""
    return sum(flops.of_jaxpr(program.trace().jaxpr) for program in programs) / self._topology.count

  def _bandwidth(self, axes: tuple[str, ...]) -> float:
    """Returns the bytes per second of a device in a ring over mesh axes, or between slices.

    It is infinite if nothing is published.
    """
    chip = self._topology.chip
    if not chip:
      return math.inf
    if axes == SLICES:
      return chip.slice_bandwidth
    numbers = tuple(sharding.AXES.index(axis) for axis in axes)
    return chip.ring_bandwidth(topologies.torus_dimensions(self._mesh.devices, numbers))
