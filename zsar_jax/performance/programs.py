"""The jitted programs that training and evaluation run, with shapes instead of arrays."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.evaluation import scoring
from zsar_jax.models.from_config import build_model
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.training.compilation import batch_shapes
from zsar_jax.training.inputs import abstract_inputs, abstract_key
from zsar_jax.training.setup import Setup
from zsar_jax.training.step import jit_train_step


@dataclasses.dataclass(frozen=True)
class Program:
  """A jitted function and its arguments.

  Attributes:
    name: 'train', or in an evaluation 'prepare' or 'score'.
    function: the jitted function.
    arguments: trees of ShapeDtypeStructs with shardings, by the name of the argument.
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
  """Returns the optimizer step of `training.loop.train`.

  Args:
    config: a validated config.
    mesh: any devices, including those of a topology.
    classes: the number of training classes.

  Raises:
    UserError: if the batch does not divide over the mesh and the micro-batches.
  """
  # The names matter only for a flip, which exchanges left and right.
  names = [f'class {number}' for number in range(classes)]
  setup = Setup.from_config(config, mesh, names)
  inpainted = bool(setup.recipe.inpaint_part)
  batch = batch_shapes(config, config.data.batch_size, mesh, training=True, inpainted=inpainted)
  arguments = {'state': setup.state, 'batch': batch, 'inputs': abstract_inputs(setup)}
  return Program('train', jit_train_step(setup), arguments)


def evaluation_programs(config: ConfigDict, mesh: Mesh, classes: int) -> list[Program]:
  """Returns what `Evaluator` runs on a batch: `evaluation_input` for each recipe, and `score`.

  Args:
    config: a validated config.
    mesh: any devices, including those of a topology.
    classes: the number of classes of the evaluation.

  Raises:
    UserError: if the batch does not divide over the mesh.
  """
  batch_size = config.eval.batch_size
  config_lib.check_batch('config.eval.batch_size', batch_size, sharding.num_batch_shards(mesh))
  model = build_model(config, mesh)
  replicated, split = sharding.replicated(mesh), sharding.batch_sharding(mesh)
  recipes = [language.parse(text) for text in config.eval.recipes]
  partners = any(recipe.swap_part for recipe in recipes)
  # Inpainted frames of partners depend on the data set; a recipe that shows them requires them.
  inpainted = any(recipe.inpaint_part for recipe in recipes)
  batch = batch_shapes(
    config,
    batch_size,
    mesh,
    partners=partners,
    inpainted=inpainted,
    partners_inpainted=inpainted,
  )
  inputs = {'key': abstract_key(replicated), 'batch': batch}
  prepare = [Program('prepare', evaluation_input, inputs, {'recipe': recipe}) for recipe in recipes]
  embeddings = (classes, model.spec.embed_dim)
  arguments = {
    'params': sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes),
    'video': jax.ShapeDtypeStruct(batch['frames'].shape, np.float32, sharding=split),
    'classes': jax.ShapeDtypeStruct(embeddings, np.float32, sharding=replicated),
  }
  score = scoring.jit_score(model, mesh, config.mesh.fsdp_min_bytes)
  return [*prepare, Program('score', score, arguments)]
