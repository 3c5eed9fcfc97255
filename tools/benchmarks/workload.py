"""What the benchmarks of models do: sizes, clips, class texts and weights, made here."""

import argparse
import dataclasses
import itertools
import os
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.errors import UserError
from zsar_jax.models.layers import ATTENTIONS, REMATS
from zsar_jax.models.presets import PRESETS, TowerSpec
from zsar_jax.recipes.regions import OBJECT, PERSON
from zsar_jax.text.classes import ClassTexts
from zsar_jax.text.tokenizers import make_tokenizer

# Two to seven words, as the classes of Kinetics-400 have.
_DOINGS = (
  *('throwing', 'catching', 'washing', 'carrying', 'playing with', 'jumping over', 'picking up'),
  *('painting', 'pushing', 'pulling', 'sitting on', 'looking at', 'walking with', 'cleaning'),
  *('building', 'repairing', 'holding', 'kicking', 'riding', 'putting down'),
)
_THINGS = (
  *('a ball', 'a bike', 'hair', 'dishes', 'a dog', 'the guitar', 'a car', 'clothes', 'a tree'),
  *('shoes', 'a chair', 'the floor', 'a rope', 'paper', 'a baby', 'snow', 'a horse', 'bread'),
  *('someone in a game', 'a box on the table'),
)
_TEMPLATE = 'a video of a person {}.'

# What is painted in training, and what clips are evaluated under.
MASKS = 'background=normal,object=normal'
RECIPES = ('none', 'background=mean', 'person=black')


@dataclasses.dataclass(frozen=True)
class Workload:
  """Sizes, the same for both sides.

  Attributes:
    preset: of the model.
    frames: T, of a clip.
    batch: B, clips in an optimizer step.
    micro_batches: into which the batch is split.
    classes: C.
    templates: P.
    precision: 'float32' or 'bfloat16'; PyTorch's is AMP then.
    attention: ours, one of `layers.ATTENTIONS`; the peer's is what transformers chooses.
    remat: ours, one of `layers.REMATS`; the peer computes nothing again.
    cores: processor cores for either side.
    weights: the folder of the weights in Hugging Face's format; '' before they are made.
  """

  preset: str
  frames: int
  batch: int
  micro_batches: int
  classes: int
  templates: int
  precision: str
  attention: str
  remat: str
  cores: tuple[int, ...]
  weights: str = ''

  @property
  def spec(self) -> TowerSpec:
    """The dimensions of the towers."""
    return PRESETS[self.preset]

  def settings(self, repeats: int) -> dict[str, Any]:
    """What a line says of the work."""
    fields = dataclasses.asdict(self)
    del fields['weights'], fields['cores']
    return fields | {
      'threads': len(self.cores),
      'repeats': repeats,
      'measured': 'median of the repeats, the loops in turn after one turn each to warm up',
    }


def add_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
  """Adds the flags of `Workload`."""
  usual = dict(frames=8, batch=8, micro_batches=2, classes=400, templates=1, repeats=3)
  help_of = dict(
    frames='of a clip',
    batch='clips in a batch',
    micro_batches='in a batch',
    classes='whose texts are encoded',
    templates='that each class text is written into',
    repeats='of each loop',
  )
  parser.add_argument('--preset', default='vit_b32', choices=PRESETS)
  parser.add_argument('--precision', default='float32', choices=config_lib.DTYPES)
  parser.add_argument('--attention', default='xla', choices=ATTENTIONS, help='ours')
  parser.add_argument('--remat', default='none', choices=REMATS, help='ours')
  for name, default in (usual | defaults).items():
    flag = f'--{name.replace("_", "-")}'
    text = f'{help_of[name]} (default: {default})'
    parser.add_argument(flag, type=int, default=default, help=text)


def from_flags(arguments: argparse.Namespace) -> Workload:
  """The work that flags ask for.

  Raises:
    UserError: for sizes that there is no such work for.
  """
  sizes = {
    name: getattr(arguments, name)
    for name in ('frames', 'batch', 'micro_batches', 'classes', 'templates')
  }
  for name, value in {**sizes, 'repeats': arguments.repeats}.items():
    if value < 1:
      raise UserError(f'--{name.replace("_", "-")}: {value} is too small; at least 1')
  if sizes['batch'] % sizes['micro_batches']:
    raise UserError(
      f'--batch: {sizes["batch"]} clips do not divide into {sizes["micro_batches"]} micro-batches;'
      ' take a multiple'
    )
  if sizes['classes'] > len(_DOINGS) * len(_THINGS):
    raise UserError(f'--classes: at most {len(_DOINGS) * len(_THINGS)} have texts')
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
  """i32[P, C, L]: of the class texts, L those of the longest."""
  names = [f'{doing} {thing}' for doing, thing in itertools.product(_DOINGS, _THINGS)]
  # Every so many, so that the longest are among them.
  names = [names[-1 - n * len(names) // work.classes] for n in range(work.classes)]
  spec = work.spec
  tokenizer = make_tokenizer('words', spec.vocab_size, spec.context_length)
  more = [f'{_TEMPLATE[:-1]}, number {n}.' for n in range(1, work.templates)]
  return ClassTexts(tokenizer, (_TEMPLATE, *more), False, 'keep').tokens(names, 1)


def clips(work: Workload) -> dict[str, np.ndarray]:
  """A batch as the input pipeline makes it: noise, with a person and an object in each frame."""
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
  """The trainer's config: ViFi-CLIP's optimizer (arXiv 2212.03640), no augmentation."""
  made = config_lib.default_config()
  made.view.num_frames = work.frames
  made.view.size = work.spec.resolution
  made.model.preset = work.preset
  made.model.dtype = work.precision
  made.model.attention = work.attention
  made.model.remat = work.remat
  made.data.batch_size = work.batch
  made.optim.accumulation = work.micro_batches
  made.optim.clip_norm = 0.0
  made.recipe = recipe
  return made
