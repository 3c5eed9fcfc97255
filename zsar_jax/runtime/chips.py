"""Published figures of accelerators."""

import dataclasses

GIB = 2**30

# The share of a GPU's memory that JAX can take for itself. It takes less by default.
GPU_MEMORY_SHARE = 0.95
DEFAULT_GPU_MEMORY_SHARE = 0.75

# Bytes of a GPU's main memory as the CUDA driver reports them, see `performance.gpu_targets`.
GPU_MEMORY = {
  'A100': 85100068864,
  'H100': 84942979072,
  'H200': 151397597184,
  'B200': 191514411008,
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """Published figures of one kind of device.

  Attributes:
    name: of the device.
    kinds: prefixes of JAX's `device_kind` for it.
    memory: bytes of main memory that a program can use: for TPUs what the compiler of libtpu
      0.0.42.1 reports as available, a little less than the published size; for GPUs 95 % of what
      the driver reports, since the contexts of CUDA, cuBLAS, cuDNN and NCCL lie beside JAX's pool.
    flops: bfloat16 operations per second at the peak, without sparsity.
    memory_bandwidth: bytes per second to and from main memory.
    link_bandwidth: bytes per second that it can send to its neighbors over all its links: half
      of the published figure, which counts both directions.
    torus: the number of dimensions of the network's torus; 0 for a switch.
    source: of the figures.
    slice_bandwidth: for TPUs, a chip's share of the bytes per second that its host can send over
      the data center's network (DCN) to other slices.
  """

  name: str
  kinds: tuple[str, ...]
  memory: float
  flops: float
  memory_bandwidth: float
  link_bandwidth: float
  torus: int
  source: str
  slice_bandwidth: float = 0.0

  def ring_bandwidth(self, dimensions: int) -> float:
    """Returns the bytes per second that a chip sends in a ring along dimensions of the torus.

    A ring along one dimension has one link of each chip in each direction, so that it runs both
    ways at once: on v5e it has two of a chip's four links.

    Args:
      dimensions: the number of dimensions.
    """
    if not self.torus:
      return self.link_bandwidth
    return self.link_bandwidth * min(max(dimensions, 1), self.torus) / self.torus


def _gpu(
  key: str, name: str, kind: str, flops: float, memory_bandwidth: float, link_bandwidth: float
) -> Chip:
  memory = GPU_MEMORY_SHARE * GPU_MEMORY[key]
  source = f'nvidia.com/en-us/data-center/{key.lower()}'
  return Chip(name, (kind,), memory, flops, memory_bandwidth, link_bandwidth, 0, source)


_GOOGLE = 'cloud.google.com/tpu/docs'
# The figures of the DCN are those of the same pages: for v5e and v6e 6.4 and 25.6 Tbit/s for a pod
# of 256 chips, for v5p 50 Gbit/s for a chip.
CHIPS = {
  'v5e': Chip(
    'TPU v5e',
    ('TPU v5 lite', 'TPU v5e'),
    memory=15.75 * GIB,
    flops=197e12,
    memory_bandwidth=819e9,
    link_bandwidth=200e9,
    torus=2,
    source=f'{_GOOGLE}/v5e',
    slice_bandwidth=6.4e12 / 256 / 8,
  ),
  'v5p': Chip(
    'TPU v5p',
    ('TPU v5', 'TPU v5p'),
    memory=95.74 * GIB,
    flops=459e12,
    memory_bandwidth=2765e9,
    link_bandwidth=600e9,
    torus=3,
    source=f'{_GOOGLE}/v5p',
    slice_bandwidth=50e9 / 8,
  ),
  'v6e': Chip(
    'TPU v6e',
    ('TPU v6 lite', 'TPU v6e'),
    memory=31.25 * GIB,
    flops=918e12,
    memory_bandwidth=1600e9,
    link_bandwidth=400e9,
    torus=2,
    source=f'{_GOOGLE}/v6e',
    slice_bandwidth=25.6e12 / 256 / 8,
  ),
  'A100': _gpu('A100', 'A100 SXM 80 GB', 'NVIDIA A100-SXM', 312e12, 2039e9, 300e9),
  'H100': _gpu('H100', 'H100 SXM', 'NVIDIA H100 80GB HBM3', 989.5e12, 3350e9, 450e9),
  'H200': _gpu('H200', 'H200 SXM', 'NVIDIA H200', 989.5e12, 4800e9, 450e9),
  'B200': _gpu('B200', 'B200 SXM', 'NVIDIA B200', 2250e12, 7700e9, 900e9),
}


def find_chip(device_kind: str) -> Chip | None:
  """Returns the chip that JAX calls `device_kind`, by the longest prefix; None if unknown."""
  matches = {
    kind: chip for chip in CHIPS.values() for kind in chip.kinds if device_kind.startswith(kind)
  }
  return matches[max(matches, key=len)] if matches else None
