"""The very programs that training and evaluation run, with shapes in the place of arrays."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.batch import PARTNER
from zsar_jax.evaluation import evaluator
from zsar_jax.models.from_config import build_model, build_teacher
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.training import optim
from zsar_jax.training.step import jit_train_step, texts_frozen
from zsar_jax.weights.state import sharded_state


@dataclasses.dataclass(frozen=True)
class Program:
  """A jitted function and what it is called with.

  Attributes:
    name: 'train', or of an evaluation 'prepare' or 'score'.
    function: the jitted function.
    arguments: trees of ShapeDtypeStructs with shardings, by the name of what they are.
    static: the static arguments, by keyword.
  """

  name: str
  function: Any
  arguments: dict[str, Any]
  static: dict[str, Any] = dataclasses.field(default_factory=dict)

  def trace(self) -> Any:
    """Traces the function for the mesh that the arguments' shardings name."""
    return self.function.trace(*self.arguments.values(), **self.static)


def train_program(config: ConfigDict, mesh: Mesh, classes: int) -> Program:
  """The optimizer step of `train.train`.

  Args:
    config: a validated config.
    mesh: of any devices, those of a topology included.
    classes: the number of training classes.

  Raises:
    UserError: where mesh and accumulation do not divide the batch.
  """
  parts = sharding.num_batch_shards(mesh)
  batch_size, accumulation = config.data.batch_size, config.optim.accumulation
  config_lib.check_batch('config.data.batch_size', batch_size, parts, accumulation)
  model, teacher = build_model(config), build_teacher(config)
  optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
  _, template = sharded_state(config, model, optimizer, trained, mesh)
  # Whose names matter only where a flip exchanges left and right.
  names = tuple(f'class {number}' for number in range(classes))
  step = jit_train_step(config, model, teacher, optimizer, trained, names, mesh, template)

  whole = sharding.replicated(mesh)
  templates, padded = len(config.text.templates), classes + -classes % parts
  embeddings = _shape((templates, padded, model.spec.embed_dim), np.float32, whole)
  inputs = {'key': _key(whole)}
  if texts_frozen(trained):
    inputs['texts'] = embeddings
  else:
    inputs['texts'] = _shape((templates, padded, model.spec.context_length), np.int32, whole)
  if config.optim.distillation:
    inputs['teacher'] = sharding.sharded_shapes(
      teacher.abstract_params, mesh, config.mesh.fsdp_min_bytes
    )
    inputs['teacher_texts'] = embeddings
  if language.parse(config.recipe).effect('stillmix_bank'):
    inputs['stills'] = _shape((config.stills.count, *_frame(config), 3), np.uint8, whole)
  batch = batch_shapes(config, batch_size, mesh, training=True)
  batch['stop'] = _shape((batch_size,), np.bool_, sharding.batch_sharding(mesh))
  return Program('train', step, {'state': template, 'batch': batch, 'inputs': inputs})


def evaluation_programs(config: ConfigDict, mesh: Mesh, classes: int) -> list[Program]:
  """What `evaluate.Evaluator` runs for a batch: `evaluation_input` for each recipe, and `score`.

  Args:
    config: a validated config.
    mesh: of any devices.
    classes: the number of classes of the evaluation.

  Raises:
    UserError: where the mesh does not divide the batch.
  """
  batch_size = config.eval.batch_size
  config_lib.check_batch('config.eval.batch_size', batch_size, sharding.num_batch_shards(mesh))
  model = build_model(config)
  whole = sharding.replicated(mesh)
  asked = [language.parse(text) for text in config.eval.recipes]
  swapping = any(recipe.swap_part for recipe in asked)
  batch = batch_shapes(config, batch_size, mesh, partners=swapping)
  programs = [
    Program('prepare', evaluation_input, {'key': _key(whole), 'batch': batch}, {'recipe': recipe})
    for recipe in asked
  ]
  place = sharding.batch_sharding(mesh)
  arguments = {
    'params': evaluated_shapes(config, model, mesh),
    'video': _shape((batch_size, config.view.num_frames, *_frame(config), 3), np.float32, place),
    'classes': _shape((classes, model.spec.embed_dim), np.float32, whole),
  }
  score = evaluator.jit_score(model, mesh, config.mesh.fsdp_min_bytes)
  return [*programs, Program('score', score, arguments)]


def evaluated_shapes(config: ConfigDict, model: VideoModel, mesh: Mesh) -> Any:
  """The parameters' sharded shapes."""
  return sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)


def batch_shapes(
  config: ConfigDict, batch_size: int, mesh: Mesh, partners: bool = False, training: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
  """A batch as `data.pipeline` makes it and `sharding.shard_batch` places it."""
  place = sharding.batch_sharding(mesh)
  clip = (batch_size, config.view.num_frames)
  arrays = {
    'frames': ((*clip, *_frame(config), 3), np.uint8),
    'regions': ((*clip, *_frame(config)), np.uint8),
    'annotated': (clip, np.bool_),
    'label': ((batch_size,), np.int32),
    'seed': ((batch_size,), np.uint32),
    'clip': ((batch_size,), np.int32),
    'weight': ((batch_size,), np.float32),
  }
  if training:
    arrays['replaced'] = arrays['clip']
  if partners:
    for name in ('frames', 'regions', 'annotated'):
      arrays[f'{PARTNER}{name}'] = arrays[name]
  return {name: _shape(shape, dtype, place) for name, (shape, dtype) in arrays.items()}


def _frame(config: ConfigDict) -> tuple[int, int]:
  return config.view.size, config.view.size


def _key(place: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((), jax.eval_shape(jax.random.key, 0).dtype, sharding=place)


def _shape(shape: tuple[int, ...], dtype: Any, place: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=place)
