"""What JAX and XLA say about devices that are missing or too small, as sentences for users."""

import logging
import os
import re
import sys

from zsar_jax.errors import first_line
from zsar_jax.runtime.wording import format_bytes

# What the texts of XLA's errors have in common if a device had no memory left, of GPUs, CPUs and
# TPUs. RESOURCE_EXHAUSTED is also the status of other errors, such as messages that are too long.
_NO_MEMORY = re.compile(
  r'RESOURCE_EXHAUSTED.*(out of memory|failed to allocate|attempting to (allocate|reserve))'
  r'|CUDA_ERROR_OUT_OF_MEMORY',
  re.IGNORECASE | re.DOTALL,
)
# The size of the request that failed: '44.70GiB', '3206250496 bytes'.
_REQUEST = re.compile(r'(?:allocat\w+|reserve) (?:request for )?([\d.]+) ?(\w+)')
# What a program needs and what a TPU has: 'Used 21.95G of 15.48G hbm'.
_USED = re.compile(r'Used ([\d.]+)([KMG]) of ([\d.]+)([KMG])')

# Why plugins of JAX did not start.
_plugin_failures: list[str] = []


class _PluginFailures(logging.Filter):
  """Replaces JAX's traceback about a plugin that does not start by one line.

  The plugin for NVIDIA GPUs does not start where there is no driver. JAX then goes on without it.
  """

  def filter(self, record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is None or 'plugin' not in str(record.msg):
      return True
    _plugin_failures.append(first_line(error))
    if not os.environ.get('JAX_PLATFORMS'):
      line = f'JAX goes on without a plugin that does not start here: {first_line(error)}'
      print(line, file=sys.stderr, flush=True)
    return False


def shorten_plugin_failures() -> None:
  """Makes JAX report a plugin that does not start in one line. Call it before JAX is used."""
  logger = logging.getLogger('jax._src.xla_bridge')
  if not any(isinstance(present, _PluginFailures) for present in logger.filters):
    logger.addFilter(_PluginFailures())


def describe_missing_devices() -> str | None:
  """Returns a sentence if JAX does not find the devices of JAX_PLATFORMS, otherwise None.

  This asks JAX again: the error at hand may be an assertion without a word, whose traceback does
  not lead to JAX.
  """
  platforms = os.environ.get('JAX_PLATFORMS')
  if not platforms or 'jax' not in sys.modules:
    return None
  try:
    sys.modules['jax'].devices()
  except Exception as error:
    # Without its plugin, JAX 0.10 fails for cuda with an assertion that has no text.
    reason = first_line(error) if str(error) else 'no plugin for them is installed'
    if _plugin_failures:
      reason = f'the plugin for them does not start: {_plugin_failures[-1]}'
    return (
      f'JAX_PLATFORMS={platforms}: JAX has no such devices here ({reason}); unset it, correct it'
      " (cpu, cuda, tpu, ...), or install what JAX needs for them (pip install 'jax[cuda12]' or"
      " 'jax[tpu]')"
    )
  return None


def describe_lack_of_memory(error: BaseException) -> str | None:
  """Returns a sentence if an error of XLA means that a device had no memory left, otherwise None.

  Args:
    error: any error; JAX raises those of XLA as `jax.errors.JaxRuntimeError`.
  """
  text = str(error)
  if not _NO_MEMORY.search(text):
    return None
  if 'command buffer' in text:
    return (
      'a GPU had no memory for CUDA graphs beside the share that JAX takes; decrease the share,'
      ' 0.75 by default, with XLA_CLIENT_MEM_FRACTION, or do without graphs with'
      " XLA_FLAGS='--xla_gpu_enable_command_buffer='"
    )
  used, request = _USED.search(text), _REQUEST.search(text)
  if used:
    amount = f': the program needs {used[1]} {used[2]}iB, and {used[3]} {used[4]}iB are there'
  elif request:
    number, unit = request[1], request[2]
    unit += 'iB' if unit in ('K', 'M', 'G') else ''  # TPUs write '5.31G'.
    size = format_bytes(float(number)) if unit in ('B', 'bytes') else f'{number} {unit}'
    amount = f': there was no room for {size} more'
  else:
    amount = ''
  return (
    f'the memory of a device was not enough{amount}; decrease config.data.batch_size or'
    ' config.eval.batch_size, increase config.optim.accumulation or config.mesh.fsdp, set'
    " config.model.remat='full' (zsar plan shows what each of them saves), or end other programs"
    ' on the device'
  )
