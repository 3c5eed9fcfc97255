"""Which environments are taken for those of several processes; survival_test.py has real ones."""

import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed

NAMES = (
  *(
    'SLURM_PROCID',
    'SLURM_NTASKS',
    'SLURM_STEP_NUM_TASKS',
    'OMPI_COMM_WORLD_RANK',
    'OMPI_COMM_WORLD_SIZE',
  ),
  *('JOB_COMPLETION_INDEX', 'TPU_WORKER_ID', 'TPU_WORKER_HOSTNAMES'),
)


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '1'}, False),
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '4'}, True),
    # The shell of an interactive allocation of four tasks is a step of one.
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '4', 'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'SLURM_PROCID': '1', 'SLURM_NTASKS': '4', 'SLURM_STEP_NUM_TASKS': '4'}, True),
    ({'OMPI_COMM_WORLD_RANK': '0', 'OMPI_COMM_WORLD_SIZE': '1'}, False),
    ({'OMPI_COMM_WORLD_RANK': '1', 'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'JOB_COMPLETION_INDEX': '0'}, True),
    ({'TPU_WORKER_ID': '1', 'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    # What compiling for a TPU that is not there asks for.
    ({'TPU_WORKER_ID': '0', 'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
  ],
)
def test_launchers(monkeypatch, environment, expected):
  for name in NAMES:
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert distributed._launched() is expected


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
def test_numbers_that_cannot_be(numbers, words):
  with pytest.raises(UserError, match=words), distributed.process_group(*numbers):
    pass


def test_one_of_one_is_alone():
  with distributed.process_group('localhost:1234', 1, 0):
    assert not distributed.is_multiprocess()


def test_one_process():
  """Alone, everything is done here."""
  assert distributed.is_main()
  assert not distributed.is_multiprocess()
  assert distributed.broadcast_from_main(lambda: {'a': [1]}) == {'a': [1]}
  made = []
  assert distributed.run_main_first(lambda: made.append(1) or 7) == 7
  assert made == [1]
