"""Trains tiny SentencePiece models, for tests of tokenizers."""

import io
from collections.abc import Iterable

import pytest


def train(texts: Iterable[str]) -> bytes:
  """Returns a model with the ids of c4_en: padding 0, the end 1, unknown text 2, no start.

  Characters outside ASCII and rare ones are unknown. Skips the test without the library.
  """
  sentencepiece = pytest.importorskip('sentencepiece')
  written = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([text for text in texts if text.isascii()] * 3),
    model_writer=written,
    vocab_size=120,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return written.getvalue()
