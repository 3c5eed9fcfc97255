"""How a model is computed: dtype, precision, attention, rematerialization, compiler options."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from zsar_jax.errors import UserError

# The dtype of matrix products and of the residual stream, and the precision of float32 products.
# By default, XLA rounds the factors of float32 products to TF32 on GPUs and to bfloat16 on TPUs.
DTYPES = {
  'float32': (jnp.float32, 'float32'),
  'tensorfloat32': (jnp.float32, 'tensorfloat32'),
  'bfloat16': (jnp.bfloat16, 'float32'),
}

ATTENTIONS = ('auto', 'xla', 'cudnn')

# What a residual block stores for the backward pass: everything, its matrix products with weights,
# or only its input.
REMATS = {
  'none': None,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class Compute:
  """How a model is computed; the model itself does not depend on it.

  Attributes:
    dtype: dtype of matrix products and the residual stream, float32 or bfloat16.
    precision: of float32 matrix products, as in `jax.default_matmul_precision`.
    attention: 'xla' or 'cudnn', see `attention.attend`.
    remat: what each residual block stores for the backward pass, one of `REMATS`.
    flat_norms: whether layer norms are `normalization.normalize`, which sees the tokens of all
      sequences as one matrix. XLA for GPUs then keeps the residual stream in the order that matrix
      products need. On TPUs, whose tiles hold eight tokens of one sequence, this would copy
      the stream.
    deterministic: see `compiler_options`.
    order_free: whether the mean over a clip's frames is the same, bit for bit, for every order of
      the frames. A sum in floating point depends on the order of its summands.

  Raises:
    UserError: if `attention` or `remat` is none of the choices.
  """

  dtype: DTypeLike = jnp.float32
  precision: str = 'float32'
  attention: str = 'xla'
  remat: str = 'none'
  flat_norms: bool = True
  deterministic: bool = False
  order_free: bool = False

  def __post_init__(self):
    for name, choices in (('attention', ('xla', 'cudnn')), ('remat', REMATS)):
      value = getattr(self, name)
      if value not in choices:
        raise UserError(f'{name}: {value!r} is none of {", ".join(choices)}')


def choose_compute(
  dtype: str = 'float32',
  attention: str = 'auto',
  remat: str = 'none',
  deterministic: bool = False,
  mesh: Mesh | None = None,
) -> Compute:
  """Returns how a model is computed on devices.

  Args:
    dtype: one of `DTYPES`.
    attention: one of `ATTENTIONS`. 'auto' is cuDNN's kernels in bfloat16 on NVIDIA GPUs that have
      them (compute capability 8.0, Ampere, and later), and 'xla' otherwise.
    remat: one of `REMATS`.
    deterministic: see `compiler_options`.
    mesh: the devices, which may be abstract; None for JAX's default backend.

  Raises:
    UserError: for an unknown choice, or if cudnn is asked for and the devices do not have it or it
      does not support the dtype.
  """
  if dtype not in DTYPES:
    raise UserError(f'dtype: {dtype!r} is none of {", ".join(DTYPES)}')
  number, precision = DTYPES[dtype]
  device = mesh.devices.flat[0] if mesh else jax.devices()[0]
  if attention == 'cudnn' and dtype != 'bfloat16':
    raise UserError(
      "attention: cudnn computes attention in bfloat16 only; set dtype to 'bfloat16', or take"
      " 'auto'"
    )
  if attention == 'cudnn' and not _has_cudnn_attention(device):
    raise UserError(
      'attention: cudnn needs an NVIDIA GPU of compute capability 8.0 or later, and the devices'
      f" here are {device.platform}: {device.device_kind}; take 'auto'"
    )
  if attention == 'auto':
    attention = 'cudnn' if dtype == 'bfloat16' and _has_cudnn_attention(device) else 'xla'
  flat_norms = device.platform != 'tpu'
  return Compute(number, precision, attention, remat, flat_norms, deterministic)


def _has_cudnn_attention(device: jax.Device) -> bool:
  return device.device_kind.startswith('NVIDIA') and float(device.compute_capability) >= 8


def compiler_options(
  mesh: Mesh | None = None, deterministic: bool = False
) -> dict[str, str | bool] | None:
  """Returns the `compiler_options` with which a model's forward and backward pass are jitted.

  On CPUs they make XLA keep the optimization barriers between residual blocks. By default XLA for
  CPUs drops the barriers before it fuses operations; each block then recomputes the residual
  stream (and its gradient) from the first block on, several times.

  On GPUs a deterministic program has no sum whose order differs between executions, such as those
  of scattered gradients and of cuDNN's attention. Its kernels follow from the program, the GPU and
  the versions of the libraries: XLA does not time candidates (autotuning), and an empty folder
  keeps it from taking the results of timing that JAX's compilation cache holds from other runs.

  Args:
    mesh: the devices; None for JAX's default backend.
    deterministic: whether every execution on GPUs, after any compilation, must have equal results
      bit for bit.

  Returns:
    The options; None if there are none.
  """
  platform = mesh.devices.flat[0].platform if mesh else jax.default_backend()
  if platform == 'cpu':
    return {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  if platform == 'gpu' and deterministic:
    return {
      'xla_gpu_exclude_nondeterministic_ops': True,
      'xla_gpu_per_fusion_autotune_cache_dir': '',
    }
  return None
