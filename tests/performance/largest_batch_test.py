"""The largest batch, for a memory that is a known function of the batch."""

import pytest

from zsar_jax.performance import largest_batch

AVAILABLE = 15.75  # GiB


class Memory:
  """The GiB that a batch needs, 1 + size / 16; records the sizes that it is asked for."""

  def __init__(self):
    self.sizes = []

  def __call__(self, size):
    self.sizes.append(size)
    return required(size)


def required(size):
  return 1 + size / 16


@pytest.mark.parametrize(
  ('batch', 'sizes'),
  [
    (32, [16]),
    # A batch that does not fit is halved until one does.
    (1024, [512, 256, 128]),
    # There is no half that is a multiple of 16.
    (16, [32]),
  ],
)
def test_the_largest_batch_is_extrapolated_from_two(batch, sizes):
  memory = Memory()
  result = largest_batch.search(batch, required(batch), AVAILABLE, 16, memory)
  # 1 + B / 16 <= 15.75.
  assert result == {'batch': 224, 'from': sorted([batch, *sizes]), 'verified': False}
  assert memory.sizes == sizes
  assert required(224) <= AVAILABLE < required(240)


def test_verifying_measures_the_result():
  memory = Memory()
  result = largest_batch.search(32, required(32), AVAILABLE, 16, memory, verify=True)
  assert result == {'batch': 224, 'from': [16, 32], 'verified': True}
  assert memory.sizes == [16, 224]


def test_verifying_lowers_a_batch_that_does_not_fit_after_all():
  def measure(size):
    return required(size) + (size > 200)

  result = largest_batch.search(32, required(32), AVAILABLE, 16, measure, verify=True)
  assert (result['batch'], result['verified']) == (208, True)


def test_memory_that_does_not_grow_has_no_largest_batch():
  assert largest_batch.search(32, 4.0, AVAILABLE, 16, lambda size: 4.0) is None


def test_the_estimate_fills_the_memory():
  result = largest_batch.estimate(32, 2.0, 1.0, AVAILABLE, 16)
  assert result == {'batch': 224, 'from': [], 'verified': False}
