import gzip
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tokenizers as library

from zsar_jax.errors import UserError
from zsar_jax.text import tokenizers

LABELS = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'labels'
CLIP_START, CLIP_END = 49406, 49407


def byte_characters() -> list[str]:
  """The 256 characters that stand for bytes in GPT-2's and CLIP's files, in CLIP's id order."""
  printable = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1)]
  printable += range(ord('®'), ord('ÿ') + 1)
  return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def byte_to_character() -> dict[int, str]:
  characters = byte_characters()
  printable = {ord(c): c for c in characters if ord(c) < 256}
  others = iter(c for c in characters if ord(c) >= 256)
  return {byte: printable.get(byte) or next(others) for byte in range(256)}


def merge(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
  """Byte-pair encoding: merges the pair of the lowest rank until no pair has a rank."""
  while True:
    pairs = [ranks.get(pair, len(ranks)) for pair in zip(symbols, symbols[1:], strict=False)]
    if not pairs or min(pairs) == len(ranks):
      return symbols
    i = pairs.index(min(pairs))
    symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]


@pytest.fixture(scope='session')
def clip_folder(tmp_path_factory) -> pathlib.Path:
  """`vocab.json` and `merges.txt` of CLIP, derived from what each id decodes to.

  Ids that decode to a part of a character have no readable text and get no merge, so texts beyond
  Latin are not encoded as CLIP does.
  """
  package = pytest.importorskip('instant_clip_tokenizer')
  decode = package.Tokenizer().decode
  to_character = byte_to_character()
  characters = byte_characters()
  vocab = characters + [character + '</w>' for character in characters]
  ranks = {}
  for i in range(len(vocab), CLIP_START):
    text = decode([i])
    ends = text.endswith(' ')
    symbols = [to_character[byte] for byte in text.removesuffix(' ').encode()]
    symbols[-1] += '</w>' * ends
    parts = merge(symbols, ranks)
    if '\ufffd' in text or len(parts) != 2:
      vocab.append(f'<{i}>')
    else:
      vocab.append(''.join(parts))
      ranks[tuple(parts)] = len(ranks)
  vocab += ['<|startoftext|>', '<|endoftext|>']

  folder = tmp_path_factory.mktemp('clip')
  (folder / 'vocab.json').write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
  lines = ['#version: 0.2', *(' '.join(pair) for pair in ranks)]
  (folder / 'merges.txt').write_text('\n'.join(lines) + '\n')
  return folder


@pytest.fixture
def clip():
  pytest.importorskip('instant_clip_tokenizer')
  return tokenizers.make_tokenizer('clip', 49408, 77)


def test_clip_gives_the_ids_of_openais_tokenizer(clip):
  # The ids of OpenAI's `clip.tokenize`.
  (row,) = clip(['a photo of a cat'])
  assert row.dtype == np.int32
  assert row[:7].tolist() == [CLIP_START, 320, 1125, 539, 320, 2368, CLIP_END]
  assert row.shape == (77,)
  assert not row[7:].any()


@pytest.mark.parametrize(
  ('untidy', 'tidy'),
  [
    ('  A\tPhoto\n of a  CAT ', 'a photo of a cat'),
    ('salt &amp;amp; pepper', 'salt & pepper'),
    ('person’s “hat”', 'person\'s "hat"'),
    ('ｆｕｌｌ ﬁt', 'full fit'),
  ],
)
def test_untidy_text_is_cleaned(untidy, tidy):
  assert tokenizers.clean(untidy) == tidy


def test_clip_files_give_the_ids_of_the_clip_tokenizer(clip, clip_folder):
  from_files = tokenizers.make_tokenizer(str(clip_folder), 49408, 77)
  texts = ['a photo of a cat', "They're 12 m. high!!", 'rock-paper-scissors?', 'piñata', 'x_y', '']
  np.testing.assert_array_equal(from_files(texts), clip(texts))


@pytest.mark.skipif(not LABELS.is_dir(), reason='needs the label lists in ../shared/data')
def test_all_labels_agree_and_fit(clip, clip_folder):
  labels = [line for file in LABELS.glob('*.txt') for line in file.read_text().splitlines()]
  assert len(labels) > 1200
  from_files = tokenizers.make_tokenizer(str(clip_folder), 49408, 77)
  np.testing.assert_array_equal(from_files(labels), clip(labels))


def test_clip_gives_the_ids_of_transformers(clip, clip_folder):
  """Hugging Face's tokenizer has the same vocabulary and gets cleaned text, as in OpenAI's code."""
  transformers = pytest.importorskip('transformers', reason='the extra parity is not installed')
  reference = transformers.CLIPTokenizer.from_pretrained(str(clip_folder))
  latin = [
    'salt &amp; pepper',
    'ｆｕｌｌ　ｗｉｄｔｈ',
    'ﬁt, café',
    '!!!',
    "it's 100% 'quoted'",
    'a' * 60,
  ]
  if LABELS.is_dir():
    latin += [line for file in LABELS.glob('*.txt') for line in file.read_text().splitlines()]
  # The derived vocabulary lacks merges of these, so the same files are read by both sides.
  others = ['archery \U0001f3f9 & \U0001f938\u200d\u2642\ufe0f', '東京 で 空手', 'бокс', 'œuvre ½']
  expected = np.zeros((len(latin + others), 77), np.int32)
  for row, text in zip(expected, latin + others, strict=True):
    ids = reference(tokenizers.clean(text))['input_ids']
    row[: len(ids)] = ids
  np.testing.assert_array_equal(clip(latin), expected[: len(latin)])
  from_files = tokenizers.make_tokenizer(str(clip_folder), 49408, 77)
  np.testing.assert_array_equal(from_files(latin + others), expected)


def test_tokenizer_json_is_read_from_folder_or_file(clip, clip_folder, tmp_path):
  saved = library.Tokenizer(
    library.models.BPE.from_file(
      str(clip_folder / 'vocab.json'), str(clip_folder / 'merges.txt'), end_of_word_suffix='</w>'
    )
  )
  saved.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
  # Published files turn on padding and truncation, which would hide a text that is too long.
  saved.enable_padding(length=9)
  saved.enable_truncation(5)
  saved.save(str(tmp_path / 'tokenizer.json'))
  expected = clip(['a photo of a cat'])
  for path in (tmp_path, tmp_path / 'tokenizer.json'):
    read = tokenizers.make_tokenizer(str(path), 49408, 77)
    np.testing.assert_array_equal(read(['a photo of a cat']), expected)


def test_words_are_ids_between_padding_and_start():
  tokenizer = tokenizers.make_tokenizer('words', 64, 8)
  first, second, third = tokenizer(['Waving, while squatting!', 'waving_while squatting', ''])
  assert first.tolist() == second.tolist()
  assert first[0] == 62
  assert first[4] == 63
  assert all(1 <= i < 62 for i in first[1:4])
  assert third.tolist() == [62, 63, 0, 0, 0, 0, 0, 0]
  text = ' '.join(f'word{i}' for i in range(1000))
  (row,) = tokenizers.make_tokenizer('words', 64, 1002)([text])
  assert set(row[1:-1].tolist()) == set(range(1, 62))


def test_word_ids_are_the_same_in_every_process():
  program = (
    'from zsar_jax.text.tokenizers import make_tokenizer;'
    "print(make_tokenizer('words', 4096, 8)(['a person waving while squatting'])[0].tolist())"
  )
  row = tokenizers.make_tokenizer('words', 4096, 8)(['a person waving while squatting'])[0]
  out = subprocess.run(
    [sys.executable, '-c', program],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    check=True,
  )
  assert json.loads(out.stdout) == row.tolist()


def test_too_long_text_is_refused_by_name():
  tokenizer = tokenizers.make_tokenizer('words', 4096, 6)
  assert tokenizer(['one two three four'])[0, -1] == 4095
  with pytest.raises(UserError, match="'one two three four five' has 7 tokens"):
    tokenizer(['one', 'one two three four five'])


def test_vocabulary_larger_than_the_models_is_refused(tmp_path):
  file = tmp_path / 'tokenizer.json'
  vocab = {'a': 0, '<|startoftext|>': 1, '<|endoftext|>': 2}
  library.Tokenizer(library.models.WordLevel(vocab, unk_token='a')).save(str(file))
  assert tokenizers.make_tokenizer(str(file), 3, 4)(['a']).tolist() == [[1, 0, 2, 0]]
  with pytest.raises(UserError, match='has 3 ids and the model has embeddings for 2;'):
    tokenizers.make_tokenizer(str(file), 2, 4)


def test_missing_package_names_the_remedy(monkeypatch):
  monkeypatch.setitem(sys.modules, 'instant_clip_tokenizer', None)
  monkeypatch.setattr(tokenizers, '_MERGES_PACKAGES', ('no_such_package',))
  with pytest.raises(UserError, match='--no-deps open_clip_torch.* vocab.json and merges.txt'):
    tokenizers.make_tokenizer('clip', 49408, 77)


def test_merges_of_an_installed_package(clip, clip_folder, tmp_path, monkeypatch):
  """As on Python 3.13: the same ids, and the package is not imported."""
  vocab = json.loads((clip_folder / 'vocab.json').read_text())
  pairs = {
    line.replace(' ', ''): line
    for line in (clip_folder / 'merges.txt').read_text().splitlines()[1:]
  }
  # Merges that could not be derived are replaced by merges of control characters, which are unused.
  control = [chr(256 + n) for n in range(33)]
  unused = (f'{a} {b}{end}' for end in ('', '</w>') for a in control for b in control)
  lines = [pairs.get(token) or next(unused) for token in list(vocab)[512:CLIP_START]]
  package = tmp_path / 'a_package_with_merges'
  package.mkdir()
  (package / '__init__.py').write_text('raise RuntimeError("imported")')
  file = package / 'bpe_simple_vocab_16e6.txt.gz'
  file.write_bytes(gzip.compress('\n'.join(['#version', *lines, 'not used']).encode()))
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(sys.modules, 'instant_clip_tokenizer', None)
  monkeypatch.setattr(tokenizers, '_MERGES_PACKAGES', ('no_such_package', package.name))
  from_merges = tokenizers.make_tokenizer('clip', 49408, 77)
  texts = ['a photo of a cat', "They're 12 m. high!!", 'rock-paper-scissors?', 'piñata', 'x_y', '']
  if LABELS.is_dir():
    texts += [line for path in LABELS.glob('*.txt') for line in path.read_text().splitlines()]
  np.testing.assert_array_equal(from_merges(texts), clip(texts))

  for content, words in (
    (b'x', 'not readable'),
    (gzip.compress(b'a b\n' * 9), 'does not hold'),
  ):
    file.write_bytes(content)
    with pytest.raises(UserError, match=f'16e6.txt.gz: {words}.* install its package again'):
      tokenizers.make_tokenizer('clip', 49408, 77)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('nothing.txt', None, 'neither'),
    ('vocab.json', '{"<|startoftext|>": 0, "<|endoftext|>": 1}', 'neither'),
    ('tokenizer.json', '{"not": "a tokenizer"}', 'cannot read'),
    (
      'tokenizer.json',
      '{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}',
      'not a CLIP vocabulary',
    ),
    (
      'tokenizer.json',
      '{"model": {"type": "WordLevel", "unk_token": "a",'
      ' "vocab": {"<|endoftext|>": 0, "<|startoftext|>": 1, "a": 2}}}',
      'largest id',
    ),
  ],
)
def test_unusable_files_are_refused(tmp_path, name, content, message):
  if content is not None:
    (tmp_path / name).write_text(content)
  with pytest.raises(UserError, match=message):
    tokenizers.make_tokenizer(str(tmp_path), 49408, 77)


def test_invalid_utf8_is_refused():
  with pytest.raises(UserError, match=r"'a .udc9b' is not valid UTF-8"):
    tokenizers.make_tokenizer('words', 100, 8)(['a \udc9b'])
