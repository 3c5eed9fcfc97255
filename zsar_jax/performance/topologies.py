"""Abstract device topologies: compiling for devices that this host does not have."""

import dataclasses
import importlib.util
import os
import re
from typing import Any

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.performance.chips import CHIPS, Chip

# What libtpu needs on a host without a TPU outside Google Cloud; any valid type will do. It is
# loaded only to compile, which several processes may do at once.
TPU_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices of one kind.

  Attributes:
    name: as the user wrote it.
    platform: 'tpu', 'gpu' or 'cpu'.
    count: the number of devices.
    chip: the published figures of a device; None for CPUs, which differ too much.
  """

  name: str
  platform: str
  count: int
  chip: Chip | None

  @property
  def compiles(self) -> bool:
    """Whether the compiler for these devices works without them."""
    return self.platform != 'gpu'

  def devices(self) -> list[Any]:
    """Returns abstract TPUs, or CPU devices of this host, which also represent GPUs.

    Raises:
      UserError: if libtpu does not know the topology.
    """
    import jax
    from jax.experimental import topologies

    if self.platform != 'tpu':
      return jax.devices('cpu')[: self.count]
    try:
      return list(topologies.get_topology_desc(self.name, platform='tpu').devices)
    except jax.errors.JaxRuntimeError as error:
      reason = first_line(error).split(': ', 1)[-1]
      raise UserError(f'--topology: libtpu cannot compile for {self.name!r} ({reason})') from None


def parse(text: str) -> Topology:
  """Parses 'v5e:4x4', 'v5p:2x2x2', 'gpu:8xH100' or 'cpu:8'.

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
    return Topology(text, 'gpu', int(gpu[1]), CHIPS[gpu[2]])
  if kind in tpus and re.fullmatch(r'[1-9]\d{0,2}(x[1-9]\d{0,2}){1,2}', size):
    count = int(np.prod([int(side) for side in size.split('x')]))
    return Topology(text, 'tpu', count, CHIPS[kind])
  raise UserError(
    f'--topology: {text!r} is not known; write a TPU slice such as v5e:4x4 or v5p:2x2x2'
    f' ({", ".join(tpus)}), GPUs such as gpu:8xH100 ({", ".join(gpus)}), or cpu:8'
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
  else:
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
