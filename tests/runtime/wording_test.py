"""Counts agree with their nouns."""

import pytest

from zsar_jax.runtime.wording import pluralize


@pytest.mark.parametrize(
  ('count', 'noun', 'words'),
  [
    (1, 'process', '1 process'),
    (2, 'process', '2 processes'),
    (0, 'clip', '0 clips'),
    (1, 'clip', '1 clip'),
    (21, 'class', '21 classes'),
  ],
)
def test_counted(count, noun, words):
  assert pluralize(count, noun) == words
