"""No test of mask makers downloads anything."""

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  """Any download from the hub fails the test."""
  if importlib.util.find_spec('huggingface_hub') is None:
    return
  import huggingface_hub

  def fail(*args, **kwargs):
    raise AssertionError('a download')

  for name in ('snapshot_download', 'hf_hub_download'):
    monkeypatch.setattr(huggingface_hub, name, fail)
    monkeypatch.setattr(huggingface_hub.HfApi, name, fail)
