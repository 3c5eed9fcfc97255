"""Numbers in messages."""

import pytest

from zsar_jax.runtime.wording import format_bytes, pluralize


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
