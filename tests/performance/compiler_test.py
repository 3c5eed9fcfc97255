"""Programs that do not fit a device."""

import jax
import numpy as np
import pytest

from zsar_jax.performance.compiler import compile_program, parse_required_bytes
from zsar_jax.runtime.chips import GIB


@pytest.mark.parametrize(
  ('message', 'required'),
  [
    (
      'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm.'
      ' Used 25.41G of 15.75G hbm. Exceeded hbm capacity by 9.66G.',
      25.41 * GIB,
    ),
    (
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries'
      ' (40.00G) exceeds available HBM (15.75G).',
      40 * GIB,
    ),
    ('INTERNAL: something else', None),
  ],
)
def test_messages_about_too_little_memory(message, required):
  assert parse_required_bytes(message) == required


class TooLarge:
  """A program whose compilation runs out of memory."""

  def trace(self):
    return self

  def lower(self):
    return self

  def compile(self, compiler_options):
    raise jax.errors.JaxRuntimeError('Ran out of memory in memory space hbm. Used 20.00G of 9G')


def test_a_program_that_does_not_fit_is_no_error():
  compiled = compile_program(TooLarge())
  assert not compiled.fits
  assert compiled.required == 20 * GIB
  assert np.isnan(compiled.flops)
