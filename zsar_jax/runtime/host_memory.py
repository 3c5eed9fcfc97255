"""Keeps freed memory in the process where XLA computes on the CPU."""

import ctypes
import importlib.metadata
import importlib.util
import os

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed_memory() -> None:
  """Makes glibc's malloc keep freed memory, if JAX will compute on the CPU.

  XLA allocates the temporary buffers of a step anew in every step. By default malloc maps blocks of
  that size from the system and unmaps them, and the system clears each page when it is touched
  again. Call it before JAX starts its threads.
  """
  if not is_cpu_only():
    return
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # Not glibc.
    return
  # One arena: only the main one can keep blocks of any size.
  mallopt(_M_ARENA_MAX, 1)
  mallopt(_M_MMAP_MAX, 0)
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_cpu_only() -> bool:
  """Returns whether JAX can find no device but the CPU, without starting JAX."""
  platforms = os.environ.get('JAX_PLATFORMS')
  if platforms:
    return platforms == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return not plugins and importlib.util.find_spec('libtpu') is None
