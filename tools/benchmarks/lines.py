"""The lines of JSON that a benchmark prints, and what they say of the machine."""

import importlib.metadata
import json
import os
import pathlib
import platform
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
  return {'cpu': _cpu(), 'cores': os.cpu_count(), 'versions': versions}


def _cpu() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return models[0] if models else platform.processor()
