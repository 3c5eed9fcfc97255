"""The lines of JSON that a benchmark prints, and what they say of the machine."""

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


def show(**fields: Any) -> None:
  """Prints one line of JSON."""
  print(json.dumps(fields), flush=True)


def machine() -> dict[str, Any]:
  """The hardware and the versions that a measurement was taken with."""
  versions = {'python': platform.python_version()}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  found = {'cpu': _cpu(), 'cores': os.cpu_count(), 'versions': versions}
  if name := gpu():
    found['gpu'] = name
  return found


def gpu() -> str:
  """The first GPU and its driver, as NVIDIA's tool names them; '' where there is none."""
  query = ['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader']
  try:
    told = subprocess.run(query, capture_output=True, text=True, timeout=30)
  except (OSError, subprocess.TimeoutExpired):
    return ''
  return told.stdout.splitlines()[0] if told.returncode == 0 and told.stdout else ''


def _cpu() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return models[0] if models else platform.processor()
