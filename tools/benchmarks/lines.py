"""Prints the lines of JSON of a benchmark, and describes the machine in them."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

_PACKAGES = (
  *('numpy', 'opencv-python-headless', 'grain', 'array_record', 'av', 'decord'),
  *('jax', 'flax', 'torch', 'transformers'),
)


# What changes the programs that are measured.
_ENVIRONMENT = (
  *('XLA_FLAGS', 'JAX_OPTIMIZATION_LEVEL'),
  *('XLA_CLIENT_MEM_FRACTION', 'XLA_PYTHON_CLIENT_MEM_FRACTION'),
)


def show(**fields: Any) -> None:
  """Prints one line of JSON."""
  print(json.dumps(fields), flush=True)


def machine() -> dict[str, Any]:
  """Returns the hardware, versions and compiler settings that a measurement was taken with."""
  versions = {'python': platform.python_version()}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  fields = {'cpu': _cpu(), 'cores': os.cpu_count(), 'versions': versions}
  if environment := {name: os.environ[name] for name in _ENVIRONMENT if os.environ.get(name)}:
    fields['environment'] = environment
  if name := gpu():
    fields['gpu'] = name
  return fields


def gpu() -> str:
  """Returns the first GPU and its driver, as nvidia-smi names them; '' if there is none."""
  query = ['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader']
  try:
    listing = subprocess.run(query, capture_output=True, text=True, timeout=30)
  except (OSError, subprocess.TimeoutExpired):
    return ''
  return listing.stdout.splitlines()[0] if listing.returncode == 0 and listing.stdout else ''


def _cpu() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return models[0] if models else platform.processor()
