"""VideoPrism's texts: ids against SentencePiece's, with a tiny vocabulary that is trained here."""

import numpy as np
import pytest

from tests.text import sentencepiece_models
from zsar_jax.errors import UserError
from zsar_jax.models.architectures import get_architecture
from zsar_jax.text import tokenizers

VIDEOPRISM = get_architecture('videoprism')
CONTEXT = 64

# Texts, and how the authors canonicalize them: the first three from their docstring.
TEXTS = {
  'Hello, World!': 'hello world.',
  'Hello,World..': 'hello world.',
  '  Hello   WORLD': 'hello world.',
  'apply_eye_makeup': 'apply eye makeup.',
  "don't stop": 'don t stop.',
  'rock-paper-scissors (outdoors)?': 'rock paper scissors outdoors.',
  'person’s “hat”': 'person’s “hat”.',
  'naïve CAFÉ über': 'naïve café über.',
  '100 m, 4x100m & 3.5': '100 m 4x100m 3 5.',
  'ｆｕｌｌ ﬁt ½': 'ｆｕｌｌ ﬁt ½.',
  'archery \U0001f3f9 now': 'archery \U0001f3f9 now.',
  '': '.',
}


@pytest.fixture(scope='module')
def processor(tmp_path_factory):
  """A vocabulary with the ids of c4_en: padding 0, the end 1, unknown text 2, no start."""
  sentencepiece = pytest.importorskip('sentencepiece')
  model = sentencepiece_models.train(TEXTS.values())
  path = tmp_path_factory.mktemp('c4_en') / 'sentencepiece.model'
  path.write_bytes(model)
  return path, sentencepiece.SentencePieceProcessor(model_proto=model)


def test_ids_are_sentencepieces(processor):
  path, theirs = processor
  expected = np.zeros((len(TEXTS), CONTEXT), np.int32)
  for row, text in zip(expected, TEXTS.values(), strict=True):
    ids = theirs.EncodeAsIds(text)
    row[: len(ids)] = ids
  assert 2 in expected  # Unknown text.
  for name in (path, path.parent):
    ours = tokenizers.make_tokenizer(str(name), 32000, CONTEXT, parts=VIDEOPRISM)
    assert (ours.start, ours.end, ours.pad) == (None, None, 0)
    np.testing.assert_array_equal(ours(list(TEXTS)), expected)
  assert [tokenizers.canonicalize_to_sentence(text) for text in TEXTS] == [*TEXTS.values()]


def test_long_texts_and_other_vocabularies_are_refused(processor):
  path, theirs = processor
  ours = tokenizers.make_tokenizer(str(path), theirs.GetPieceSize(), 8, parts=VIDEOPRISM)
  with pytest.raises(UserError, match='more than the context of 8'):
    ours(['hello world hello world hello world hello world'])
  with pytest.raises(UserError, match='has embeddings for'):
    tokenizers.make_tokenizer(str(path), theirs.GetPieceSize() - 1, 8, parts=VIDEOPRISM)
  with pytest.raises(UserError, match='name a folder with the tokenizer.json'):
    tokenizers.make_tokenizer('clip', 49408, 8, parts=VIDEOPRISM)
