"""The wiring of an experiment: what a config, a mesh and the training classes determine.

A `Setup` holds no data and no arrays, only models, functions and shapes. So it also describes
programs for devices that are not there, see `performance.programs`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.shard_cache import cache_settings
from zsar_jax.data.subset import Subset, open_subset
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_model, build_teacher
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.text.classes import ClassTexts
from zsar_jax.training.optim import make_optimizer
from zsar_jax.weights.state import State, init_state


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
  """An experiment on a mesh, before any array exists.

  Attributes:
    config: a validated config.
    mesh: the devices, which may be abstract.
    classes: the names of the training classes.
    model: the model.
    teacher: the CLIP model that distillation stays close to; None without distillation.
    optimizer: for the trained part of the parameters.
    trained: a tree of bools, True where a parameter is trained.
    init_state: makes the first training state from parameters.
    state: the training state as ShapeDtypeStructs with shardings.
    recipe: the mask recipe of training.
  """

  config: ConfigDict
  mesh: Mesh
  classes: tuple[str, ...]
  model: VideoModel
  teacher: VideoModel | None
  optimizer: optax.GradientTransformation
  trained: Any
  init_state: Callable[[Params], State]
  state: State
  recipe: language.Recipe

  @classmethod
  def from_config(cls, config: ConfigDict, mesh: Mesh, classes: Sequence[str]) -> 'Setup':
    """Builds the models and the optimizer, and decides where the state lies on the mesh.

    Args:
      config: a validated config.
      mesh: the devices, which may be abstract.
      classes: the names of the training classes.

    Raises:
      UserError: if the batch does not divide over the mesh and the micro-batches, or the config
        describes no model or optimizer.
    """
    check_batch_size(config, mesh)
    model = build_model(config, mesh)
    optimizer, trained = make_optimizer(config.optim, model.abstract_params, config.steps)
    init = functools.partial(init_state, optimizer, trained, config.optim.average_every > 0)
    shapes = jax.eval_shape(init, model.abstract_params)
    return cls(
      config=config,
      mesh=mesh,
      classes=tuple(classes),
      model=model,
      teacher=build_teacher(config, mesh) if config.optim.distillation else None,
      optimizer=optimizer,
      trained=trained,
      init_state=init,
      state=sharding.sharded_shapes(shapes, mesh, config.mesh.fsdp_min_bytes),
      recipe=language.parse(config.recipe, 'config.recipe'),
    )

  @property
  def state_shardings(self) -> State:
    """The shardings of `state`."""
    return jax.tree.map(lambda leaf: leaf.sharding, self.state)

  @property
  def replicated(self) -> NamedSharding:
    """The sharding of arrays that every device holds whole."""
    return sharding.replicated(self.mesh)

  @property
  def texts_frozen(self) -> bool:
    """Whether the text tower is frozen, so that the class embeddings never change."""
    return texts_frozen(self.trained)

  @functools.cached_property
  def class_texts(self) -> ClassTexts:
    """Turns class texts into the model's tokens. Reads the tokenizer's files on first use."""
    return ClassTexts.from_config(self.config, self.model)

  def tokens(self, texts: Sequence[str], model: VideoModel | None = None) -> np.ndarray:
    """Returns the tokens i32[P, C', L] of class texts, padded to divide over the mesh.

    Args:
      texts: C class texts.
      model: the model that they are for, such as `teacher`, which has no learned prompts; None for
        the trained model.
    """
    class_texts = ClassTexts.from_config(self.config, model) if model else self.class_texts
    return class_texts.tokens(texts, sharding.num_batch_shards(self.mesh))


def texts_frozen(trained: Any) -> bool:
  """Returns whether no parameter of the text tower is trained.

  Args:
    trained: a tree of bools like the parameters.
  """
  return not any(jax.tree.leaves(trained['text']))


def check_batch_size(config: ConfigDict, mesh: Mesh) -> None:
  """Raises a `UserError` if the training batch does not divide over mesh and micro-batches."""
  config_lib.check_batch(
    'config.data.batch_size',
    config.data.batch_size,
    sharding.num_batch_shards(mesh),
    config.optim.accumulation,
  )


def check_pairing(config: ConfigDict) -> None:
  """Raises a `UserError` if clips are mixed in pairs and micro-batches have an odd size."""
  pairing = (
    config.augment.mixup
    or config.augment.cutmix
    or language.parse(config.recipe, 'config.recipe').needs_partner
  )
  if pairing and config.data.batch_size // config.optim.accumulation % 2:
    raise UserError(
      'config.data.batch_size: mixup, CutMix and recipes in which a clip meets another need'
      ' micro-batches of an even number of clips'
    )


def open_training_subset(config: ConfigDict) -> Subset:
  """Opens the clips of `config.data.train`.

  Raises:
    UserError: if there is no such data set, or its clips lack what the training recipe or a loss
      needs.
  """
  reference = config.data.train
  if not reference.dataset:
    raise UserError('config.data.train.dataset names no data set; set it, or use --mode=eval')
  cache = cache_settings(config.data)
  subset = open_subset(
    config.data.dir, reference, config.view.unannotated, 'config.data.train', cache
  )
  if subset.open_world:
    raise UserError(
      "config.data.train.classes: the open world is scored in evaluations only; take 'seen', the"
      ' pairs of the training'
    )
  subset.check_recipe(language.parse(config.recipe), 'config.recipe')
  if config.optim.confusion and 'person' not in subset.region_names:
    raise UserError(
      f'config.optim.confusion: {subset.dataset.name} is not annotated with people, whom this loss'
      ' paints over; set it to 0, or add the masks'
    )
  return subset
