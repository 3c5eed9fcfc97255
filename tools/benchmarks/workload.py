"""The work of the benchmarks of models: sizes, synthetic clips, class texts and the config."""

import argparse
import dataclasses
import itertools
import os
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.errors import UserError
from zsar_jax.models.compute import ATTENTIONS, DTYPES, REMATS
from zsar_jax.models.presets import PRESETS, TowerSpec
from zsar_jax.recipes.regions import OBJECT, PERSON
from zsar_jax.text.classes import ClassTexts
from zsar_jax.text.tokenizers import make_tokenizer

# Class names of two to seven words, as in Kinetics-400.
_VERBS = (
  *('throwing', 'catching', 'washing', 'carrying', 'playing with', 'jumping over', 'picking up'),
  *('painting', 'pushing', 'pulling', 'sitting on', 'looking at', 'walking with', 'cleaning'),
  *('building', 'repairing', 'holding', 'kicking', 'riding', 'putting down'),
)
_OBJECTS = (
  *('a ball', 'a bike', 'hair', 'dishes', 'a dog', 'the guitar', 'a car', 'clothes', 'a tree'),
  *('shoes', 'a chair', 'the floor', 'a rope', 'paper', 'a baby', 'snow', 'a horse', 'bread'),
  *('someone in a game', 'a box on the table'),
)
_TEMPLATE = 'a video of a person {}.'

# The recipe of training steps with masks, and the recipes of evaluations.
MASKS = 'background=normal,object=normal'
RECIPES = ('none', 'background=mean', 'person=black', 'object=black', 'background=black')


@dataclasses.dataclass(frozen=True)
class Workload:
  """Sizes, the same for both sides.

  Attributes:
    preset: the preset of the model.
    frames: T, the frames of a clip.
    batch: B, the clips of an optimizer step.
    micro_batches: into which the batch is split.
    classes: C.
    templates: P.
    num_recipes: the number of recipes of an evaluation.
    precision: one of `compute.DTYPES`; for bfloat16 PyTorch uses AMP.
    attention: ours, one of `compute.ATTENTIONS`; for the peer transformers chooses.
    remat: ours, one of `compute.REMATS`; the peer recomputes nothing.
    cores: processor cores of either side.
    weights: the folder of the weights in Hugging Face's format; '' before they are written.
  """

  preset: str
  frames: int
  batch: int
  micro_batches: int
  classes: int
  templates: int
  num_recipes: int
  precision: str
  attention: str
  remat: str
  cores: tuple[int, ...]
  weights: str = ''

  @property
  def spec(self) -> TowerSpec:
    """The dimensions of the towers."""
    return PRESETS[self.preset]

  @property
  def recipes(self) -> tuple[str, ...]:
    """The recipes of an evaluation."""
    return RECIPES[: self.num_recipes]

  def settings(self, repeats: int) -> dict[str, Any]:
    """Returns the fields of a line that describe the work."""
    fields = dataclasses.asdict(self)
    del fields['weights'], fields['cores']
    return fields | {
      'threads': len(self.cores),
      'repeats': repeats,
      'measured': 'median of the repeats, the loops in turn after one turn each to warm up',
    }


def add_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
  """Adds the flags of `Workload`."""
  common = dict(
    frames=8, batch=8, micro_batches=2, classes=400, templates=1, num_recipes=3, repeats=3
  )
  help_of = dict(
    frames='frames of a clip',
    batch='clips in a batch',
    micro_batches='micro-batches in a batch',
    classes='classes whose texts are encoded',
    templates='templates of the class texts',
    num_recipes=f'recipes of an evaluation, at most {len(RECIPES)}',
    repeats='repeats of each loop',
  )
  parser.add_argument('--preset', default='vit_b32', choices=PRESETS)
  parser.add_argument('--precision', default='float32', choices=DTYPES)
  parser.add_argument('--attention', default='auto', choices=ATTENTIONS, help='ours')
  parser.add_argument('--remat', default='none', choices=REMATS, help='ours')
  for name, default in (common | defaults).items():
    flag = f'--{name.replace("_", "-")}'
    text = f'{help_of[name]} (default: {default})'
    parser.add_argument(flag, type=int, default=default, help=text)


def from_flags(arguments: argparse.Namespace) -> Workload:
  """Returns the work that the flags describe.

  Raises:
    UserError: for sizes that are too small, too large or do not divide.
  """
  sizes = {
    name: getattr(arguments, name)
    for name in ('frames', 'batch', 'micro_batches', 'classes', 'templates', 'num_recipes')
  }
  for name, value in {**sizes, 'repeats': arguments.repeats}.items():
    if value < 1:
      raise UserError(f'--{name.replace("_", "-")}: {value} is too small; at least 1')
  if sizes['batch'] % sizes['micro_batches']:
    raise UserError(
      f'--batch: {sizes["batch"]} clips do not divide into {sizes["micro_batches"]} micro-batches;'
      ' take a multiple'
    )
  if sizes['classes'] > len(_VERBS) * len(_OBJECTS):
    raise UserError(f'--classes: at most {len(_VERBS) * len(_OBJECTS)} have texts')
  if sizes['num_recipes'] > len(RECIPES):
    raise UserError(f'--num-recipes: there are {len(RECIPES)}')
  cores = tuple(sorted(os.sched_getaffinity(0)))
  return Workload(
    arguments.preset,
    **sizes,
    precision=arguments.precision,
    attention=arguments.attention,
    remat=arguments.remat,
    cores=cores,
  )


def tokens(work: Workload) -> np.ndarray:
  """Returns the tokens i32[P, C, L] of the class texts; L is the length of the longest."""
  names = [f'{verb} {object_}' for verb, object_ in itertools.product(_VERBS, _OBJECTS)]
  # Evenly spaced from the end, so that long names are among them.
  names = [names[-1 - n * len(names) // work.classes] for n in range(work.classes)]
  spec = work.spec
  tokenizer = make_tokenizer('words', spec.vocab_size, spec.context_length)
  more = [f'{_TEMPLATE[:-1]}, number {n}.' for n in range(1, work.templates)]
  return ClassTexts(tokenizer, (_TEMPLATE, *more), False, 'keep').tokens(names, 1)


def clips(work: Workload) -> dict[str, np.ndarray]:
  """Returns a batch like the input pipeline's: noise, a person and an object in each frame."""
  rng = np.random.default_rng(0)
  size = work.spec.resolution
  shape = (work.batch, work.frames, size, size)
  regions = np.zeros(shape, np.uint8)
  regions[:, :, size // 4 :, size // 3 : 2 * size // 3] |= PERSON
  regions[:, :, size // 2 : 3 * size // 4, size // 2 :] |= OBJECT
  return {
    'frames': rng.integers(0, 256, (*shape, 3), np.uint8),
    'regions': regions,
    'annotated': np.ones(shape[:2], bool),
    'label': (np.arange(work.batch) % work.classes).astype(np.int32),
    'seed': np.arange(work.batch, dtype=np.uint32),
  }


def config(work: Workload, recipe: str = 'none') -> ConfigDict:
  """Returns a trainer's config: ViFi-CLIP's optimizer (arXiv 2212.03640), no augmentation."""
  result = config_lib.default_config()
  result.view.num_frames = work.frames
  result.view.size = work.spec.resolution
  result.model.preset = work.preset
  result.model.dtype = work.precision
  result.model.attention = work.attention
  result.model.remat = work.remat
  result.data.batch_size = work.batch
  result.optim.accumulation = work.micro_batches
  result.optim.clip_norm = 0.0
  result.recipe = recipe
  return result
