"""Abstract device topologies: compiling for devices that this host does not have."""

import dataclasses
import importlib.util
import os
import re
from typing import Any

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.performance.gpu_targets import TARGETS, GpuTarget
from zsar_jax.runtime.chips import CHIPS, Chip

# What libtpu needs on a host without a TPU outside Google Cloud; any valid type will do. It is
# loaded only to compile, which several processes may do at once.
TPU_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}

# Without a GPU the compiler cannot try kernels. It then finds no tiles for some products that it
# would write with Triton, so they go to cuBLAS; a run may choose otherwise.
_GPU_OPTIONS = {'xla_gpu_enable_triton_gemm': False, 'xla_gpu_autotune_level': 0}
_GPU_COMPILERS = ('jax_cuda12_plugin', 'jax_cuda13_plugin')

# The GPUs of one machine, which NVLink connects.
_GPUS_PER_MACHINE = 8


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices of one kind.

  Attributes:
    name: as the user wrote it.
    platform: 'tpu', 'gpu' or 'cpu'.
    count: the number of devices.
    chip: the published figures of a device; None for CPUs, which differ too much.
    target: what the compiler for GPUs asks about them; None for other devices.
    slices: the number of TPU slices, each with links of its own, which a data center's network
      connects; 1 for other devices.
  """

  name: str
  platform: str
  count: int
  chip: Chip | None
  target: GpuTarget | None = None
  slices: int = 1

  @property
  def compiles(self) -> bool:
    """Whether a compiler for these devices is installed."""
    return self.platform != 'gpu' or any(map(importlib.util.find_spec, _GPU_COMPILERS))

  @property
  def compiler_options(self) -> dict[str, Any]:
    """The options with which programs are compiled where the devices are not."""
    return dict(_GPU_OPTIONS) if self.platform == 'gpu' else {}

  @property
  def machines(self) -> int:
    """The number of machines of GPUs; 1 for other devices."""
    return -(-self.count // _GPUS_PER_MACHINE) if self.platform == 'gpu' else 1

  def devices(self) -> list[Any]:
    """Returns abstract devices, or CPU devices of this host.

    CPU devices also represent GPUs for which no compiler is installed.

    Raises:
      UserError: if the compiler does not know the topology.
    """
    import jax
    from jax.experimental import topologies

    if self.platform == 'cpu' or not self.compiles:
      return jax.devices('cpu')[: self.count]
    # The platform 'gpu' would be looked up among the devices of this host.
    compiler, platform, name, options = 'libtpu', 'tpu', self.name, {}
    if self.slices > 1:
      name, options = name.removeprefix(f'{self.slices}x'), {'num_slices': self.slices}
    if self.target:
      # Slices, machines, devices of a machine.
      layout = f'1x{self.machines}x{self.count // self.machines}'
      compiler, platform, name = "JAX's plugin for CUDA", 'cuda', ''
      options = {'target_config': self.target.describe(), 'topology': layout}
    try:
      return list(topologies.get_topology_desc(name, platform=platform, **options).devices)
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
      reason = first_line(error).split(': ', 1)[-1]
      raise UserError(
        f'--topology: {compiler} cannot compile for {self.name!r} ({reason})'
      ) from None


def parse(text: str) -> Topology:
  """Parses 'v5e:4x4', 'v5p:2x2x2', '2xv5e:4x4', 'gpu:8xH100' or 'cpu:8'.

  Raises:
    UserError: for any other text.
  """
  tpus = [name for name, chip in CHIPS.items() if chip.torus]
  gpus = [name for name, chip in CHIPS.items() if not chip.torus]
  kind, _, size = text.partition(':')
  if kind == 'cpu' and re.fullmatch(r'[1-9]\d{0,2}', size):
    return Topology(text, 'cpu', int(size), None)
  gpu = re.fullmatch(r'([1-9]\d{0,4})x(\w+)', size)
  if kind == 'gpu' and gpu and gpu[2] in gpus:
    if int(gpu[1]) > _GPUS_PER_MACHINE and int(gpu[1]) % _GPUS_PER_MACHINE:
      raise UserError(
        f'--topology: {text!r} does not fill its machines, which have {_GPUS_PER_MACHINE} GPUs;'
        f' write a multiple of {_GPUS_PER_MACHINE}'
      )
    return Topology(text, 'gpu', int(gpu[1]), CHIPS[gpu[2]], TARGETS[gpu[2]])
  tpu = re.fullmatch(r'(?:([2-9]|[1-9]\d{1,2})x)?(\w+)', kind)
  if tpu and tpu[2] in tpus and re.fullmatch(r'[1-9]\d{0,2}(x[1-9]\d{0,2}){1,2}', size):
    slices = int(tpu[1] or 1)
    count = slices * int(np.prod([int(side) for side in size.split('x')]))
    return Topology(text, 'tpu', count, CHIPS[tpu[2]], slices=slices)
  raise UserError(
    f'--topology: {text!r} is not known; write a TPU slice such as v5e:4x4 or v5p:2x2x2'
    f' ({", ".join(tpus)}), several slices such as 2xv5e:4x4, GPUs such as gpu:8xH100'
    f' ({", ".join(gpus)}), or cpu:8'
  )


def prepare_environment(topology: Topology) -> None:
  """Sets the environment variables of JAX and libtpu; call it before JAX is imported.

  Raises:
    UserError: if the topology needs libtpu, which is not installed.
  """
  os.environ['JAX_PLATFORMS'] = 'cpu'
  if topology.platform == 'tpu':
    if importlib.util.find_spec('libtpu') is None:
      raise UserError(
        f"--topology: to compile for {topology.name} takes libtpu: pip install 'zsar_jax[tpu]'"
      )
    for name, value in TPU_ENVIRONMENT.items():
      os.environ.setdefault(name, value)
  elif topology.platform == 'cpu' or not topology.compiles:
    flag = f'--xla_force_host_platform_device_count={topology.count}'
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}'.strip()


def torus_dimensions(devices: np.ndarray, mesh_axes: tuple[int, ...]) -> int:
  """Returns along how many dimensions of the torus a group of devices extends.

  Args:
    devices: the mesh's array of devices.
    mesh_axes: the axes of the array along which the group extends.
  """
  start = tuple(slice(None) if axis in mesh_axes else 0 for axis in range(devices.ndim))
  group = np.ravel(devices[start])
  coordinates = np.array([getattr(device, 'coords', (0,)) for device in group])
  return int((coordinates != coordinates[:1]).any(axis=0).sum())
