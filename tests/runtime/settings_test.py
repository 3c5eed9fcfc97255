"""Limits that dataclass fields declare."""

import dataclasses

import numpy as np
import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime import settings
from zsar_jax.runtime.settings import UNBOUNDED, setting


@dataclasses.dataclass(frozen=True)
class Section:
  count: int = setting(3, low=1)
  share: tuple[float, float] = setting((0.5, 1.0), low=0, high=1)
  kind: str = setting('a', choices={'a': 1, 'b': 2})
  free: bool = True


def test_limits_are_read_from_the_fields():
  assert Section() == Section(3, (0.5, 1.0), 'a', True)
  ranges = {'part.count': (1, UNBOUNDED), 'part.share': (0, 1)}
  assert settings.ranges_of('part', Section) == ranges
  assert settings.choices_of('part', Section) == {'part.kind': ('a', 'b')}


def test_values_outside_their_limits_are_refused():
  settings.check_range('x', (0, 1.0), (0, 1))
  for values, limits, message in (
    (0, (1, UNBOUNDED), 'x: 0 is less than 1'),
    ((0.5, 1.5), (0, 1), 'x: 1.5 does not lie between 0 and 1'),
    (np.nan, (0, UNBOUNDED), 'x: nan does not lie between'),
  ):
    with pytest.raises(UserError, match=message):
      settings.check_range('x', values, limits)
  settings.check_choice('x', 'b', {'a': 1, 'b': 2})
  with pytest.raises(UserError, match="x: 'c' is none of a, b"):
    settings.check_choice('x', 'c', 'ab')
