"""The data sets of an evaluation: their clips, the pairs of clips, and their batches."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.pipeline import BatchIterator, evaluation_batches
from zsar_jax.data.shard_cache import cache_settings
from zsar_jax.data.splits import intersection
from zsar_jax.data.subset import Subset, data_identity, open_subset
from zsar_jax.data.view import EvaluationViews, View
from zsar_jax.data.watchdog import WorkerPolicy
from zsar_jax.errors import UserError
from zsar_jax.evaluation.background_pairs import choose_partners
from zsar_jax.evaluation.multiple_choice import check_choices
from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.recipes.language import Recipe
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime import agreement, sharding
from zsar_jax.runtime.progress import log


@dataclasses.dataclass(frozen=True)
class EvalSet:
  """A data set to evaluate.

  Attributes:
    name: the name of the data set in the config.
    subset: the N clips to evaluate.
    recipes: the mask recipes to evaluate them under.
    partners: i32[N], for each clip the position of the clip that provides its background, or -1 for
      none; None if no recipe swaps backgrounds.
    choices: `config.eval.choices`.
  """

  name: str
  subset: Subset
  recipes: tuple[Recipe, ...]
  partners: np.ndarray | None
  choices: int = 0

  @classmethod
  def open(
    cls, config: ConfigDict, name: str, recipes: Sequence[Recipe], seen: Collection[str]
  ) -> 'EvalSet':
    """Opens one of `config.eval.datasets`, and checks its classes and masks.

    Args:
      config: a validated config.
      name: the name of the data set in the config.
      recipes: those of `config.eval.recipes`.
      seen: the classes on which the model was or will be trained.

    Raises:
      UserError: the data set, a class or a pair is invalid, a recipe needs regions that it does
        not have, or classes were seen and `config.eval.allow_seen_classes` is False.
    """
    reference = config.eval.datasets[name]
    field = f'config.eval.datasets.{name}'
    cache = cache_settings(config.data)
    subset = open_subset(config.data.dir, reference, config.view.unannotated, field, cache)
    views = len(EvaluationViews(config.eval.clips, config.eval.crops))
    if subset.open_world and views > 1:
      raise UserError(
        f'{field}.classes: the open world is scored for one view of a clip, and config.eval.clips'
        f" and crops give {views}; set both to 1, or the classes to 'all'"
      )
    check_unseen(subset.classes, seen, config.eval.allow_seen_classes, field)
    for recipe in recipes:
      subset.check_recipe(recipe, f'config.eval.recipes, {name}')
    partners = None
    if any(recipe.swap_part for recipe in recipes):
      partners = choose_partners(subset, reference.pairs, f'{field}.pairs')
      if subset.dataset.has_inpainted:
        log(f'{field}: swapped backgrounds are the inpainted frames of {subset.dataset.name}')
    if config.eval.choices:
      check_choices(config.eval.choices, len(subset.classes), 'config.eval.choices', name)
    return cls(name, subset, tuple(recipes), partners, config.eval.choices)

  @property
  def texts(self) -> Sequence[str]:
    """The texts to score: those of the classes or, in the open world, of all pairs."""
    if self.subset.open_world and self.subset.pairs:
      return self.subset.pairs.open_texts()
    return self.subset.texts

  @property
  def columns(self) -> np.ndarray | None:
    """i32[C], the position of each class in the open world's `texts`; None in other data sets."""
    if self.subset.open_world and self.subset.pairs:
      return self.subset.pairs.numbers
    return None

  def identity(self) -> dict[str, str]:
    """Returns checksums of the clips and the pairs, by config field."""
    field = f'config.eval.datasets.{self.name}'
    return {
      field: data_identity(self.subset),
      f'{field}.pairs': agreement.tree_checksum(self.partners),
    }

  def batches(self, config: ConfigDict, mesh: Mesh, first_batch: int = 0) -> BatchIterator:
    """Returns this process's share of the batches of all views; the caller closes the iterator.

    Args:
      config: the config that the data set was opened with.
      mesh: the devices.
      first_batch: the number of batches to skip.
    """
    own = any(recipe.inpaint_part for recipe in self.recipes)
    return evaluation_batches(
      ClipLoader(self.subset, View.from_config(config), inpainted=own),
      config.eval.batch_size,
      config.data.workers,
      EvaluationViews(config.eval.clips, config.eval.crops),
      self.partners,
      sharding.process_batch_shard(mesh),
      WorkerPolicy(config.data.patience, config.data.on_worker_failure),
      partners_inpainted=self.subset.dataset.has_inpainted,
      first_batch=first_batch,
    )

  def blank(self) -> Predictions:
    """Returns predictions whose logits mean nothing."""
    shape = len(self.subset), len(self.subset.classes)
    return self.predictions({str(recipe): np.zeros(shape, np.float32) for recipe in self.recipes})

  def predictions(
    self,
    logits: Mapping[str, np.ndarray],
    gradient_shares: np.ndarray | None = None,
    area_shares: np.ndarray | None = None,
    open_world: dict[str, np.ndarray] | None = None,
  ) -> Predictions:
    """Returns the predictions of an evaluation in the order of the subset.

    Args:
      logits: f32[N, C] by recipe; those of clips that do not count under a recipe become NaN.
      gradient_shares: f32[N, 3], the saliency; None if it was not computed.
      area_shares: f32[N, 3], likewise.
      open_world: i32[N] by recipe, see `PairPredictions`; None if it was not scored.
    """
    subset, partners = self.subset, self.partners
    if partners is None:
      partners = np.full(len(subset), -1, np.int32)
    unknown = np.full((len(subset), len(PARTS)), np.nan, np.float32)
    ids = tuple(subset.clip_id(position) for position in range(len(subset)))
    predictions = Predictions(
      dataset=self.name,
      recipes=tuple(logits),
      classes=subset.classes,
      ids=ids,
      labels=subset.labels,
      logits=dict(logits),
      regions=tuple(REGION_BITS),
      coverage=subset.index.coverage,
      attributes=tuple(map(json.loads, subset.index.attributes)),
      partners=tuple(ids[position] if position >= 0 else '' for position in partners),
      partner_labels=np.where(partners >= 0, subset.labels[partners], -1).astype(np.int32),
      saliency=unknown if gradient_shares is None else gradient_shares,
      saliency_area=unknown if area_shares is None else area_shares,
      inpainted_scenes=subset.dataset.has_inpainted,
      pairs=PairPredictions(subset.pairs, open_world) if subset.pairs else None,
      choices=self.choices,
    )
    for recipe, recipe_logits in predictions.logits.items():
      recipe_logits[~predictions.counted(recipe)] = np.nan
      if open_world:
        open_world[recipe][~predictions.counted(recipe)] = -1
    return predictions


def check_unseen(classes: Sequence[str], seen: Collection[str], allowed: bool, field: str) -> None:
  """Raises a `UserError` if classes were seen in training, or logs them if they are allowed.

  Args:
    classes: the classes to evaluate.
    seen: the classes of the training, compared by `splits.intersection`.
    allowed: `config.eval.allow_seen_classes`.
    field: the config field that the classes come from, for errors.

  Raises:
    UserError: classes were seen in training and are not allowed.
  """
  common = intersection(classes, seen)
  if not common:
    return
  names = ', '.join(map(repr, common[:3])) + (', ...' if len(common) > 3 else '')
  overlap = f'{len(common)} of {len(classes)} classes were seen in training ({names})'
  if not allowed:
    raise UserError(
      f'{field}: {overlap}, so this would not be zero-shot; choose another class split'
      ' (zsar split makes one), or set --config.eval.allow_seen_classes=True'
    )
  log(f'{field}: {overlap}')
