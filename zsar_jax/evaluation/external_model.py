"""Evaluates somebody's model: Python code of the user's, which may use any library or service.

The user names a function, 'MODULE:FUNCTION'. It takes no arguments and returns an object with

    encode_video(frames: u8[B, T, H, W, 3]) -> f32[B, E]
    encode_text(texts: list[str]) -> f32[C, E]

or, if videos and texts have no embeddings of their own,

    score(frames: u8[B, T, H, W, 3], texts: list[str]) -> f32[B, C]

Frames are RGB as `config.view` cuts them, painted by the mask recipe (`prepare.painted_frames`).
The module is imported, which executes it, so only a command line or a config file may name it;
names in files of runs are never followed (`weights.runs.saved_config`). docs/external_models.md
describes all this for users.
"""

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.ops.prepare import Batch, painted_frames
from zsar_jax.recipes.language import Recipe
from zsar_jax.text.phrasing import render
from zsar_jax.text.templates import fill_templates

_FIELD = 'config.model.external'

# The scale of cosines in logits: that of OpenAI's CLIP, exp(logit_scale) = 100.
LOGIT_SCALE = 100.0

# The folders of Python's own modules and of installed packages.
_LIBRARIES = tuple(
  sysconfig.get_path(name) for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')
)

_DTYPES = ('float16', 'bfloat16', 'float32', 'float64')


class ExternalScorer:
  """The scores of an external model, a `scoring.Scorer` for a single process."""

  def __init__(self, name: str, templates: Sequence[str], split_words: bool, placeholders: str):
    """Imports the module; the function is called when the first class texts are encoded.

    Args:
      name: 'MODULE:FUNCTION'.
      templates: `config.text.templates`, P sentences.
      split_words: `config.text.split_words`.
      placeholders: `config.text.placeholders`.

    Raises:
      UserError: the module cannot be imported, or has no such function.
    """
    self._name = name
    self._text = templates, split_words, placeholders
    self._function = _import_function(name)
    self._model: Any = None

  def read_texts(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the class texts in the templates, str[P, C]."""
    templates, split_words, placeholders = self._text
    names = render(texts, split_words, placeholders, 'config.text')
    return np.array(fill_templates(names, templates, 'config.text.templates'))

  def encode_classes(self, params: None, prompts: np.ndarray, classes: int) -> Any:
    """Returns the embeddings f32[C, E] of unit length, means over the templates.

    For a model that scores, it returns the prompts.

    Raises:
      UserError: the model fails, or its embeddings are invalid.
    """
    del params, classes
    if self._model is None:
      self._model = self._call('', self._function)
      self._check_methods()
    if self._scores:
      return prompts
    by_template = []
    for row in prompts:
      texts = self._embed('encode_text', row.tolist(), len(row))
      if not np.isfinite(texts).all():
        text = str(row[~np.isfinite(texts).all(axis=1)][0])
        raise UserError(
          f'{_FIELD}: encode_text of {self._name} returned an embedding of length 0, or one that is'
          f' not finite, for {text!r}; correct it'
        )
      by_template.append(texts)
    return _normalize(np.mean(by_template, axis=0))

  def score(
    self, params: None, key: jax.Array, batch: Batch, recipe: Recipe, classes: Any
  ) -> np.ndarray:
    """Returns logits f32[B, C]: cosines times `LOGIT_SCALE`, or means of scores over templates.

    Rows that are not finite count as wrong.

    Raises:
      UserError: the model fails, or its output has a wrong shape or dtype.
    """
    del params
    count = int(np.count_nonzero(jax.device_get(batch['weight'])))  # Without padding.
    # A copy, because JAX's own array is read-only, which PyTorch warns about.
    frames = np.array(jax.device_get(painted_frames(key, batch, recipe))[:count])
    if self._scores:
      by_template = [self._score(frames, texts.tolist()) for texts in classes]
      logits = np.mean(by_template, axis=0)
    else:
      videos = self._embed('encode_video', frames, count)
      if videos.shape[1] != classes.shape[1]:
        raise UserError(
          f'{_FIELD}: encode_video of {self._name} returned embeddings of {videos.shape[1]}'
          f' numbers, and encode_text of {classes.shape[1]}; return embeddings of one length'
        )
      logits = LOGIT_SCALE * videos @ classes.T
    padding = len(batch['weight']) - count
    return np.pad(logits, ((0, padding), (0, 0)))

  def region_shares(self, params: None, key: jax.Array, batch: Batch, classes: Any) -> Any:
    """Is never called: `eval_mode` refuses `config.eval.saliency`, which needs gradients."""
    raise NotImplementedError

  @property
  def _scores(self) -> bool:
    return callable(getattr(self._model, 'score', None))

  def _check_methods(self) -> None:
    encodes = all(callable(getattr(self._model, f'encode_{x}', None)) for x in ('video', 'text'))
    if not (self._scores or encodes):
      raise UserError(
        f'{_FIELD}: {self._name} returned a {type(self._model).__name__}, which has neither the'
        ' methods encode_video and encode_text nor the method score; see docs/external_models.md'
      )

  def _score(self, frames: np.ndarray, texts: list[str]) -> np.ndarray:
    scores = self._call('score', self._model.score, frames, texts)
    return self._check_array('score', scores, len(frames), len(texts))

  def _embed(self, method: str, inputs: Any, count: int) -> np.ndarray:
    """Returns embeddings of unit length; those of length 0 are not finite."""
    embeddings = self._call(method, getattr(self._model, method), inputs)
    return _normalize(self._check_array(method, embeddings, count, None))

  def _call(self, method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the user's code.

    Raises:
      UserError: it raised an exception, which is the cause of this error.
    """
    try:
      with jax.transfer_guard('allow'):  # The model may be one of JAX.
        return function(*arguments)
    except (Exception, SystemExit) as error:
      who = f'{method} of {self._name}' if method else self._name
      raise UserError(
        f'{_FIELD}: {who} raised {_describe(error)}; correct it, and the same command'
        ' evaluates again'
      ) from error

  def _check_array(self, method: str, result: Any, rows: int, columns: int | None) -> np.ndarray:
    """Returns the result of a method as f32[rows, columns]; None stands for any number."""
    must = f'f32[{rows}, {columns or "E"}]'
    who = f'{_FIELD}: {method} of {self._name} returned'
    try:
      with jax.transfer_guard('allow'):
        array = np.asarray(result)
    except Exception as error:  # As of PyTorch's tensors with gradients or on other devices.
      raise UserError(
        f'{who} a {type(result).__name__} that NumPy cannot read ({first_line(error)}); return a'
        f' NumPy array {must}'
      ) from error
    is_valid = array.ndim == 2 and len(array) == rows and columns in (None, array.shape[1])
    if array.dtype.name not in _DTYPES or not is_valid or not array.shape[1]:
      actual = f'{array.dtype}{list(array.shape)}'
      if array.dtype == object:
        actual = f'a {type(result).__name__}'
      raise UserError(f'{who} {actual}, but it must be {must}; correct it')
    with np.errstate(over='ignore'):  # Too large a number becomes infinite, and counts as wrong.
      return array.astype(np.float32)


def _normalize(embeddings: np.ndarray) -> np.ndarray:
  with np.errstate(all='ignore'):
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)


def _import_function(name: str) -> Callable[[], Any]:
  """Imports 'MODULE:FUNCTION' from the current folder or the installed packages."""
  module_name, _, function_name = name.partition(':')
  folder = os.getcwd()
  # At the end, so that no file of the folder hides a module that a library imports.
  if folder not in sys.path and '' not in sys.path:
    sys.path.append(folder)
  try:
    module = importlib.import_module(module_name)
  except (Exception, SystemExit) as error:
    if isinstance(error, ModuleNotFoundError) and f'{module_name}.'.startswith(f'{error.name}.'):
      raise UserError(
        f'{_FIELD}: there is no module {error.name!r} in {folder} nor among the installed packages;'
        ' start the command in the folder that has it, or install its package'
      ) from None
    raise UserError(
      f'{_FIELD}: {module_name} cannot be imported: {_describe(error)}; correct it, or install what'
      ' it needs'
    ) from error
  _check_not_hidden(module_name, folder)
  function = getattr(module, function_name, None)
  if not callable(function):
    raise UserError(
      f'{_FIELD}: {module_name} ({getattr(module, "__file__", "built in")}) has no function'
      f' {function_name!r}; name one of its functions'
    )
  return function


def _check_not_hidden(module_name: str, folder: str) -> None:
  """Raises a `UserError` if an installed module hides the one in the current folder."""
  # The package, because the folders in it may be links.
  top = module_name.partition('.')[0]
  own = [os.path.join(folder, f'{top}.py'), os.path.join(folder, top, '__init__.py')]
  actual = getattr(sys.modules[top], '__file__', None) or 'built in'
  for path in filter(os.path.isfile, own):
    if os.path.realpath(actual) != os.path.realpath(path):
      raise UserError(f'{_FIELD}: {top} is {actual}, which hides {path}; rename your file')


def _describe(error: BaseException) -> str:
  """Returns an exception as 'Type: text (file, line n)', with the last line of the user's code."""
  if isinstance(error, SyntaxError) and error.filename:
    return f'{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})'
  frames = traceback.extract_tb(error.__traceback__)[1:]  # The first is the call in this file.
  own = [frame for frame in frames if not frame.filename.startswith(('<', *_LIBRARIES))]
  last = (own or frames)[-1:]
  line = ''.join(f' ({frame.filename}, line {frame.lineno})' for frame in last)
  return f'{type(error).__name__}: {first_line(error)}{line}'
