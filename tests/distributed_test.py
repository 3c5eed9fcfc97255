"""Which environments are taken for those of several processes; survival_test.py has real ones."""

import pytest

from zsar_jax import distributed

NAMES = (
  *('SLURM_PROCID', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
  *('JOB_COMPLETION_INDEX', 'TPU_WORKER_ID', 'TPU_WORKER_HOSTNAMES'),
)


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '1'}, False),
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '4'}, True),
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


def test_one_process():
  """Alone, everything is done here."""
  assert distributed.is_main()
  assert not distributed.many()
  assert distributed.from_main(lambda: {'a': [1]}) == {'a': [1]}
  made = []
  assert distributed.main_first(lambda: made.append(1) or 7) == 7
  assert made == [1]
