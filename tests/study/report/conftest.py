"""The report of a random study, which several tests read."""

import pytest

from tests.study.report.random_study import Report, make_report


@pytest.fixture(scope='package')
def random_report(tmp_path_factory) -> Report:
  return make_report(tmp_path_factory.mktemp('study'))
