"""This project's side of the benchmarks of models; runs in a process of its own."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.models.from_config import build_model, build_teacher
from zsar_jax.models.layers import compiler_options
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import encode_classes
from zsar_jax.training import optim
from zsar_jax.training.step import make_train_step
from zsar_jax.weights.formats.save import save_weights
from zsar_jax.weights.state import init_state

from . import workload
from .turns import Lazy, Loop
from .workload import Workload


def write_weights(work: Workload) -> Callable[[], None]:
  """What writes the weights that both sides begin with to `work.weights`."""

  def write() -> None:
    model = build_model(workload.config(work))
    params = jax.jit(model.init)(jax.random.key(0))
    save_weights(jax.device_get(params), model, 'hf', pathlib.Path(work.weights))

  return write


def loops(work: Workload) -> Lazy:
  """All of this side, by name."""
  ours = Ours(work)
  return Lazy(
    {
      'step': ours.step,
      'step_masked': lambda: ours.step(workload.MASKS),
      'forward': ours.scores,
      'eval': lambda: ours.scores(workload.RECIPES),
      'normalize': lambda: ours.prepared('none'),
      'mask': lambda: ours.prepared(workload.MASKS),
      'text': ours.texts,
    }
  )


class Ours:
  """The trainer's and the evaluator's functions, compiled before they are called."""

  def __init__(self, work: Workload):
    self._work = work
    self._config = workload.config(work)
    self._mesh = sharding.make_mesh(self._config.mesh)
    self._model = build_model(self._config)
    self._params = jax.jit(self._model.init)(jax.random.key(0))
    self._batch = sharding.shard_batch(workload.clips(work), self._mesh)
    self._tokens = jnp.asarray(workload.tokens(work))
    self._state: Any = None

  def step(self, recipe: str = 'none') -> Loop:
    """An optimizer step; its loss."""
    config = workload.config(self._work, recipe)
    model = self._model
    optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
    if self._state is None:
      init = functools.partial(init_state, optimizer, trained, False)
      self._state = jax.jit(init, donate_argnums=0)(self._params)
    classes = tuple(map(str, range(self._work.classes)))
    teacher = build_teacher(config)
    train_step = make_train_step(config, model, teacher, optimizer, trained, classes, self._mesh)
    train_step = jax.jit(
      functools.partial(train_step, texts_frozen=False),
      donate_argnums=0,
      compiler_options=compiler_options(),
    )
    inputs = {'key': jax.random.key(0), 'texts': self._tokens}
    compiled = train_step.lower(self._state, self._batch, inputs).compile()

    def loop() -> float:
      self._state, metrics = compiled(self._state, self._batch, inputs)
      # All of the step, not its loss alone.
      jax.block_until_ready(self._state)
      return float(metrics['loss'])

    return loop

  def scores(self, names: tuple[str, ...] = ('none',)) -> Loop:
    """The logits under some recipes, of class embeddings that are there; the sum of their means."""
    model = self._model
    texts = self._encode_texts()(self._parameters(), self._tokens).mean(0)

    def score(params: Any, video: jax.Array, texts: jax.Array) -> jax.Array:
      return model.logits(params, model.encode_video(params, video), texts)

    score = jax.jit(score, compiler_options=compiler_options())
    parsed = [language.parse(name) for name in names]
    key = jax.random.key(0)

    def loop() -> float:
      found = [
        score(self._parameters(), evaluation_input(key, self._batch, recipe), texts)
        for recipe in parsed
      ]
      return float(sum(one.mean() for one in found))

    return loop

  def prepared(self, recipe: str) -> Loop:
    """What a recipe does to the batch, normalizing included, alone; the mean."""
    parsed, key = language.parse(recipe), jax.random.key(0)
    return lambda: float(evaluation_input(key, self._batch, parsed)[:, :, 0, 0].mean())

  def texts(self) -> Loop:
    """The embeddings of all class texts; their mean."""
    encode = self._encode_texts()
    return lambda: float(encode(self._parameters(), self._tokens).mean())

  def _encode_texts(self) -> Callable[..., jax.Array]:
    encode = functools.partial(encode_classes, self._model, mesh=self._mesh)
    return jax.jit(encode, compiler_options=compiler_options())

  def _parameters(self) -> Any:
    return self._params if self._state is None else self._state['params']
