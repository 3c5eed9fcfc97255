"""Descriptions of GPUs for XLA's compiler, which needs them where there is no GPU to ask.

The limits of a compute capability are those of the table "Technical Specifications per Compute
Capability" in NVIDIA's CUDA C++ Programming Guide; the limits of a GPU are those of NVIDIA's
architecture whitepapers and data sheets; the sizes of memory and caches are those that the CUDA
driver reports, which XLA publishes for these GPUs (xla/backends/gpu/target_config).
"""

import dataclasses

from zsar_jax.runtime.chips import GPU_MEMORY

KIB = 2**10


@dataclasses.dataclass(frozen=True)
class GpuTarget:
  """What the compiler asks about a GPU.

  Attributes:
    device_kind: JAX's name for it.
    capability: the major number of its compute capability; the minor number is 0.
    cores: the number of its multiprocessors.
    units: f32 units of a multiprocessor.
    shared_memory: bytes of shared memory of a multiprocessor. A block can have 1 KiB less.
    cache: bytes of the L2 cache.
    clock: GHz.
    memory: bytes of main memory.
    bandwidth: bytes per second to and from main memory.
  """

  device_kind: str
  capability: int
  cores: int
  units: int
  shared_memory: int
  cache: int
  clock: float
  memory: int
  bandwidth: float

  def describe(self) -> str:
    """Returns the description as the text of XLA's GpuTargetConfigProto."""
    # Instructions that only this capability has, such as the products of warp groups.
    extension = 'ACCELERATED_FEATURES' if self.capability >= 9 else 'NONE'
    return f"""
      gpu_device_info {{
        cuda_compute_capability {{ major: {self.capability} feature_extension: {extension} }}
        core_count: {self.cores}
        fpus_per_core: {self.units}
        clock_rate_ghz: {self.clock}
        memory_bandwidth: {self.bandwidth:.0f}
        device_memory_size: {self.memory}
        l2_cache_size: {self.cache}
        shared_memory_per_core: {self.shared_memory}
        shared_memory_per_block: {48 * KIB}
        shared_memory_per_block_optin: {self.shared_memory - KIB}
        registers_per_core_limit: 65536
        registers_per_block_limit: 65536
        threads_per_core_limit: 2048
        threads_per_block_limit: 1024
        threads_per_warp: 32
        block_dim_limit_x: 2147483647
        block_dim_limit_y: 65535
        block_dim_limit_z: 65535
      }}
      platform_name: "CUDA"
      device_description_str: "{self.device_kind}"
      dnn_version_info {{ major: 9 minor: 10 }}
      runtime_version {{ major: 12 minor: 9 patch: 0 }}
    """


# By the names of `chips.CHIPS`.
TARGETS = {
  'A100': GpuTarget(
    'NVIDIA A100-SXM4-80GB', 8, 108, 64, 164 * KIB, 40 * KIB**2, 1.41, GPU_MEMORY['A100'], 2.039e12
  ),
  'H100': GpuTarget(
    'NVIDIA H100 80GB HBM3', 9, 132, 128, 228 * KIB, 50 * KIB**2, 1.98, GPU_MEMORY['H100'], 3.352e12
  ),
  'H200': GpuTarget(
    'NVIDIA H200', 9, 132, 128, 228 * KIB, 50 * KIB**2, 1.98, GPU_MEMORY['H200'], 4.8e12
  ),
  'B200': GpuTarget(
    'NVIDIA B200', 10, 148, 128, 228 * KIB, 132644864, 1.965, GPU_MEMORY['B200'], 7.672e12
  ),
}
