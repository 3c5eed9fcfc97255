"""Numbers in messages."""

import pytest

from zsar_jax.runtime.wording import format_bytes, format_duration, pluralize


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
def test_counts_agree_with_their_nouns(count, noun, words):
  assert pluralize(count, noun) == words


@pytest.mark.parametrize(
  ('size', 'words'),
  [(7, '7 B'), (1536, '1.5 KiB'), (2**20, '1.00 MiB'), (15.75 * 2**30, '15.75 GiB')],
)
def test_bytes(size, words):
  assert format_bytes(size) == words


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0, '0 s'),
    (59.4, '59 s'),
    (59.6, '1 min'),
    (150, '2 min'),
    (3599, '1 h'),
    (7800, '2 h 10 min'),
    (86400 + 300, '1 d'),
    (3 * 86400 + 4 * 3600 + 59 * 60, '3 d 4 h'),
  ],
)
def test_durations(seconds, text):
  assert format_duration(seconds) == text
