"""Keeps XLA's buffers on a CPU from being given back to the system after every step."""

import ctypes
import importlib.metadata
import importlib.util
import os

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed_memory() -> None:
  """Tells glibc's malloc to keep what is freed, where JAX will compute on the CPU.

  XLA allocates a step's temporary buffers anew for every step. Malloc maps such large blocks
  from the system and unmaps them, and the system clears each page when it is touched again. To
  be called before JAX starts its threads.
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
  """Whether JAX can find nothing but the CPU here."""
  platforms = os.environ.get('JAX_PLATFORMS')
  if platforms:
    return platforms == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return not plugins and importlib.util.find_spec('libtpu') is None
