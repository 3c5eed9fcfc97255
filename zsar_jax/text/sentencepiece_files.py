"""Reads SentencePiece's .model files without its library, for the `tokenizers` library.

The format is protobuf (`sentencepiece_model.proto`); only the fields that encoding needs are read.
"""

import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import tokenizers

from zsar_jax.errors import UserError

# The names of such files beside the weights of transformers and big_vision.
NAMES = ('spiece.model', 'sentencepiece.model')

# Published vocabularies of 250,000 pieces have 4 MB.
_MAX_BYTES = 64 * 2**20
# `ModelProto.SentencePiece.Type` and `TrainerSpec.ModelType`.
_NORMAL, _UNKNOWN, _UNIGRAM = 1, 2, 1
# The character that stands for a space in pieces.
_SPACE = '\u2581'


def read_sentencepiece(path: pathlib.Path) -> tokenizers.Tokenizer:
  """Reads a unigram vocabulary.

  Raises:
    UserError: if the file is damaged or has a vocabulary of another kind.
  """
  try:
    if path.stat().st_size > _MAX_BYTES:
      raise ValueError(f'more than {_MAX_BYTES >> 20} MiB')
    pieces, trainer, normalizer = _split(path.read_bytes())
  except (OSError, ValueError, struct.error) as error:
    raise UserError(f'{path}: not readable as a SentencePiece model ({error})') from None
  if trainer.get(3, _UNIGRAM) != _UNIGRAM:
    raise UserError(
      f'{path}: is no unigram vocabulary; name a folder with the tokenizer.json of the model'
    )
  unknown = [number for number, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN]
  if len(unknown) != 1:
    raise UserError(f'{path}: has {len(unknown)} pieces for unknown text instead of one')
  vocab = [(piece, score) for piece, score, _ in pieces]
  try:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(vocab, unknown[0], False))
    steps: list[Any] = []
    if charsmap := normalizer.get(2):
      steps.append(tokenizers.normalizers.Precompiled(charsmap))
    steps.append(tokenizers.normalizers.Replace(tokenizers.Regex(' {2,}'), ' '))
    tokenizer.normalizer = tokenizers.normalizers.Sequence(steps)
  except Exception as error:  # The library raises bare `Exception`.
    raise UserError(f'{path}: not usable as a SentencePiece model ({error})') from None
  prefix = 'always' if normalizer.get(3, 1) else 'never'
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(
    replacement=_SPACE, prepend_scheme=prefix, split=True
  )
  return tokenizer


def _split(data: bytes) -> tuple[list[tuple[str, float, int]], dict[int, Any], dict[int, Any]]:
  """Returns the pieces (text, score, type), and the fields of the trainer and the normalizer."""
  pieces: list[tuple[str, float, int]] = []
  trainer: dict[int, Any] = {}
  normalizer: dict[int, Any] = {}
  for number, value in _fields(data):
    if number in (1, 2, 3) and not isinstance(value, bytes):
      raise ValueError(f'field {number} is no message')
    if number == 1:
      piece = dict(_fields(value))
      text, score, kind = piece.get(1, b''), piece.get(2, 0.0), piece.get(3, _NORMAL)
      if not (isinstance(text, bytes) and isinstance(score, float) and isinstance(kind, int)):
        raise ValueError(f'piece {len(pieces)} has another type')
      pieces.append((text.decode(), score, kind))
    elif number == 2:
      trainer = dict(_fields(value))
    elif number == 3:
      normalizer = dict(_fields(value))
  return pieces, trainer, normalizer


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
  """Yields the fields of a protobuf message: the number, and an integer, a float or bytes."""
  position = 0
  while position < len(data):
    tag, position = _varint(data, position)
    kind = tag & 7
    value: int | float | bytes
    if kind == 0:
      value, position = _varint(data, position)
    elif kind == 5:
      (value,) = struct.unpack_from('<f', data, position)
      position += 4
    elif kind == 1:
      (value,) = struct.unpack_from('<d', data, position)
      position += 8
    elif kind == 2:
      size, position = _varint(data, position)
      value, position = data[position : position + size], position + size
      if position > len(data):
        raise ValueError('it ends within a field')
    else:
      raise ValueError(f'wire type {kind} is unknown')
    yield tag >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
  """Returns an integer of variable length at a position, and the position after it."""
  value = 0
  for shift in range(0, 70, 7):
    if position >= len(data):
      raise ValueError('it ends within a number')
    byte = data[position]
    position += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value, position
  raise ValueError('a number has more than 10 bytes')
