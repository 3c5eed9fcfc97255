"""SigLIP's texts: ids against transformers', with tiny vocabularies that are trained here."""

import numpy as np
import pytest
import tokenizers as library

from tests.text import sentencepiece_models
from zsar_jax.errors import UserError
from zsar_jax.models.architectures import CLIP, get_architecture
from zsar_jax.text import sentencepiece_files, tokenizers

SIGLIP = get_architecture('siglip')
CONTEXT = 64

# Texts, and how they are canonicalized.
TEXTS = {
  'A Photo of a CAT!': 'a photo of a cat',
  'apply_eye_makeup': 'apply eye makeup',
  "don't stop, John's dog": 'dont stop johns dog',
  'person’s “hat”': 'persons hat',
  'rock-paper-scissors (outdoors)?': 'rockpaperscissors outdoors',
  '  many\t spaces\n here ': 'many spaces here',
  'naïve CAFÉ über': 'naïve café über',
  '東京 で 空手': '東京 で 空手',
  '100 m, 4x100m & 3.5': '100 m 4x100m 35',
  'ｆｕｌｌ ﬁt ½': 'full fit 1⁄2',
  'salt &amp;amp; pepper': 'salt pepper',
  'archery \U0001f3f9 now': 'archery \U0001f3f9 now',
}
CORPUS = [*TEXTS.values(), 'a person is playing with the dog and the cat', 'the end']


def padded(rows, pad):
  return np.array([[*row, *[pad] * (CONTEXT - len(row))] for row in rows], np.int32)


@pytest.fixture(scope='module')
def spiece(tmp_path_factory):
  """A SentencePiece model with SigLIP's ids: the end 1, unknown text 2."""
  path = tmp_path_factory.mktemp('siglip') / 'spiece.model'
  path.write_bytes(sentencepiece_models.train(CORPUS))
  return path


def test_siglips_ids_are_transformers(spiece, tmp_path):
  transformers = pytest.importorskip('transformers')
  theirs = transformers.SiglipTokenizer(str(spiece))
  expected = theirs(list(TEXTS.values()), padding='max_length', max_length=CONTEXT)['input_ids']
  assert 2 in np.concatenate(expected)  # Unknown text.
  # Three ways to name the same vocabulary.
  sentencepiece_files.read_sentencepiece(spiece).save(str(tmp_path / 'tokenizer.json'))
  for name in (spiece, spiece.parent, tmp_path):
    ours = tokenizers.make_tokenizer(str(name), 32000, CONTEXT, parts=SIGLIP)
    assert (ours.start, ours.end, ours.pad) == (None, 1, 1)
    np.testing.assert_array_equal(ours(list(TEXTS)), expected)
  assert tokenizers.has_vocabulary(spiece.parent)


def test_siglip_2s_ids_are_transformers(tmp_path):
  transformers = pytest.importorskip('transformers')
  if not hasattr(transformers, 'Siglip2Tokenizer'):
    pytest.skip('this version of transformers has no Siglip2Tokenizer')
  special = ['<pad>', '<eos>', '<bos>', '<unk>', '<mask>']
  special += [f'<0x{byte:02X}>' for byte in range(256)]
  trained = library.Tokenizer(library.models.BPE())
  trained.normalizer = library.normalizers.Replace(' ', '▁')
  trained.train_from_iterator(
    [text for text in CORPUS if text.isascii()],
    library.trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False),
  )
  trained.model.save(str(tmp_path))
  vocab = trained.get_vocab()
  lines = (tmp_path / 'merges.txt').read_text().splitlines()[1:]
  theirs = transformers.Siglip2Tokenizer(vocab, [tuple(line.split(' ')) for line in lines])
  folder = tmp_path / 'saved'
  theirs.save_pretrained(folder)

  encoded = theirs(list(TEXTS.values()), add_special_tokens=False)['input_ids']
  expected = padded([[*row, 1] for row in encoded], 0)
  assert len(set(map(tuple, expected))) == len(TEXTS)
  ours = tokenizers.make_tokenizer(str(folder), 256000, CONTEXT, parts=SIGLIP)
  assert (ours.start, ours.end, ours.pad) == (None, 1, 0)
  np.testing.assert_array_equal(ours(list(TEXTS)), expected)


def write_words(path, *words):
  """Writes a vocabulary of whole words."""
  model = library.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[-1])
  tokenizer = library.Tokenizer(model)
  tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
  tokenizer.save(str(path))
  return str(path)


def test_texts_end_without_start_and_fill_the_context(tmp_path):
  file = write_words(tmp_path / 'tokenizer.json', '<pad>', '<eos>', 'cat', 'unknown')
  ours = tokenizers.make_tokenizer(file, 4, 5, parts=SIGLIP)
  assert ours(['Cat? cat', '!']).tolist() == [[2, 2, 1, 0, 0], [1, 0, 0, 0, 0]]
  with pytest.raises(UserError, match="'cat cat cat cat cat' has 6 tokens, more than the context"):
    ours(['cat cat cat cat cat'])


def test_vocabularies_of_other_families_are_refused(tmp_path):
  file = write_words(tmp_path / 'a.json', '<pad>', '<eos>', 'cat', 'unknown')
  with pytest.raises(UserError, match='has 4 ids and the model has embeddings for 3;'):
    tokenizers.make_tokenizer(file, 3, 5, parts=SIGLIP)
  with pytest.raises(UserError, match='is not a CLIP vocabulary'):
    tokenizers.make_tokenizer(file, 4, 5, parts=CLIP)
  clip = write_words(tmp_path / 'b.json', 'cat', '<|startoftext|>', '<|endoftext|>')
  with pytest.raises(UserError, match=r'not a vocabulary of SigLIP: it must have </s>, or <eos>'):
    tokenizers.make_tokenizer(clip, 9, 5, parts=SIGLIP)
  with pytest.raises(UserError, match="'clip' is not the vocabulary of these weights; name a"):
    tokenizers.make_tokenizer('clip', 256000, 64, parts=SIGLIP)
  # A model that is trained from scratch may hash its words.
  assert tokenizers.make_tokenizer('words', 99, 5, parts=SIGLIP)(['cat?'])[0, 0] == 97


def message(number, payload):
  return bytes([number << 3 | 2, len(payload)]) + payload


def piece(text, kind=1):
  return message(1, message(1, text.encode()) + b'\x15\x00\x00\x80\xbf' + bytes([0x18, kind]))


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (b'\x0a\x7fshort', 'not readable as a SentencePiece model .it ends within a field'),
    (b'\x0b', 'wire type 3 is unknown'),
    (b'\xff' * 12, 'more than 10 bytes'),
    (b'\x08\x01', 'field 1 is no message'),
    (message(1, b'\x08\x01'), 'piece 0 has another type'),
    (piece('a'), 'has 0 pieces for unknown text'),
    (piece('a') + piece('u', 2) + message(2, b'\x18\x02'), 'is no unigram vocabulary; name a'),
    (piece('u', 2) + message(3, message(2, b'abc')), 'not usable'),
    (b'', 'has 0 pieces'),
  ],
)
def test_damaged_sentencepiece_files_are_refused(tmp_path, content, words):
  path = tmp_path / 'spiece.model'
  path.write_bytes(content)
  with pytest.raises(UserError, match=words) as caught:
    tokenizers.make_tokenizer(str(path), 99, 9, parts=SIGLIP)
  assert str(path) in str(caught.value)


def test_damaged_tables_of_characters_are_refused(tmp_path):
  path = tmp_path / 'spiece.model'
  table = message(3, message(2, b'\x08\0\0\0' + bytes(20)))
  path.write_bytes(piece('u', 2) + piece('</s>', 3) + table)
  ours = tokenizers.make_tokenizer(str(path), 99, 9, parts=SIGLIP)
  with pytest.raises(UserError, match='is damaged .*fetch its vocabulary again'):
    ours(['cat'])
