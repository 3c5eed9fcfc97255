"""Tokenizers: from texts to the token ids that the text tower reads.

Three kinds, chosen by `config.text.tokenizer`:

- 'clip': OpenAI's byte-pair encoding, its vocabulary included.
- a path: a vocabulary that came with the weights, read by the `tokenizers` library. Of CLIP's
  files it makes the same ids as 'clip'.
- 'words': words hashed to ids, for models trained from scratch on a small vocabulary.
"""

import dataclasses
import html
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tokenizers

from zsar_jax.errors import UserError
from zsar_jax.paths import local_path

# How CLIP splits a text into the words that it encodes separately (OpenAI's
# `SimpleTokenizer.pat`): contractions, runs of letters, single digits, runs of other signs.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

_STRAIGHT_QUOTES = str.maketrans('‘’‚‛“”„‟', '\'\'\'\'""""')


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Turns texts into rows of token ids.

  Attributes:
    encode: from a cleaned text to its ids, without start and end.
    start: id of the start-of-text token.
    end: id of the end-of-text token, the largest there is: the text tower finds the end of a
      text as the argmax of its ids.
    context_length: length of a row.
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
      UserError: a text is too long, or no text. CLIP cuts one that is too long; a class name
        that is silently cut is a wrong result.
    """
    tokens = np.zeros((len(texts), self.context_length), np.int32)
    for row, text in zip(tokens, texts, strict=True):
      try:
        text.encode()
      except UnicodeEncodeError:  # Python's stand-ins for bytes that are no UTF-8.
        raise UserError(f'the text {text!r} is not valid UTF-8; write it in UTF-8') from None
      ids = [self.start, *self.encode(clean(text)), self.end]
      if len(ids) > self.context_length:
        raise UserError(
          f'the text {text!r} has {len(ids)} tokens, more than the context of '
          f'{self.context_length}; shorten it or the template in config.text.templates.'
        )
      row[: len(ids)] = ids
    return tokens


def clean(text: str) -> str:
  """Lower-cases a text and normalises its characters and white space, as CLIP does.

  OpenAI's code repairs characters with the `ftfy` library. NFKC and straight quotes do the
  same for ligatures, full-width letters and curly quotes, which is what class names have; NFKC
  goes further where a sign stands for several letters, such as the trademark sign.
  """
  text = unicodedata.normalize('NFKC', text).translate(_STRAIGHT_QUOTES)
  text = html.unescape(html.unescape(text))  # Twice, for captions that were escaped twice.
  return ' '.join(text.split()).lower()


def make_tokenizer(name_or_path: str, vocab_size: int, context_length: int) -> Tokenizer:
  """Makes the tokenizer that `config.text.tokenizer` names.

  Args:
    name_or_path: 'clip', 'words', a folder with `tokenizer.json` or with `vocab.json` and
      `merges.txt`, or a file like `tokenizer.json`.
    vocab_size: number of ids that the text tower has embeddings for.
    context_length: tokens in a row.

  Raises:
    UserError: the vocabulary cannot be had or read, or has ids that the text tower has not.
  """
  if name_or_path == 'clip':
    encode, start, end = _clip()
  elif name_or_path == 'words':
    encode, start, end = _words(vocab_size)
  else:
    encode, start, end = _from_files(
      pathlib.Path(local_path(name_or_path, 'config.text.tokenizer'))
    )
  if end >= vocab_size:
    raise UserError(
      f'the tokenizer {name_or_path!r} of config.text.tokenizer has {end + 1} ids and the '
      f"model's vocab_size is {vocab_size}; choose a model with as many, or the tokenizer 'words'."
    )
  return Tokenizer(encode, start, end, context_length)


def has_vocabulary(folder: pathlib.Path) -> bool:
  """Whether a folder has `tokenizer.json`, or `vocab.json` and `merges.txt`."""
  return (folder / 'tokenizer.json').is_file() or all(
    (folder / name).is_file() for name in ('vocab.json', 'merges.txt')
  )


# What the three kinds differ in: the encoder, the start id and the end id.
_Parts = tuple[Callable[[str], Sequence[int]], int, int]


def _clip() -> _Parts:
  """OpenAI's tokenizer, from the package that carries its vocabulary."""
  try:
    import instant_clip_tokenizer
  except ImportError:
    raise UserError(
      "config.text.tokenizer is 'clip', but the package instant-clip-tokenizer is not installed "
      '(it has no wheels for Python 3.13 and later); set the field to a folder with '
      'tokenizer.json, or with vocab.json and merges.txt, of a CLIP model.'
    ) from None
  tokenizer = instant_clip_tokenizer.Tokenizer()
  return tokenizer.encode, tokenizer.start_of_text(), tokenizer.end_of_text()


def _words(vocab_size: int) -> _Parts:
  """Words hashed to ids: no vocabulary file, and any text can be encoded.

  Letters and digits make words; all else parts them. The price is that two words may share
  an id and be one word to the model: among n words, about n^2 / (2 * vocab_size) pairs do
  (0.4 for 60 words and 4096 ids).
  """
  start, end = vocab_size - 2, vocab_size - 1

  def encode(text: str) -> list[int]:
    words = re.findall(r'[^\W_]+', text)
    # Id 0 is the padding's, the last two are start and end. Python's own hash differs from
    # one process to the next.
    return [1 + zlib.crc32(word.encode()) % (vocab_size - 3) for word in words]

  return encode, start, end


def _from_files(path: pathlib.Path) -> _Parts:
  """A byte-pair encoding with CLIP's start and end tokens, from files."""
  file = path / 'tokenizer.json' if path.is_dir() else path
  vocab, merges = path / 'vocab.json', path / 'merges.txt'
  try:
    if file.is_file():
      tokenizer = tokenizers.Tokenizer.from_file(str(file))
    elif vocab.is_file() and merges.is_file():
      tokenizer = _clip_bpe(vocab, merges)
    else:
      raise UserError(
        f"config.text.tokenizer: {str(path)!r} is neither 'clip' nor 'words' nor a file like "
        'tokenizer.json nor a folder with tokenizer.json, or with vocab.json and merges.txt.'
      )
  except UserError:
    raise
  except Exception as error:  # The library raises bare `Exception` for a file it cannot read.
    raise UserError(f'config.text.tokenizer: cannot read {str(path)!r}: {error}.') from error
  # Files of published models may ask for padding or for cutting; both are done above.
  tokenizer.no_padding()
  tokenizer.no_truncation()

  start, end = map(tokenizer.token_to_id, ('<|startoftext|>', '<|endoftext|>'))
  if start is None or end is None or end != max(tokenizer.get_vocab().values()):
    raise UserError(
      f'config.text.tokenizer: {str(path)!r} is not a CLIP vocabulary: it must have '
      '<|startoftext|> and, with the largest id, <|endoftext|>.'
    )

  def encode(text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids

  return encode, start, end


def _clip_bpe(vocab: pathlib.Path, merges: pathlib.Path) -> tokenizers.Tokenizer:
  """CLIP's encoder for cleaned text, from `vocab.json` and `merges.txt`."""
  model = tokenizers.models.BPE.from_file(str(vocab), str(merges), end_of_word_suffix='</w>')
  tokenizer = tokenizers.Tokenizer(model)
  split = tokenizers.pre_tokenizers.Split(
    tokenizers.Regex(_CLIP_WORDS), behavior='removed', invert=True
  )
  to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
  return tokenizer
