"""The defaults that every config starts from, and the checks that every config passes.

A config file's `get_config` takes `default_config()`, changes what its experiment is about and
returns it. The dictionary is locked, so that a misspelt key is an error and not a new setting.
"""

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from zsar_jax.data.geometry import INTERPOLATIONS, RESIZES
from zsar_jax.data.pipeline import CROPS, View
from zsar_jax.data.watchdog import CHOICES
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS
from zsar_jax.ops.prepare import Augmentation
from zsar_jax.recipes import language
from zsar_jax.runtime import agreement
from zsar_jax.runtime.config_tuples import check_tuples, read_class_names
from zsar_jax.runtime.paths import HUB, local_path
from zsar_jax.text.phrasing import PLACEHOLDERS

UNANNOTATED = ('nearest', 'leave', 'drop')
DTYPES = ('float32', 'bfloat16')
COSINES = ('warmup', 'start')
VIEW_MEANS = ('probabilities', 'logits')

# What may change between the sessions of one run: it has no part in what the run computes.
FREE_TO_CHANGE = (
  *('log', 'checkpoint', 'eval', 'mesh', 'profile'),
  *('data.dir', 'data.embedded', 'data.workers'),
  *('data.on_worker_failure', 'data.patience', 'data.max_bad_clips'),
)

# What makes a checkpoint mean something else when it is only evaluated.
MODEL_FIELDS = (
  'model.preset',
  'model.normalization',
  'model.temporal',
  'model.temporal_layers',
  'model.prompts.image',
  'model.prompts.text',
  'model.prompts.depth',
  'text.tokenizer',
  'view.num_frames',
  'view.size',
)

# What may hold a path; those of weights also take a name on the hub.
_PATHS = ('data.dir', 'text.tokenizer', 'stills.source', 'model.init_from', 'model.tokens_from')
_WEIGHTS = _PATHS[2:]

# Dictionaries whose keys the config file chooses.
_FREE_KEYS = ('config.eval.datasets', 'config.eval.groups')

_UNBOUNDED = 10**9

# The least and the greatest value of numbers that would otherwise fail late, or silently.
RANGES = {
  'seed': (0, 2**32 - 1),
  'steps': (1, _UNBOUNDED),
  'data.batch_size': (1, _UNBOUNDED),
  'data.workers': (0, 1024),
  'data.patience': (1, _UNBOUNDED),
  'data.max_bad_clips': (0, 1),
  'eval.batch_size': (1, _UNBOUNDED),
  'eval.every': (0, _UNBOUNDED),
  'eval.clips': (1, 1000),
  'eval.saliency': (0, _UNBOUNDED),
  'log.every': (1, _UNBOUNDED),
  'checkpoint.every': (1, _UNBOUNDED),
  'checkpoint.keep': (1, _UNBOUNDED),
  'model.temporal_layers': (1, 1024),
  'model.prompts.image': (0, 1024),
  'model.prompts.text': (0, 64),
  'model.prompts.depth': (1, 1024),
  'view.num_frames': (1, 4096),
  'view.size': (1, 8192),
  'view.crop_scale': (0.01, 1),
  'view.crop_ratio': (0.1, 10),
  'view.crop_side': (0, 1),
  'view.centre_crop': (0.01, 1),
  'augment.flip': (0, 1),
  'augment.jitter': (0, 1),
  'augment.brightness': (0, 1),
  'augment.contrast': (0, 1),
  'augment.saturation': (0, 1),
  'augment.hue': (0, 0.5),
  'augment.greyscale': (0, 1),
  'augment.mixup': (0, 100),
  'augment.cutmix': (0, 100),
  'augment.erasing': (0, 1),
  'augment.still_share': (0.001, 10**6),
  'stills.count': (1, _UNBOUNDED),
  'stills.share': (0.001, 1),
  'mesh.data': (-1, 10**6),
  'mesh.fsdp': (-1, 10**6),
  'mesh.tensor': (-1, 10**6),
  'mesh.fsdp_min_bytes': (0, 2**60),
  'optim.accumulation': (1, _UNBOUNDED),
  'optim.lr': (0, 10**3),
  'optim.final_lr': (0, 1),
  'optim.weight_decay': (0, 10**3),
  'optim.b1': (0, 1 - 1e-9),
  'optim.b2': (0, 1 - 1e-9),
  'optim.eps': (1e-20, 1),
  'optim.clip_norm': (0, _UNBOUNDED),
  'optim.warmup_steps': (0, _UNBOUNDED),
  'optim.label_smoothing': (0, 0.999),
  'optim.max_logit_scale': (1, 10**6),
  'optim.distillation': (0, 1000),
  'optim.confusion': (0, 1000),
  'optim.still_clip.static': (0, 1000),
  'optim.still_clip.entropy': (0, 1000),
  'optim.still_clip.gradient': (0, 1000),
  'optim.average_every': (0, _UNBOUNDED),
  'optim.average_from': (0, _UNBOUNDED),
  'eval.interpolate': (0, 1),
}


def default_config() -> ConfigDict:
  """The default of every setting."""
  config = ConfigDict()
  # Of the initial weights, the order of the clips, and all that is random in training.
  config.seed = 0

  config.data = ConfigDict()
  # The folder that zsar build-dataset wrote to (its --out).
  config.data.dir = 'data'
  # Builds the data set Pantomime in `dir` where it is absent.
  config.data.embedded = False
  # What to train on, see `dataset_ref`.
  config.data.train = dataset_ref('', split='train')
  config.data.batch_size = 64
  # Processes that decode clips; 0 decodes in threads of the training process.
  config.data.workers = 0
  # A process that dies, or gives no batch for `patience` seconds, is named, and the run ends
  # ('stop') or the processes are started anew ('restart').
  config.data.on_worker_failure = 'stop'
  config.data.patience = 600.0
  # Training clips that do not decode are replaced by others and listed in bad_clips.jsonl, up to
  # this share of them all; 0 ends the run at the first.
  config.data.max_bad_clips = 0.001

  # How a clip becomes frames: see data.pipeline.View.
  config.view = ConfigDict(dataclasses.asdict(View()))
  # Random changes in training: see ops.prepare.Augmentation.
  config.augment = ConfigDict(dataclasses.asdict(Augmentation()))
  # What happens to clips in training, above all what is painted over: see ops.recipes.
  config.recipe = 'none'
  # The frames that 'stillmix_bank' mixes in, see training.still_bank: `count` of them, out of
  # the `share` of all frames that the weights `source` ('': model.init_from) are surest of.
  config.stills = ConfigDict(dict(source='', count=1024, share=0.5))

  config.model = ConfigDict()
  config.model.preset = 'vit_b16'
  # Of the frames that it sees: one of models.presets.NORMALIZATIONS. Colors are painted in CLIP's.
  config.model.normalization = 'clip'
  # From frames to a video: one of models.presets.TEMPORAL, see VideoSpec there;
  # 'transformer' (6 layers as published) and 'xclip' (1) have so many layers over the frames.
  config.model.temporal = 'mean'
  config.model.temporal_layers = 6
  # Learnable tokens in the towers, in so many of their blocks: see models.prompts.
  config.model.prompts = ConfigDict(dict(image=0, text=0, depth=1))
  # How it is computed: see models.layers.Compute.
  config.model.dtype = 'float32'
  config.model.attention = 'xla'
  config.model.remat = 'none'
  # The weights to start from: a run of this project, a file or folder of any format that
  # zsar convert reads, or 'hf://OWNER/NAME'; '' starts from random weights.
  config.model.init_from = ''
  # Regexes of whole paths: parameters that `init_from` may lack, which then start from random
  # values, and keys in it that may be ignored.
  config.model.allow_missing = ()
  config.model.allow_left_over = ()
  # For files of ViFi-CLIP, which lack it: the CLIP weights to take the token embedding from.
  config.model.tokens_from = ''

  config.text = ConfigDict()
  # 'clip', 'words', or a folder with CLIP's tokenizer.json, or vocab.json and merges.txt.
  config.text.tokenizer = 'clip'
  # One is drawn at each training step; evaluation takes the mean of them all.
  config.text.templates = ('a video of a person {}.',)
  # Makes words of CamelCase and underscores: 'ApplyEyeMakeup' is 'Apply Eye Makeup'.
  config.text.split_words = True
  # '[something]' in a class text is the word ('keep') or nothing ('drop').
  config.text.placeholders = 'keep'

  config.optim = ConfigDict()
  config.optim.lr = 8e-6
  config.optim.warmup_steps = 100
  # Where the cosine after the warm-up begins: at the end of the warm-up ('warmup'), or at step 0
  # ('start', as in timm), so that the rate falls when the warm-up is over.
  config.optim.cosine_from = 'warmup'
  # The learning rate at the last step, as a share of `lr`, whatever the factors of `lr_rules`.
  config.optim.final_lr = 0.01
  config.optim.weight_decay = 0.001
  config.optim.b1 = 0.9
  config.optim.b2 = 0.98
  config.optim.eps = 1e-8
  # The largest global norm of the gradient; 0 does not clip.
  config.optim.clip_norm = 1.0
  config.optim.label_smoothing = 0.0
  # The logit scale is kept from growing beyond this; OpenAI's CLIP was trained so.
  config.optim.max_logit_scale = 100.0
  # The weight of FROSTER's distillation towards the weights that training began with; 0 has none.
  config.optim.distillation = 0.0
  # The weight of the loss that keeps clips without people from being told apart (SDN, Choi et
  # al., NeurIPS 2019), see `losses.confusion`; 0 has none.
  config.optim.confusion = 0.0
  # The weights of the losses on clips that stand still (ALBAR, Fioresi et al., ICLR 2025), see
  # `losses.static_losses`; published are 1, 4.25 and 10.
  config.optim.still_clip = ConfigDict(dict(static=0.0, entropy=0.0, gradient=0.0))
  # From step `average_from` on, every so many steps the weights join an average, which is what
  # is evaluated; 0 evaluates the weights as they are.
  config.optim.average_every = 0
  config.optim.average_from = 1
  # Micro-batches in a batch; the class texts are encoded once for all of them.
  config.optim.accumulation = 1
  # ((regex of whole paths, factor), ...), the first match counts: of the learning rate, where 0
  # freezes, and of the weight decay.
  config.optim.lr_rules = ()
  config.optim.decay_rules = ()

  config.steps = 1000

  # Devices along each axis; -1 takes those that remain. Arrays under `fsdp_min_bytes` stay whole.
  config.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1, fsdp_min_bytes=2**20))

  config.checkpoint = ConfigDict(dict(every=500, keep=2))
  # `tensorboard` writes event files as well (extra `tensorboard`).
  config.log = ConfigDict(dict(every=50, tensorboard=False))

  # The first and the last step of a trace in the workdir's folder 'profile', such as (10, 15),
  # see `profiling`; () traces nothing.
  config.profile = ConfigDict(dict(steps=()))

  config.eval = ConfigDict()
  # Evaluation after every so many steps; 0 evaluates after the last one only.
  config.eval.every = 0
  config.eval.batch_size = 64
  config.eval.recipes = ('none',)
  # The share of the weights that training began with, in what is evaluated (Open-VCLIP: 0.5).
  config.eval.interpolate = 0.0
  # {name: clips(...)}: each is evaluated under each recipe.
  config.eval.datasets = ConfigDict()
  # {name: (names of data sets, ...)}: mean and standard deviation over, say, three test splits.
  config.eval.groups = ConfigDict()
  # Whether classes that were seen in training may be evaluated; otherwise that is an error.
  config.eval.allow_seen_classes = False
  # Views of a clip: so many in time, each of `crops` (1 or 3) squares along the frame's long side;
  # see data.pipeline.Views.
  config.eval.clips = 1
  # What is averaged over the views: 'probabilities' of the classes (X-CLIP, ViFi-CLIP) or 'logits'
  # (Open-VCLIP, FROSTER).
  config.eval.view_mean = 'probabilities'
  # Of so many clips of each data set, which regions the model looks at: see evaluation.saliency.
  config.eval.saliency = 0
  config.eval.crops = 1

  config.lock()
  return config


def dataset_ref(
  dataset: str, split: str, classes: str | tuple[str, ...] = 'all', pairs: str = 'rand:0'
) -> ConfigDict:
  """A reference to clips, for `config.data.train` and `config.eval.datasets`.

  Args:
    dataset: a data set's folder below `config.data.dir`, such as 'ssv2'.
    split: such as 'train' or 'validation'.
    classes: 'all', the name of a class split of the data set, a file of class names such as
      'novel.txt' or 'splits/k600.json:1' (see `data.splits.read_classes`), or class names.
    pairs: whose background a clip gets where an evaluation swaps them: 'rand:SEED', 'same:SEED' or
      one of HAT's files, see `evaluation.hat_pairs`.
  """
  reference = ConfigDict(dict(dataset=dataset, split=split, pairs=pairs), type_safe=False)
  reference.classes = classes
  return reference


def validate(config: ConfigDict) -> None:
  """Checks everything that can be checked without data or devices.

  Two things are changed in the config itself: class names that the command line gave as text
  become tuples, see `read_class_names`, and a leading ~ of a path becomes the home folder.

  Raises:
    UserError: naming the field and the remedy.
  """
  if 'experiments' in config:
    raise UserError(
      '--config: this is the config of a study, not of one training; run it with zsar study'
    )
  _check_keys(config, default_config(), 'config')
  read_class_names(config.data.train, 'config.data.train')
  for name, reference in config.eval.datasets.items():
    _check_keys(reference, dataset_ref('', ''), f'config.eval.datasets.{name}')
    read_class_names(reference, f'config.eval.datasets.{name}')
  check_tuples(config)
  _check_groups(config.eval)
  for field in _PATHS:
    value = config_value(config, field)
    if not (field in _WEIGHTS and value.startswith(HUB)):
      set_value(config, field, local_path(value, f'config.{field}'))
  check_choice('config.view.interpolation', config.view.interpolation, INTERPOLATIONS)
  check_choice('config.view.resize', config.view.resize, RESIZES)
  check_choice('config.view.unannotated', config.view.unannotated, UNANNOTATED)
  check_choice('config.model.normalization', config.model.normalization, NORMALIZATIONS)
  check_choice('config.model.dtype', config.model.dtype, DTYPES)
  check_choice('config.optim.cosine_from', config.optim.cosine_from, COSINES)
  check_choice('config.text.placeholders', config.text.placeholders, PLACEHOLDERS)
  check_choice('config.data.on_worker_failure', config.data.on_worker_failure, CHOICES)
  check_choice('config.eval.view_mean', config.eval.view_mean, VIEW_MEANS)
  check_choice('config.eval.crops', config.eval.crops, CROPS)
  if config.view.resize == 'squash' and config.eval.crops > 1:
    raise UserError(
      'config.eval.crops: frames that config.view.resize squashes have one crop; set it to 1, or'
      " config.view.resize to 'shortest'"
    )
  for field, (low, high) in RANGES.items():
    for value in np.atleast_1d(config_value(config, field)):
      if not low <= value <= high:
        limits = (
          f'is less than {low}'
          if value < low and high == _UNBOUNDED
          else (f'does not lie between {low} and {high}')
        )
        raise UserError(f'config.{field}: {value} {limits}')
  steps = config.profile.steps
  if steps and not (len(steps) == 2 and 1 <= steps[0] <= steps[1] <= config.steps):
    raise UserError(
      f'config.profile.steps: {steps} are not the first and the last of {config.steps} steps; take'
      ' such as (10, 15), or ()'
    )
  language.parse(config.recipe, 'config.recipe')
  for text in config.eval.recipes:
    recipe = language.parse(text, 'config.eval.recipes')
    if any(effect.name != 'freeze' for effect in recipe.effects):
      raise UserError(
        f'config.eval.recipes: {text!r} is for training; of the effects freeze is not'
      )
  if not config.eval.recipes:
    raise UserError("config.eval.recipes: there is none; ('none',) evaluates unmasked clips")


def check_batch(field: str, batch_size: int, parts: int, accumulation: int = 1) -> None:
  """Raises a `UserError` where the mesh and the accumulation do not divide a batch."""
  if batch_size % (parts * accumulation):
    micro = f' times {accumulation} micro-batches' if accumulation > 1 else ''
    raise UserError(
      f'{field}: a batch of {batch_size} does not divide over {parts} devices{micro}; take a'
      f' multiple of {parts * accumulation}'
    )


def check_choice(field: str, value: Any, choices: Any) -> None:
  """Raises a `UserError` where a value is none of the choices."""
  if value not in choices:
    raise UserError(f'{field}: {value!r} is none of {", ".join(map(str, choices))}')


def config_value(config: ConfigDict, field: str) -> Any:
  """The value at a dotted path such as 'data.workers'."""
  for key in field.split('.'):
    config = config[key]
  return config


def set_value(config: ConfigDict, field: str, value: Any) -> None:
  """Sets the value at a dotted path such as 'data.workers'.

  Raises:
    UserError: where there is no such field, or it takes values of another kind.
  """
  section, _, name = field.rpartition('.')
  try:
    (config_value(config, section) if section else config)[name] = value
  except (KeyError, TypeError) as error:
    reason = str(error).strip('"\'').splitlines()[0]
    raise UserError(f'config.{field} cannot be {value!r}: {reason}') from None


def to_json(config: ConfigDict) -> str:
  """The resolved config as it is saved in the workdir."""
  return config.to_json_best_effort(indent=2)


def check_same_run(
  config: ConfigDict, saved: pathlib.Path, fields: Collection[str] | None = None
) -> None:
  """Raises a `UserError` where `config` does not go with the run whose config was saved.

  Args:
    config: the config of this start.
    saved: the workdir's config.json.
    fields: those that must be equal; None for all but `FREE_TO_CHANGE`.
  """
  try:
    # A field that the run did not have yet is what it is by default.
    before = _over(json.loads(to_json(default_config())), json.loads(saved.read_text()))
  except (OSError, ValueError) as error:
    raise UserError(
      f'{saved}: not readable as JSON ({error}); take another --workdir or restore the file'
    ) from None
  now = json.loads(to_json(config))
  for field, was, value in agreement.differences(before, now):
    free = any(field == one or field.startswith(f'{one}.') for one in FREE_TO_CHANGE)
    if field in fields if fields is not None else not free:
      raise UserError(
        f'{saved}: config.{field} was {was!r} when this run began and is {value!r} now, which'
        ' would make it another run; take another --workdir or set it back'
      )


def _over(default: Any, saved: Any) -> Any:
  """Nested dictionaries, with the values of `saved` wherever it has some."""
  if isinstance(default, dict) and isinstance(saved, dict):
    return default | {key: _over(default.get(key), value) for key, value in saved.items()}
  return saved


def _check_keys(config: Any, reference: ConfigDict, path: str) -> None:
  """Compares the keys of a config with those of the default."""
  if not isinstance(config, ConfigDict):
    raise UserError(f'{path}: {config!r} stands where a ConfigDict belongs')
  for key in config:
    if key not in reference:
      close = difflib.get_close_matches(key, list(reference), n=1)
      hint = f'; did you mean {close[0]!r}?' if close else f'; the keys are {", ".join(reference)}'
      raise UserError(f'{path}: no key {key!r}{hint}')
  for key, value in reference.items():
    if key not in config:
      raise UserError(f'{path}: the key {key!r} is missing; start from default_config()')
    if isinstance(value, ConfigDict) and f'{path}.{key}' not in _FREE_KEYS:
      _check_keys(config[key], value, f'{path}.{key}')


def _check_groups(evaluation: ConfigDict) -> None:
  for name, members in evaluation.groups.items():
    field = f'config.eval.groups.{name}'
    if name in evaluation.datasets:
      raise UserError(f'{field}: a data set of config.eval.datasets has that name; take another')
    for member in members:
      check_choice(field, member, tuple(evaluation.datasets))
    if len(members) < 2 or len(set(members)) < len(members):
      raise UserError(f'{field}: {tuple(members)} are not two or more different data sets')
