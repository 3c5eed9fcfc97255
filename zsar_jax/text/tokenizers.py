"""Tokenizers, which turn texts into the token ids that the text tower reads.

There are three kinds, chosen by `config.text.tokenizer`:

- 'clip': OpenAI's byte-pair encoding, with the vocabulary of an installed package.
- a path: a vocabulary that comes with the weights, read by the `tokenizers` library. With CLIP's
  files it gives the same ids as 'clip'.
- 'words': words hashed to ids, for models trained from scratch on a small vocabulary.
"""

import dataclasses
import gzip
import html
import importlib.util
import pathlib
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tokenizers

from zsar_jax.data.class_names import split_words
from zsar_jax.errors import UserError
from zsar_jax.runtime.paths import local_path

# CLIP splits a text into words and encodes each by itself (OpenAI's `SimpleTokenizer.pat`). Words
# are contractions, runs of letters, single digits, and runs of other characters.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

# The packages open_clip_torch and OpenAI's own have OpenAI's vocabulary in a file of this name.
_MERGES = 'bpe_simple_vocab_16e6.txt.gz'
_MERGES_PACKAGES = ('open_clip', 'clip')

# The size of CLIP's vocabulary, including the start and end tokens.
_CLIP_SIZE = 49408

_STRAIGHT_QUOTES = str.maketrans('‘’‚‛“”„‟', '\'\'\'\'""""')


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Turns texts into rows of token ids.

  Attributes:
    encode: maps a cleaned text to its ids, without start and end.
    start: id of the start-of-text token.
    end: id of the end-of-text token. It is the largest id, because the text tower finds the end of
      a text as the argmax of its ids.
    context_length: length of a row of ids.
  """

  encode: Callable[[str], Sequence[int]]
  start: int
  end: int
  context_length: int

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Tokenizes texts.

    Args:
      texts: C texts.

    Returns:
      i32[C, context_length]: start, the text, end, then zeros.

    Raises:
      UserError: if a text is too long or not valid UTF-8. OpenAI's code truncates long texts,
        but a class name that is silently truncated gives a wrong result.
    """
    tokens = np.zeros((len(texts), self.context_length), np.int32)
    for row, text in zip(tokens, texts, strict=True):
      try:
        text.encode()
      except UnicodeEncodeError:  # Surrogates, by which Python represents invalid bytes.
        raise UserError(f'the text {text!r} is not valid UTF-8; write it in UTF-8') from None
      ids = [self.start, *self.encode(clean(text)), self.end]
      if len(ids) > self.context_length:
        raise UserError(
          f'the text {text!r} has {len(ids)} tokens, more than the context of'
          f' {self.context_length}; shorten it or its template'
        )
      row[: len(ids)] = ids
    return tokens


def clean(text: str) -> str:
  """Lower-cases a text and normalizes its characters and white space, as CLIP does.

  OpenAI's code repairs characters with the `ftfy` library. For what occurs in class names
  (ligatures, full-width letters, curly quotes), NFKC and straight quotes give the same result. NFKC
  also expands characters that stand for several letters, such as the trademark sign.
  """
  text = unicodedata.normalize('NFKC', text).translate(_STRAIGHT_QUOTES)
  text = html.unescape(html.unescape(text))  # Twice, for captions that were escaped twice.
  return ' '.join(text.split()).lower()


def make_tokenizer(
  name_or_path: str, vocab_size: int, context_length: int, field: str = 'tokenizer'
) -> Tokenizer:
  """Makes a tokenizer.

  Args:
    name_or_path: 'clip', 'words', a folder with `tokenizer.json` or with `vocab.json` and
      `merges.txt`, or a file like `tokenizer.json`.
    vocab_size: number of ids for which the text tower has embeddings.
    context_length: length of a row of ids.
    field: what errors call the setting that names the tokenizer.

  Raises:
    UserError: if the vocabulary is missing or cannot be read, or has ids for which the text tower
      has no embeddings.
  """
  if name_or_path == 'clip':
    encode, start, end = _clip(field)
  elif name_or_path == 'words':
    encode, start, end = _words(vocab_size)
  else:
    encode, start, end = _from_files(local_path(name_or_path, field), field)
  if end >= vocab_size:
    raise UserError(
      f'{field}: {name_or_path!r} has {end + 1} ids and the model has embeddings for'
      f" {vocab_size}; take 'words', or a model with as many"
    )
  return Tokenizer(encode, start, end, context_length)


def has_vocabulary(folder: pathlib.Path) -> bool:
  """Whether a folder has `tokenizer.json`, or `vocab.json` and `merges.txt`."""
  return (folder / 'tokenizer.json').is_file() or all(
    (folder / name).is_file() for name in ('vocab.json', 'merges.txt')
  )


# The parts in which the three kinds differ: the encoder, the start id and the end id.
_Parts = tuple[Callable[[str], Sequence[int]], int, int]


def _clip(field: str) -> _Parts:
  """Returns OpenAI's tokenizer, by default that of the package instant_clip_tokenizer."""
  try:
    import instant_clip_tokenizer
  except ImportError:
    return _from_installed_merges(field)
  tokenizer = instant_clip_tokenizer.Tokenizer()
  return tokenizer.encode, tokenizer.start_of_text(), tokenizer.end_of_text()


def _from_installed_merges(field: str) -> _Parts:
  """Returns OpenAI's tokenizer, from the list of merges in a package; it is not imported."""
  for package in _MERGES_PACKAGES:
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
      if (pathlib.Path(folder) / _MERGES).is_file():
        return _from_merges(pathlib.Path(folder) / _MERGES)
  raise UserError(
    f"{field}: 'clip' needs a package with CLIP's vocabulary (instant-clip-tokenizer,"
    ' which ends at Python 3.12, or open_clip_torch); pip install --no-deps open_clip_torch, or'
    ' name a folder with tokenizer.json, or with vocab.json and merges.txt, of a CLIP model'
  )


def _from_merges(path: pathlib.Path) -> _Parts:
  """Builds OpenAI's tokenizer from its list of merges.

  As in OpenAI's `SimpleTokenizer`, ids are given to the 256 bytes, then to the bytes that end a
  word, then to the merges in their order, then to start and end.
  """
  try:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
  except (OSError, EOFError, ValueError, zlib.error) as error:
    raise UserError(f'{path}: not readable ({error}); install its package again') from None
  printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
  characters = [*map(chr, printable), *(chr(256 + n) for n in range(256 - len(printable)))]
  tokens = characters + [f'{character}</w>' for character in characters]
  # The list is longer than the vocabulary that OpenAI uses.
  merges: list[Any] = [tuple(line.split()) for line in lines[: _CLIP_SIZE - 2 - len(tokens)]]
  tokens += [''.join(pair) for pair in merges]
  if len(tokens) != _CLIP_SIZE - 2 or any(len(pair) != 2 for pair in merges):
    raise UserError(f'{path}: does not hold the merges of CLIP; install its package again')
  vocab = {token: number for number, token in enumerate(tokens)}
  model = tokenizers.models.BPE(vocab, merges, end_of_word_suffix='</w>')
  tokenizer = _clip_encoder(model)
  return lambda text: tokenizer.encode(text).ids, _CLIP_SIZE - 2, _CLIP_SIZE - 1


def _words(vocab_size: int) -> _Parts:
  """Returns an encoder that hashes words to ids: it needs no vocabulary and encodes any text.

  Words consist of letters, digits and combining marks; each symbol is a word of its own; all other
  characters separate words. Two words may get the same id, and the model cannot tell them apart.
  Among n words there are about n^2 / (2 * vocab_size) such pairs (0.4 for 60 words and 4096 ids).
  """
  start, end = vocab_size - 2, vocab_size - 1

  def encode(text: str) -> list[int]:
    # Id 0 is padding, the last two ids are start and end. Python's own hash would differ between
    # processes.
    return [1 + zlib.crc32(word.encode()) % (vocab_size - 3) for word in split_words(text)]

  return encode, start, end


def _from_files(name: str, field: str) -> _Parts:
  """Reads a byte-pair encoding with CLIP's start and end tokens from the file or folder `name`."""
  path = pathlib.Path(name)
  file = path / 'tokenizer.json' if path.is_dir() else path
  vocab, merges = path / 'vocab.json', path / 'merges.txt'
  try:
    if file.is_file():
      tokenizer = tokenizers.Tokenizer.from_file(str(file))
    elif vocab.is_file() and merges.is_file():
      model = tokenizers.models.BPE.from_file(str(vocab), str(merges), end_of_word_suffix='</w>')
      tokenizer = _clip_encoder(model)
    else:
      raise UserError(
        f"{field}: {name!r} is neither 'clip' nor 'words' nor a file like"
        ' tokenizer.json nor a folder with tokenizer.json, or with vocab.json and merges.txt'
      )
  except UserError:
    raise
  except Exception as error:  # The library raises bare `Exception` for a file it cannot read.
    raise UserError(f'{field}: cannot read {name!r}: {error}') from error
  # Files of published models may turn on padding or truncation; `Tokenizer` does both itself.
  tokenizer.no_padding()
  tokenizer.no_truncation()

  start, end = map(tokenizer.token_to_id, ('<|startoftext|>', '<|endoftext|>'))
  if start is None or end is None or end != max(tokenizer.get_vocab().values()):
    raise UserError(
      f'{field}: {name!r} is not a CLIP vocabulary: it must have'
      ' <|startoftext|> and, with the largest id, <|endoftext|>'
    )

  def encode(text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids

  return encode, start, end


def _clip_encoder(model: tokenizers.models.BPE) -> tokenizers.Tokenizer:
  """Returns CLIP's encoder for cleaned texts, given a model with its vocabulary and merges."""
  tokenizer = tokenizers.Tokenizer(model)
  split = tokenizers.pre_tokenizers.Split(
    tokenizers.Regex(_CLIP_WORDS), behavior='removed', invert=True
  )
  to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
  return tokenizer
