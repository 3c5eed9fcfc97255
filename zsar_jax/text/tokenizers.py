"""Tokenizers, which turn texts into the token ids that the text tower reads.

There are three kinds, chosen by `config.text.tokenizer`:

- 'clip': OpenAI's byte-pair encoding, with the vocabulary of an installed package.
- a path: a vocabulary that comes with the weights, read by the `tokenizers` library. With CLIP's
  files it gives the same ids as 'clip'.
- 'words': words hashed to ids, for models trained from scratch on a small vocabulary.

What surrounds the ids of a text, and how the text is cleaned, depends on the family of the model:
see `architectures.Architecture.texts`.
"""

import dataclasses
import gzip
import html
import importlib.util
import pathlib
import string
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from zsar_jax.data.class_names import split_words
from zsar_jax.errors import UserError
from zsar_jax.models.architectures import CLIP, Architecture
from zsar_jax.storage import buckets, local_copies, web_files
from zsar_jax.storage.paths import as_path
from zsar_jax.text import sentencepiece_files

# The names of a tokenizer's files, as transformers and big_vision write them.
FILES = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  *sentencepiece_files.NAMES,
)

# CLIP splits a text into words and encodes each by itself (OpenAI's `SimpleTokenizer.pat`). Words
# are contractions, runs of letters, single digits, and runs of other characters.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

# The packages open_clip_torch and OpenAI's own have OpenAI's vocabulary in a file of this name.
_MERGES = 'bpe_simple_vocab_16e6.txt.gz'
_MERGES_PACKAGES = ('open_clip', 'clip')

# The size of CLIP's vocabulary, including the start and end tokens.
_CLIP_SIZE = 49408

# The ids that end a text of SigLIP 2 and SigLIP, and the ids that pad it. SigLIP was trained with
# `pad_value=1` (big_vision, configs/proj/image_text), the id of the end.
_SIGLIP_ENDS = (('<eos>', '<pad>'), ('</s>', '</s>'))

_NO_PUNCTUATION = str.maketrans('', '', string.punctuation)
_PUNCTUATION_TO_SPACES = str.maketrans(string.punctuation, ' ' * len(string.punctuation))
_STRAIGHT_QUOTES = str.maketrans('‘’‚‛“”„‟', '\'\'\'\'""""')


def clean(text: str) -> str:
  """Lower-cases a text and normalizes its characters and white space, as CLIP does.

  OpenAI's code repairs characters with the `ftfy` library. For what occurs in class names
  (ligatures, full-width letters, curly quotes), NFKC and straight quotes give the same result. NFKC
  also expands characters that stand for several letters, such as the trademark sign.
  """
  text = unicodedata.normalize('NFKC', text).translate(_STRAIGHT_QUOTES)
  text = html.unescape(html.unescape(text))  # Twice, for captions that were escaped twice.
  return ' '.join(text.split()).lower()


def canonicalize(text: str) -> str:
  """Cleans a text, turns underscores to spaces, and removes ASCII punctuation.

  SigLIP's texts were canonicalized like this in its zero-shot evaluations (big_vision,
  evaluators/proj/image_text/prompt_engineering.py), and open_clip does it for both SigLIPs.
  """
  text = clean(text).replace('_', ' ').translate(_NO_PUNCTUATION)
  return ' '.join(text.split())


def canonicalize_to_sentence(text: str) -> str:
  """Turns ASCII punctuation to spaces, lower-cases a text, and ends it with a period.

  As in VideoPrism (`videoprism.utils.canonicalize_text`).
  """
  return ' '.join(text.translate(_PUNCTUATION_TO_SPACES).lower().split()) + '.'


# How a text is cleaned, by `architectures.Architecture.texts`.
_CLEANERS = {'clip': clean, 'siglip': canonicalize, 'videoprism': canonicalize_to_sentence}


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Turns texts into rows of token ids.

  Attributes:
    encode: maps a cleaned text to its ids, without start and end.
    start: id of the start-of-text token; None if texts have none.
    end: id of the end-of-text token; None if texts have none. If the text tower pools the end of
      a text, it is the largest id, because the tower finds it as the argmax of the ids.
    context_length: length of a row of ids.
    pad: id of the tokens after the end.
    clean: cleans a text before it is encoded.
  """

  encode: Callable[[str], Sequence[int]]
  start: int | None
  end: int | None
  context_length: int
  pad: int = 0
  clean: Callable[[str], str] = clean

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Tokenizes texts.

    Args:
      texts: C texts.

    Returns:
      i32[C, context_length]: start, the text, end, then `pad`.

    Raises:
      UserError: if a text is too long or not valid UTF-8. OpenAI's code truncates long texts,
        but a class name that is silently truncated gives a wrong result.
    """
    tokens = np.full((len(texts), self.context_length), self.pad, np.int32)
    for row, text in zip(tokens, texts, strict=True):
      try:
        text.encode()
      except UnicodeEncodeError:  # Surrogates, by which Python represents invalid bytes.
        raise UserError(f'the text {text!r} is not valid UTF-8; write it in UTF-8') from None
      marked = (self.start, *self.encode(self.clean(text)), self.end)
      ids = [number for number in marked if number is not None]
      if len(ids) > self.context_length:
        raise UserError(
          f'the text {text!r} has {len(ids)} tokens, more than the context of'
          f' {self.context_length}; shorten it or its template'
        )
      row[: len(ids)] = ids
    return tokens


def make_tokenizer(
  name_or_path: str,
  vocab_size: int,
  context_length: int,
  field: str = 'tokenizer',
  parts: Architecture = CLIP,
) -> Tokenizer:
  """Makes a tokenizer.

  Args:
    name_or_path: 'clip', 'words', a folder with `tokenizer.json`, with `vocab.json` and
      `merges.txt` or with one of `sentencepiece_files.NAMES`, or a file like `tokenizer.json` or
      `spiece.model`.
    vocab_size: number of ids for which the text tower has embeddings.
    context_length: length of a row of ids.
    field: what errors call the setting that names the tokenizer.
    parts: the family of the model.

  Raises:
    UserError: if the vocabulary is missing or cannot be read, is of another family, or has ids for
      which the text tower has no embeddings.
  """
  if name_or_path == 'clip':
    if parts.texts != 'clip':
      raise UserError(
        f"{field}: 'clip' is not the vocabulary of these weights; name a folder with the"
        ' tokenizer.json of the model'
      )
    vocabulary = _clip(field)
  elif name_or_path == 'words':
    vocabulary = _words(vocab_size)
  else:
    vocabulary = _from_files(as_path(name_or_path, field), field, parts)
  if vocabulary.size > vocab_size:
    raise UserError(
      f'{field}: {name_or_path!r} has {vocabulary.size} ids and the model has embeddings for'
      f" {vocab_size}; take 'words', or a model with as many"
    )
  return Tokenizer(
    vocabulary.encode,
    vocabulary.start,
    vocabulary.end,
    context_length,
    vocabulary.pad,
    _CLEANERS[parts.texts],
  )


def has_vocabulary(folder: pathlib.Path) -> bool:
  """Whether a folder has `tokenizer.json`, `vocab.json` and `merges.txt`, or `spiece.model`."""
  names = ('tokenizer.json', *sentencepiece_files.NAMES)
  return any((folder / name).is_file() for name in names) or all(
    (folder / name).is_file() for name in ('vocab.json', 'merges.txt')
  )


class _Vocabulary(NamedTuple):
  """The parts in which vocabularies differ; see `Tokenizer`. `size` is the number of ids."""

  encode: Callable[[str], Sequence[int]]
  start: int | None
  end: int | None
  size: int
  pad: int = 0


def _clip_vocabulary(encode: Callable[[str], Sequence[int]], start: int, end: int) -> _Vocabulary:
  """Returns a vocabulary whose largest id is the end of a text."""
  return _Vocabulary(encode, start, end, end + 1)


def _clip(field: str) -> _Vocabulary:
  """Returns OpenAI's tokenizer, by default that of the package instant_clip_tokenizer."""
  try:
    import instant_clip_tokenizer
  except ImportError:
    return _from_installed_merges(field)
  tokenizer = instant_clip_tokenizer.Tokenizer()
  return _clip_vocabulary(tokenizer.encode, tokenizer.start_of_text(), tokenizer.end_of_text())


def _from_installed_merges(field: str) -> _Vocabulary:
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


def _from_merges(path: pathlib.Path) -> _Vocabulary:
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
  return _clip_vocabulary(lambda text: tokenizer.encode(text).ids, _CLIP_SIZE - 2, _CLIP_SIZE - 1)


def _words(vocab_size: int) -> _Vocabulary:
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

  return _clip_vocabulary(encode, start, end)


def _from_files(path: pathlib.Path, field: str, parts: Architecture) -> _Vocabulary:
  """Reads the vocabulary of a family of models from a file or folder."""
  name = str(path)
  with buckets.reporting_errors(path, field):
    if buckets.is_remote(path) and web_files.exists(path):
      path = local_copies.fetch(path, lambda names: set(FILES) & set(names))
  tokenizer = _read_files(path, name, field)
  # Files of published models may turn on padding or truncation; `Tokenizer` does both itself.
  tokenizer.no_padding()
  tokenizer.no_truncation()

  def encode(text: str) -> list[int]:
    try:
      return tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as error:
      # The library panics if parts of a file do not belong together. The type is not importable.
      if type(error).__name__ != 'PanicException':
        raise
      raise UserError(
        f'{field}: {name!r} is damaged ({error}); fetch its vocabulary again'
      ) from None

  vocab = tokenizer.get_vocab()
  if parts.texts == 'siglip':
    for end, pad in _SIGLIP_ENDS:
      if end in vocab and pad in vocab:
        # Ids that a file adds to its vocabulary are not among a SigLIP's embeddings.
        size = 1 + max(tokenizer.get_vocab(with_added_tokens=False).values(), default=0)
        return _Vocabulary(encode, None, vocab[end], max(size, vocab[end] + 1), vocab[pad])
    raise UserError(
      f'{field}: {name!r} is not a vocabulary of SigLIP: it must have </s>, or <eos> and <pad>'
    )
  if parts.texts == 'videoprism':
    if vocab.get('<pad>') != 0:
      raise UserError(
        f'{field}: {name!r} is not a vocabulary of VideoPrism: its id 0 must be <pad>'
      )
    # transformers adds pieces that no text contains.
    size = 1 + max(number for piece, number in vocab.items() if not piece.startswith('<extra_id_'))
    return _Vocabulary(encode, None, None, size)
  start, end = map(vocab.get, ('<|startoftext|>', '<|endoftext|>'))
  if start is None or end is None or end != max(vocab.values()):
    raise UserError(
      f'{field}: {name!r} is not a CLIP vocabulary: it must have'
      ' <|startoftext|> and, with the largest id, <|endoftext|>'
    )
  return _clip_vocabulary(encode, start, end)


def _read_files(path: pathlib.Path, name: str, field: str) -> tokenizers.Tokenizer:
  """Reads whichever vocabulary is at a path."""
  file = path / 'tokenizer.json' if path.is_dir() else path
  vocab, merges = path / 'vocab.json', path / 'merges.txt'
  pieces = [path / known for known in sentencepiece_files.NAMES]
  if path.is_file() and path.suffix == '.model':
    pieces, file = [path], path / 'tokenizer.json'
  try:
    if file.is_file():
      return tokenizers.Tokenizer.from_file(str(file))
    if vocab.is_file() and merges.is_file():
      model = tokenizers.models.BPE.from_file(str(vocab), str(merges), end_of_word_suffix='</w>')
      return _clip_encoder(model)
  except Exception as error:  # The library raises bare `Exception` for a file it cannot read.
    raise UserError(f'{field}: cannot read {name!r}: {error}') from error
  for piece in pieces:
    if piece.is_file():
      return sentencepiece_files.read_sentencepiece(piece)
  raise UserError(
    f"{field}: {name!r} is neither 'clip' nor 'words' nor a file like tokenizer.json or"
    ' spiece.model nor a folder with one of them, or with vocab.json and merges.txt'
  )


def _clip_encoder(model: tokenizers.models.BPE) -> tokenizers.Tokenizer:
  """Returns CLIP's encoder for cleaned texts, given a model with its vocabulary and merges."""
  tokenizer = tokenizers.Tokenizer(model)
  split = tokenizers.pre_tokenizers.Split(
    tokenizers.Regex(_CLIP_WORDS), behavior='removed', invert=True
  )
  to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
  return tokenizer
