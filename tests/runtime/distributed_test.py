"""Groups of processes that cannot be, and the group of one; survival_test.py runs several."""

import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed


@pytest.mark.parametrize(
  ('numbers', 'words'),
  [
    (('localhost:1', 2, None), '--process_id: give all three'),
    (('localhost', 2, 0), "--coordinator_address: 'localhost' is not HOST:PORT"),
    (('localhost:0', 2, 0), "'localhost:0' is not HOST:PORT"),
    (('localhost:70000', 2, 0), "'localhost:70000' is not HOST:PORT"),
    (('localhost:1234', 2, 2), '--process_id: 2 is none of the 2 processes'),
    (('localhost:1234', 2, -1), '--process_id: -1 is none'),
  ],
)
def test_impossible_numbers_are_refused(numbers, words):
  with pytest.raises(UserError, match=words), distributed.process_group(*numbers):
    pass


def test_a_group_of_one_is_a_single_process():
  with distributed.process_group('localhost:1234', 1, 0):
    assert not distributed.is_multiprocess()


def test_a_single_process_does_everything():
  assert distributed.is_main()
  assert not distributed.is_multiprocess()
  assert distributed.broadcast_from_main(lambda: {'a': [1]}) == {'a': [1]}
  calls = []
  assert distributed.run_main_first(lambda: calls.append(1) or 7) == 7
  assert calls == [1]
