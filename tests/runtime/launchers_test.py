"""Environments in which a launcher has started several processes."""

import pytest

from zsar_jax.runtime import launchers

NAMES = (
  *('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_STEP_NUM_TASKS'),
  *('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
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
    # Set to compile for a TPU that is not attached.
    ({'TPU_WORKER_ID': '0', 'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
  ],
)
def test_launchers(monkeypatch, environment, expected):
  for name in NAMES:
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert launchers.is_multiprocess_launch() is expected
