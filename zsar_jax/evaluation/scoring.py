"""Scores painted clips for classes: the part of an evaluation that depends on the kind of model."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.evaluation import saliency
from zsar_jax.models.compute import compiler_options
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.prepare import Batch, evaluation_input
from zsar_jax.recipes import language
from zsar_jax.recipes.language import Recipe
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import ClassTexts, encode_classes

# The most class texts that are encoded at a time; more than any vocabulary of actions has. At 20
# tokens, the hidden layer of an MLP of ViT-B's text tower has 0.7 GB for so many, and would have
# 6.5 GB for the 39,928 pairs of Sth-com.
_TEXT_CHUNK = 4096


class Scorer(Protocol):
  """A model as `Evaluator` sees it. B clips, C classes, P templates."""

  def read_texts(self, texts: Sequence[str]) -> np.ndarray:
    """Turns the C class texts of a data set into the model's prompts, of any shape and dtype.

    Raises:
      UserError: the texts cannot be used.
    """

  def encode_classes(self, params: Any, prompts: np.ndarray, classes: int) -> Any:
    """Encodes the prompts of C classes, once for each evaluation of a data set.

    Args:
      params: the weights that are evaluated; None for a model that has its own.
      prompts: from `read_texts`.
      classes: C.
    """

  def score(
    self, params: Any, key: jax.Array, batch: Batch, recipe: Recipe, classes: Any
  ) -> jax.Array | np.ndarray:
    """Scores a batch under a mask recipe.

    Args:
      params: as in `encode_classes`.
      key: the evaluation's key, see `evaluation_input`.
      batch: u8 clips on the mesh; the padding of the last batch is at its end.
      recipe: the mask recipe.
      classes: from `encode_classes`.

    Returns:
      f32[B, C], logits; those of padding are ignored.
    """

  def region_shares(self, params: Any, key: jax.Array, batch: Batch, classes: Any) -> Any:
    """Measures the saliency of unpainted clips, see `saliency.region_shares`."""


class ModelScorer:
  """The scores of a model of this project; its results stay on the mesh."""

  def __init__(self, config: ConfigDict, model: VideoModel, texts: ClassTexts, mesh: Mesh):
    """Compiles nothing yet.

    Args:
      config: a validated config.
      model: the model.
      texts: tokenizes the class texts.
      mesh: the devices.
    """
    recipes = map(language.parse, config.eval.recipes)
    if any(recipe.effect('reverse') or recipe.effect('shuffle') for recipe in recipes):
      # A model that cannot see the order of frames then has exactly the same logits for any order.
      compute = dataclasses.replace(model.compute, order_free=True)
      model = VideoModel(model.spec, model.video, compute)
    self._texts, self._mesh = texts, mesh
    jit_options: dict[str, Any] = dict(
      out_shardings=sharding.replicated(mesh),
      compiler_options=compiler_options(mesh, model.compute.deterministic),
    )

    def region_shares(params: dict, batch: dict, video: jax.Array, classes: jax.Array) -> Any:
      score_video = functools.partial(score, model, params, classes=classes)
      return saliency.region_shares(score_video, video, batch['regions'], batch['annotated'])

    self._encode_texts = jax.jit(functools.partial(encode_classes, model, mesh=mesh), **jit_options)
    self._score = jit_score(model, mesh, config.mesh.fsdp_min_bytes)
    self._region_shares = jax.jit(region_shares, **jit_options)

  def read_texts(self, texts: Sequence[str]) -> np.ndarray:
    """Returns tokens i32[P, C', L]; C' is C, padded to fit the mesh."""
    return self._texts.tokens(texts, sharding.num_batch_shards(self._mesh))

  def encode_classes(self, params: dict, prompts: np.ndarray, classes: int) -> jax.Array:
    """Returns the class embeddings f32[C, E], each the mean over the templates.

    More than `_TEXT_CHUNK` classes are encoded in chunks of that many.
    """
    shards = sharding.num_batch_shards(self._mesh)
    size = min(-(-_TEXT_CHUNK // shards) * shards, prompts.shape[1])
    chunks = []
    for start in range(0, prompts.shape[1], size):
      chunk = prompts[:, start : start + size]
      chunk = np.pad(chunk, ((0, 0), (0, size - chunk.shape[1]), (0, 0)))
      tokens = sharding.put_global(chunk, sharding.replicated(self._mesh))
      by_template = self._encode_texts(params, tokens)  # [P, size, E]
      chunks.append(by_template[:, : classes - start].mean(axis=0))
    return chunks[0] if len(chunks) == 1 else jnp.concatenate(chunks)

  def score(
    self, params: dict, key: jax.Array, batch: Batch, recipe: Recipe, classes: jax.Array
  ) -> jax.Array:
    """Returns logits f32[B, C], replicated."""
    return self._score(params, evaluation_input(key, batch, recipe), classes)

  def region_shares(self, params: dict, key: jax.Array, batch: Batch, classes: jax.Array) -> Any:
    """See `saliency.region_shares`."""
    video = evaluation_input(key, batch, Recipe())
    return self._region_shares(params, batch, video, classes)


def score(model: VideoModel, params: dict, video: jax.Array, classes: jax.Array) -> jax.Array:
  """Returns the logits f32[B, C] of clips f32[B, T, H, W, 3] for class embeddings f32[C, E]."""
  return model.logits(params, model.encode_video(params, video), classes)


def jit_score(model: VideoModel, mesh: Mesh, fsdp_min_bytes: int) -> Callable[..., jax.Array]:
  """Returns a jitted `score` of clips that are sharded over the mesh; its logits are replicated."""

  def score_gathered(params: dict, video: jax.Array, classes: jax.Array) -> jax.Array:
    return score(
      model, sharding.gather_fsdp(params, mesh, fsdp_min_bytes, model.compute.dtype), video, classes
    )

  replicated = sharding.replicated(mesh)
  options = compiler_options(mesh, model.compute.deterministic)
  return jax.jit(score_gathered, out_shardings=replicated, compiler_options=options)
