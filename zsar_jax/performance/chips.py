"""What is published about accelerators."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """What is published about one device.

  Attributes:
    name: its name.
    kinds: how JAX's `device_kind` begins for it.
    memory: bytes of its main memory that a program can have: for TPUs what the compiler of
      libtpu 0.0.42.1 says is available, a little under the published size.
    flops: bfloat16 operations per second at the peak, without sparsity.
    memory_bandwidth: bytes per second to and from that memory.
    link_bandwidth: bytes per second that it can send to its neighbors, over all its links: half
      of what is published, which counts both directions.
    torus: the dimensions of the network's torus; 0 for a switch.
    source: where the figures are from.
  """

  name: str
  kinds: tuple[str, ...]
  memory: float
  flops: float
  memory_bandwidth: float
  link_bandwidth: float
  torus: int
  source: str

  def ring_bandwidth(self, dimensions: int) -> float:
    """Bytes per second that it sends in a ring along so many of the torus's dimensions.

    A ring in one dimension has one link of each chip in each direction, so that it can be run
    both ways at once: of v5e's four links two.
    """
    if not self.torus:
      return self.link_bandwidth
    return self.link_bandwidth * min(max(dimensions, 1), self.torus) / self.torus


_GOOGLE = 'cloud.google.com/tpu/docs'
_NVIDIA = 'nvidia.com/en-us/data-center'
CHIPS = {
  'v5e': Chip(
    'TPU v5e', ('TPU v5 lite', 'TPU v5e'), 15.75 * GIB, 197e12, 819e9, 200e9, 2, f'{_GOOGLE}/v5e'
  ),
  'v5p': Chip(
    'TPU v5p', ('TPU v5', 'TPU v5p'), 95.74 * GIB, 459e12, 2765e9, 600e9, 3, f'{_GOOGLE}/v5p'
  ),
  'v6e': Chip(
    'TPU v6e', ('TPU v6 lite', 'TPU v6e'), 31.25 * GIB, 918e12, 1600e9, 400e9, 2, f'{_GOOGLE}/v6e'
  ),
  'A100': Chip(
    'A100 SXM 80 GB', ('NVIDIA A100-SXM',), 80e9, 312e12, 2039e9, 300e9, 0, f'{_NVIDIA}/a100'
  ),
  'H100': Chip(
    'H100 SXM', ('NVIDIA H100 80GB HBM3',), 80e9, 989.5e12, 3350e9, 450e9, 0, f'{_NVIDIA}/h100'
  ),
  'H200': Chip('H200 SXM', ('NVIDIA H200',), 141e9, 989.5e12, 4800e9, 450e9, 0, f'{_NVIDIA}/h200'),
}


def find_chip(device_kind: str) -> Chip | None:
  """The chip that JAX calls `device_kind`, by the longest beginning; None for another."""
  known = {
    kind: chip for chip in CHIPS.values() for kind in chip.kinds if device_kind.startswith(kind)
  }
  return known[max(known, key=len)] if known else None
