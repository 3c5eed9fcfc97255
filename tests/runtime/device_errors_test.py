"""Devices that are missing or too small: one sentence instead of JAX's traceback."""

import logging

import jax
import jax.numpy as jnp
import pytest

from zsar_jax.runtime import device_errors
from zsar_jax.runtime.reporting import exit_on_user_error

# The logger that JAX reports plugins to.
JAX_LOGGER = 'jax._src.xla_bridge'


def stderr_of(action, capsys):
  with pytest.raises(SystemExit) as end, exit_on_user_error():
    action()
  assert end.value.code == 2
  err = capsys.readouterr().err
  assert err.count('\n') == 1
  return err


def raising(error):
  def action(*_):
    raise error

  return action


@pytest.fixture
def no_failures(monkeypatch):
  """The list of failed plugins, empty for a test."""
  monkeypatch.setattr(device_errors, '_plugin_failures', [])


@pytest.mark.usefixtures('no_failures')
@pytest.mark.parametrize(
  ('raised', 'reason'),
  [
    # What JAX 0.10 raises for a plugin that is not installed.
    (AssertionError(), 'no plugin for them is installed'),
    (
      RuntimeError("Unable to initialize backend 'tpu': INTERNAL"),
      "Unable to initialize backend 't",
    ),
  ],
)
def test_missing_devices(monkeypatch, capsys, raised, reason):
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setattr(jax, 'devices', raising(raised))
  err = stderr_of(raising(AssertionError), capsys)
  assert err.startswith(f'error: JAX_PLATFORMS=cuda: JAX has no such devices here ({reason}')


@pytest.mark.usefixtures('no_failures')
def test_a_plugin_without_a_driver_is_reported_in_one_line(monkeypatch, capsys):
  """JAX logs a traceback about the plugin for GPUs, and goes on with the CPU if that will do."""
  monkeypatch.setattr(logging.getLogger(JAX_LOGGER), 'filters', [])

  def discover_plugins():
    try:
      raise RuntimeError('operation cuInit(0) failed\nmore')
    except RuntimeError:
      logging.getLogger(JAX_LOGGER).exception(
        'Jax plugin configuration error: Exception when calling %s.initialize()', 'plugin'
      )

  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  with exit_on_user_error():
    discover_plugins()
  line = 'JAX goes on without a plugin that does not start here: operation cuInit(0) failed\n'
  assert capsys.readouterr().err == line

  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setattr(jax, 'devices', raising(AssertionError()))
  err = stderr_of(lambda: (discover_plugins(), jax.devices()), capsys)
  assert '(the plugin for them does not start: operation cuInit(0) failed)' in err


def test_other_messages_of_jax_are_logged(caplog):
  with exit_on_user_error():
    logging.getLogger(JAX_LOGGER).warning('A Google TPU may be present')
  assert 'A Google TPU may be present' in caplog.text


def test_a_lack_of_memory_of_this_machine(capsys):
  """The text of the installed XLA, not one that this test has made up."""
  err = stderr_of(lambda: jnp.zeros(2**50).block_until_ready(), capsys)
  assert 'the memory of a device was not enough: there was no room for 4194304.00 GiB more' in err
  assert 'config.data.batch_size' in err


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    # XLA's texts for GPUs, as users of JAX reported them.
    (
      'Out of memory while trying to allocate 4770354232 bytes.\nBufferAssignment OOM Debugging.',
      'not enough: there was no room for 4.44 GiB more; decrease config.data.batch_size',
    ),
    ('Out of memory while trying to allocate 21.88GiB', 'no room for 21.88 GiB more; decrease'),
    (
      'Failed to allocate request for 2.99GiB (3206250496B) on device ordinal 0',
      'no room for 2.99 GiB more; decrease',
    ),
    (': CUDA_ERROR_OUT_OF_MEMORY: out of memory', 'memory of a device was not enough; decrease'),
    (
      'Underlying backend ran out of memory trying to instantiate command buffer with 35 (total of'
      ' 2 alive graphs in the process).',
      'a GPU had no memory for CUDA graphs',
    ),
    # XLA's texts for TPUs.
    (
      'Attempting to reserve 5.31G at the bottom of memory. That was not possible.',
      'no room for 5.31 GiB more; decrease',
    ),
    (
      'Attempting to allocate 512.00M. That was not possible. There are 97.00M free.',
      'no room for 512.00 MiB more; decrease',
    ),
    (
      'XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 21.95G of'
      ' 15.48G hbm.\n Exceeded hbm capacity by 6.47G.',
      'not enough: the program needs 21.95 GiB, and 15.48 GiB are there; decrease',
    ),
  ],
)
def test_a_lack_of_memory(capsys, text, words):
  error = jax.errors.JaxRuntimeError(f'RESOURCE_EXHAUSTED: {text}')
  assert words in stderr_of(raising(error), capsys)


@pytest.mark.parametrize(
  'text',
  ['RESOURCE_EXHAUSTED: Received message larger than max (5 vs. 4)', 'INTERNAL: out of memory'],
)
def test_other_errors_of_xla_are_defects(text):
  with pytest.raises(jax.errors.JaxRuntimeError), exit_on_user_error():
    raise jax.errors.JaxRuntimeError(text)
