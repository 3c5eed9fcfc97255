"""This project's side of the model benchmarks; runs in a process of its own."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.models.compute import compiler_options
from zsar_jax.models.from_config import build_model
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import encode_classes
from zsar_jax.training.setup import Setup
from zsar_jax.training.step import make_train_step
from zsar_jax.weights.formats.save import save_weights

from . import workload
from .turns import Lazy, Loop
from .workload import Workload


def write_weights(work: Workload) -> Callable[[], None]:
  """Returns a function that writes the initial weights of both sides to `work.weights`."""

  def write() -> None:
    model = build_model(workload.config(work))
    params = jax.jit(model.init)(jax.random.key(0))
    save_weights(jax.device_get(params), model, 'hf', pathlib.Path(work.weights))

  return write


def loops(work: Workload) -> Lazy:
  """Returns all loops of this side, by name."""
  ours = Ours(work)
  return Lazy(
    {
      'step': ours.step,
      'step_masked': lambda: ours.step(workload.MASKS),
      'forward': ours.scores,
      'eval': lambda: ours.scores(work.recipes),
      'normalize': lambda: ours.prepared('none'),
      'mask': lambda: ours.prepared(workload.MASKS),
      'text': ours.texts,
    },
    peak_bytes,
  )


def peak_bytes() -> int | None:
  """Returns the most memory of the device that arrays and programs had; None on CPUs."""
  return (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')


class Ours:
  """The functions of the trainer and the evaluator, compiled before they are timed."""

  def __init__(self, work: Workload):
    self._work = work
    self._mesh = sharding.make_mesh(workload.config(work).mesh)
    self._setup = self._make_setup('none')
    self._params = jax.jit(self._setup.model.init)(jax.random.key(0))
    self._batch = sharding.shard_batch(workload.clips(work), self._mesh)
    self._tokens = jnp.asarray(workload.tokens(work))
    self._state: Any = None

  def _make_setup(self, recipe: str) -> Setup:
    classes = [str(number) for number in range(self._work.classes)]
    return Setup.from_config(workload.config(self._work, recipe), self._mesh, classes)

  def step(self, recipe: str = 'none') -> Loop:
    """An optimizer step; its value is the loss."""
    setup = self._make_setup(recipe)
    if self._state is None:
      self._state = jax.jit(setup.init_state, donate_argnums=0)(self._params)
    train_step = jax.jit(
      make_train_step(setup), donate_argnums=0, compiler_options=compiler_options()
    )
    inputs = {'key': jax.random.key(0), 'texts': self._tokens}
    compiled = train_step.lower(self._state, self._batch, inputs).compile()

    def loop() -> float:
      self._state, metrics = compiled(self._state, self._batch, inputs)
      # Wait for the whole step, not for its loss alone.
      jax.block_until_ready(self._state)
      return float(metrics['loss'])

    return loop

  def scores(self, recipes: tuple[str, ...] = ('none',)) -> Loop:
    """The logits under some recipes, given class embeddings; its value is the sum of the means."""
    model = self._setup.model
    texts = self._encode_texts()(self._parameters(), self._tokens).mean(0)

    def score(params: Any, video: jax.Array, texts: jax.Array) -> jax.Array:
      return model.logits(params, model.encode_video(params, video), texts)

    score = jax.jit(score, compiler_options=compiler_options())
    parsed = [language.parse(recipe) for recipe in recipes]
    key = jax.random.key(0)

    def loop() -> float:
      logits = [
        score(self._parameters(), evaluation_input(key, self._batch, recipe), texts)
        for recipe in parsed
      ]
      return float(sum(of_recipe.mean() for of_recipe in logits))

    return loop

  def prepared(self, recipe: str) -> Loop:
    """A recipe applied to the batch and normalization, without a model; its value is the mean."""
    parsed, key = language.parse(recipe), jax.random.key(0)
    return lambda: float(evaluation_input(key, self._batch, parsed)[:, :, 0, 0].mean())

  def texts(self) -> Loop:
    """The embeddings of all class texts; its value is their mean."""
    encode = self._encode_texts()
    return lambda: float(encode(self._parameters(), self._tokens).mean())

  def _encode_texts(self) -> Callable[..., jax.Array]:
    encode = functools.partial(encode_classes, self._setup.model, mesh=self._mesh)
    return jax.jit(encode, compiler_options=compiler_options())

  def _parameters(self) -> Any:
    return self._params if self._state is None else self._state['params']
