"""Whole runs, builds and the making of masks on weak, read-only and full file systems."""

import pytest

from tests.faulty_files import needs_compiler, run_cases


@needs_compiler
@pytest.mark.slow
def test_runs_and_builds(tmp_path):
  run_cases('faulty_files_cases.py', tmp_path)
