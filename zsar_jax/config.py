"""Every setting of a training or an evaluation: its default, its meaning and its limits.

The `get_config` of a config file takes `default_config()`, changes what its experiment needs and
returns it. The dictionary is locked, so a misspelled key is an error and not a new setting.
`validate` checks a config before anything is done with it.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.data.view import EvaluationViews, View
from zsar_jax.data.watchdog import FAILURE_ACTIONS
from zsar_jax.errors import UserError
from zsar_jax.models.compute import ATTENTIONS, DTYPES, REMATS
from zsar_jax.models.from_config import AUTO
from zsar_jax.models.presets import NORMALIZATIONS, ORDERED_HEADS, PRESETS, TEMPORAL_MODELS
from zsar_jax.ops.prepare import Augmentation
from zsar_jax.recipes import language
from zsar_jax.runtime import settings
from zsar_jax.runtime.settings import UNBOUNDED, check_choice, get_value, set_value
from zsar_jax.storage.buckets import is_url
from zsar_jax.storage.paths import HUB_PREFIX, local_path, path_text
from zsar_jax.text.phrasing import PLACEHOLDERS

# Settings that may hold a path. Those of weights may also hold a name on the Hugging Face hub.
_WEIGHT_FIELDS = ('stills.source', 'model.init_from', 'model.tokens_from')
_PATH_FIELDS = ('data.dir', 'text.tokenizer', *_WEIGHT_FIELDS)

# Sections whose keys the config file chooses.
_OPEN_SECTIONS = ('config.eval.datasets', 'config.eval.groups')

# The least and the greatest value of numbers.
RANGES = {
  'seed': (0, 2**32 - 1),
  'steps': (1, UNBOUNDED),
  'data.batch_size': (1, UNBOUNDED),
  'data.cache_gib': (0.25, UNBOUNDED),
  'data.workers': (0, 1024),
  'data.patience': (1, UNBOUNDED),
  'data.max_bad_clips': (0, 1),
  **settings.ranges_of('view', View),
  **settings.ranges_of('augment', Augmentation),
  'stills.count': (1, UNBOUNDED),
  'stills.share': (0.001, 1),
  'model.temporal_layers': (1, 1024),
  'model.prompts.image': (0, 1024),
  'model.prompts.text': (0, 64),
  'model.prompts.depth': (1, 1024),
  'optim.lr': (0, 10**3),
  'optim.warmup_steps': (0, UNBOUNDED),
  'optim.final_lr': (0, 1),
  'optim.weight_decay': (0, 10**3),
  'optim.b1': (0, 1 - 1e-9),
  'optim.b2': (0, 1 - 1e-9),
  'optim.eps': (1e-20, 1),
  'optim.clip_norm': (0, UNBOUNDED),
  'optim.label_smoothing': (0, 0.999),
  'optim.max_logit_scale': (1, 10**6),
  'optim.distillation': (0, 1000),
  'optim.confusion': (0, 1000),
  'optim.still_clip.static': (0, 1000),
  'optim.still_clip.entropy': (0, 1000),
  'optim.still_clip.gradient': (0, 1000),
  'optim.torc': (0, 1000),
  'optim.torc_ramp': (0, UNBOUNDED),
  'optim.average_every': (0, UNBOUNDED),
  'optim.average_from': (0, UNBOUNDED),
  'optim.accumulation': (1, UNBOUNDED),
  'mesh.data': (-1, 10**6),
  'mesh.fsdp': (-1, 10**6),
  'mesh.tensor': (-1, 10**6),
  'mesh.fsdp_min_bytes': (0, 2**60),
  'checkpoint.every': (1, UNBOUNDED),
  'checkpoint.keep': (1, UNBOUNDED),
  'log.every': (1, UNBOUNDED),
  'eval.every': (0, UNBOUNDED),
  'eval.batch_size': (1, UNBOUNDED),
  'eval.interpolate': (0, 1),
  'eval.choices': (0, UNBOUNDED),
  'eval.saliency': (0, UNBOUNDED),
  **settings.ranges_of('eval', EvaluationViews),
}

# The values of settings that are a choice.
CHOICES = {
  'data.on_worker_failure': FAILURE_ACTIONS,
  **settings.choices_of('view', View),
  'model.preset': (AUTO, *PRESETS),
  'model.normalization': NORMALIZATIONS,
  'model.temporal': TEMPORAL_MODELS,
  'model.dtype': DTYPES,
  'model.attention': ATTENTIONS,
  'model.remat': REMATS,
  'text.placeholders': PLACEHOLDERS,
  'optim.loss': ('softmax', 'sigmoid'),
  'optim.cosine_from': ('warmup', 'start'),
  'eval.view_mean': ('probabilities', 'logits'),
  **settings.choices_of('eval', EvaluationViews),
}

# Settings that hold several texts, each with an example for the error message.
_TEXTS = {
  'text.templates': "('a video of a person {}.',)",
  'eval.recipes': "('none', 'background=normal')",
  'model.allow_missing': "('temporal/.*',)",
  'model.allow_left_over': "('temporal/.*',)",
}
_RULES = ('optim.lr_rules', 'optim.decay_rules')
_INTERVALS = ('view.crop_scale', 'view.crop_ratio', 'view.crop_side', 'optim.torc_ramp')


def default_config() -> ConfigDict:
  """Returns the config in which every setting has its default."""
  config = ConfigDict()
  # Seed of the initial weights, the order of the clips, and everything random in training.
  config.seed = 0

  config.data = ConfigDict()
  # The folder that `zsar build-dataset` wrote to (its --out), on a disk or in a bucket.
  config.data.dir = 'data'
  # A folder on the disk of each host that keeps what is read of data in a bucket, and the most that
  # it may hold, in GiB: see data.shard_cache. With '', each epoch reads the bucket.
  config.data.cache = ''
  config.data.cache_gib = 200.0
  # Builds the data set Pantomime in `dir` if it is not there.
  config.data.embedded = False
  # The clips to train on, see `dataset_ref`.
  config.data.train = dataset_ref('', split='train')
  # Clips in a batch, over all devices and micro-batches.
  config.data.batch_size = 64
  # Processes that decode clips; with 0, threads of the training process decode them.
  config.data.workers = 0
  # What to do when a worker process dies or gives no batch for `patience` seconds: end the run with
  # an error that names it ('stop'), or start the processes anew ('restart').
  config.data.on_worker_failure = 'stop'
  config.data.patience = 600.0
  # The share of training clips that may fail to decode. They are replaced by other clips and listed
  # in bad_clips.jsonl. Beyond this share the run ends; with 0 it ends at the first bad clip.
  config.data.max_bad_clips = 0.001

  # How a clip becomes frames: see data.view.View.
  config.view = ConfigDict(dataclasses.asdict(View()))
  # Random changes of training clips: see ops.prepare.Augmentation.
  config.augment = ConfigDict(dataclasses.asdict(Augmentation()))
  # The mask recipe of training clips: see recipes.language.
  config.recipe = 'none'
  # The frames that the effect 'stillmix_bank' mixes in, see training.still_bank: `count` frames,
  # drawn from the `share` of all frames that the weights `source` classify with the highest
  # confidence. With '' as source, these are the weights of model.init_from.
  config.stills = ConfigDict(dict(source='', count=1024, share=0.5))

  config.model = ConfigDict()
  # The dimensions of the towers, see models.presets.PRESETS. With 'auto', an evaluation takes the
  # model, its tokenizer, and the size, number, resizing and normalization of frames from the
  # weights; `view.num_frames` counts if they work with any number.
  config.model.preset = 'vit_b16'
  # The normalization of frames that the model was trained with, one of
  # models.presets.NORMALIZATIONS. Colors of mask recipes are always in CLIP's normalized space.
  config.model.normalization = 'clip'
  # How frames are combined: 'mean', 'transformer', 'window', 'xclip', 'joint' or 'videoprism', see
  # models.presets.VideoSpec. 'transformer' and 'xclip' have `temporal_layers` layers over the
  # frames; as published, these are 6 and 1.
  config.model.temporal = 'mean'
  config.model.temporal_layers = 6
  # The number of learnable tokens in each tower, and of the blocks that get their own: see
  # models.learned_prompts.
  config.model.prompts = ConfigDict(dict(image=0, text=0, depth=1))
  # How the model is computed: see models.compute.
  config.model.dtype = 'float32'
  config.model.attention = 'auto'
  config.model.remat = 'none'
  config.model.deterministic = False
  # The weights to start from: the workdir of a run, a file or folder of any format that
  # `zsar convert` reads, or 'hf://OWNER/NAME'. With '', training starts from random weights. An
  # evaluation also takes a folder that `zsar score-predictions` wrote.
  config.model.init_from = ''
  # Regexes that match full paths: parameters that `init_from` may lack, which then start from
  # random values, and keys of `init_from` that may be ignored.
  config.model.allow_missing = ()
  config.model.allow_left_over = ()
  # 'MODULE:FUNCTION' evaluates somebody's model instead: the function returns it, see
  # evaluation.external_model. `config.model` says nothing else about it.
  config.model.external = ''
  # The CLIP weights that give the token embedding to weights of ViFi-CLIP, which lack it.
  config.model.tokens_from = ''

  config.text = ConfigDict()
  # 'clip', 'words', or a folder with the model's tokenizer.json, with vocab.json and merges.txt, or
  # with spiece.model.
  config.text.tokenizer = 'clip'
  # Sentences around the class name. A training step draws one; evaluation averages over all. With
  # the preset 'auto', () takes those of the weights.
  config.text.templates = ('a video of a person {}.',)
  # Splits CamelCase and underscores into words: 'ApplyEyeMakeup' becomes 'Apply Eye Makeup'.
  config.text.split_words = True
  # '[something]' in a class text becomes the word ('keep') or nothing ('drop').
  config.text.placeholders = 'keep'

  config.optim = ConfigDict()
  # The loss of the classes: the cross-entropy of their 'softmax', or for models with a bias of the
  # logits the 'sigmoid' loss of SigLIP, see `losses.sigmoid_loss`.
  config.optim.loss = 'softmax'
  # AdamW's learning rate after the warm-up, and the steps of the linear warm-up.
  config.optim.lr = 8e-6
  config.optim.warmup_steps = 100
  # Where the cosine schedule begins: at the end of the warm-up ('warmup'), or at step 0 as in timm
  # ('start'), so that the rate is already lower than `lr` when the warm-up ends.
  config.optim.cosine_from = 'warmup'
  # The learning rate at the last step as a share of `lr`. The factors of `lr_rules` do not
  # change it.
  config.optim.final_lr = 0.01
  config.optim.weight_decay = 0.001
  config.optim.b1 = 0.9
  config.optim.b2 = 0.98
  config.optim.eps = 1e-8
  # The greatest global norm of the gradient; 0 does not clip.
  config.optim.clip_norm = 1.0
  config.optim.label_smoothing = 0.0
  # The upper limit of the logit scale, as in the training of OpenAI's CLIP. Models with a bias of
  # the logits have none, as in the training of SigLIP.
  config.optim.max_logit_scale = 100.0
  # The weight of FROSTER's distillation towards the weights that training starts from.
  config.optim.distillation = 0.0
  # The weight of the loss that makes classes indistinguishable in clips whose people are masked
  # (SDN, Choi et al., NeurIPS 2019), see `losses.confusion`.
  config.optim.confusion = 0.0
  # The weights of the losses on static clips (ALBAR, Fioresi et al., ICLR 2025), see
  # `losses.static_losses`; published are 1, 4.25 and 10.
  config.optim.still_clip = ConfigDict(dict(static=0.0, entropy=0.0, gradient=0.0))
  # The weight of the loss against the neglect of order (TORC, of RCORE, arXiv 2601.16211), see
  # `losses.order_losses`, and the steps between which it grows from 0 to this weight; published are
  # 1, and epochs 5 to 10 of 40.
  config.optim.torc = 0.0
  config.optim.torc_ramp = (0, 0)
  # From step `average_from` on, the weights of every `average_every`-th step join an average, and
  # the average is evaluated. With 0, the current weights are evaluated.
  config.optim.average_every = 0
  config.optim.average_from = 1
  # Micro-batches in a batch. Class texts are encoded once for all of them.
  config.optim.accumulation = 1
  # ((regex that matches full paths, factor), ...): factors of the learning rate and of the weight
  # decay. The first match counts; a factor of 0 for the learning rate freezes a parameter.
  config.optim.lr_rules = ()
  config.optim.decay_rules = ()

  # Optimizer steps of the training.
  config.steps = 1000

  # Devices along each axis of the mesh; -1 takes all that remain. Arrays smaller than
  # `fsdp_min_bytes` are not split.
  config.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1, fsdp_min_bytes=2**20))

  # Steps between checkpoints, and how many of the newest are kept.
  config.checkpoint = ConfigDict(dict(every=500, keep=2))
  # Steps between lines of metrics; `tensorboard` also writes event files (extra `tensorboard`), and
  # `wandb` shows the run on Weights & Biases (extra `wandb`), see `training.wandb_run`.
  config.log = ConfigDict(dict(every=50, tensorboard=False, wandb=False))

  # The first and the last step that are traced into the workdir's folder 'profile', such as
  # (10, 15), see `profiling`; () traces nothing.
  config.profile = ConfigDict(dict(steps=()))

  config.eval = ConfigDict()
  # Steps between evaluations; 0 evaluates after the last step only.
  config.eval.every = 0
  config.eval.batch_size = 64
  # The mask recipes under which each data set is evaluated.
  config.eval.recipes = ('none',)
  # Evaluates weights in between: this share of those that training started from, the rest of the
  # trained ones (Open-VCLIP: 0.5).
  config.eval.interpolate = 0.0
  # {name: dataset_ref(...)}: the data sets.
  config.eval.datasets = ConfigDict()
  # {name: (names of data sets, ...)}: reports mean and standard deviation over data sets, such as
  # three test splits.
  config.eval.groups = ConfigDict()
  # Whether classes that were in training may be evaluated; otherwise this is an error.
  config.eval.allow_seen_classes = False
  # Views of each clip: `clips` in time, each with `crops` (1 or 3) squares along the frame's long
  # side, see data.view.EvaluationViews.
  config.eval.clips = EvaluationViews().clips
  # What is averaged over the views: 'probabilities' of the classes (X-CLIP, ViFi-CLIP) or 'logits'
  # (Open-VCLIP, FROSTER).
  config.eval.view_mean = 'probabilities'
  # The number of classes of multiple choice, see evaluation.multiple_choice: how often a clip's
  # class is preferred over choices - 1 others that are drawn at random. With 0, there is none.
  config.eval.choices = 0
  # The number of clips in each data set whose saliency over regions is measured: see
  # evaluation.saliency.
  config.eval.saliency = 0
  config.eval.crops = EvaluationViews().crops

  config.lock()
  return config


def dataset_ref(
  dataset: str,
  split: str,
  classes: str | tuple[str, ...] = 'all',
  pairs: str = 'rand:0',
  labels: str = '',
) -> ConfigDict:
  """Refers to clips of a data set, for `config.data.train` and `config.eval.datasets`.

  Args:
    dataset: the data set's folder in `config.data.dir`, such as 'ssv2'.
    split: such as 'train' or 'validation', or several, such as 'train+validation'.
    classes: 'all', the name of a class split of the data set, a file of class names such as
      'novel.txt' or 'splits/k600.json:1' (see `data.splits.read_classes`), or class names.
    pairs: which clip's background each clip gets when an evaluation swaps backgrounds:
      'rand:SEED', 'same:SEED' or one of HAT's files, see
      `evaluation.background_pairs`.
    labels: a list that chooses clips of the data set and gives them other labels, such as
      'sth_com/test_pairs.json', see `data.clip_labels`; '' for the labels of the data set.
  """
  reference = ConfigDict(dict(dataset=dataset, split=split, pairs=pairs), type_safe=False)
  if labels:  # Configs of earlier versions have no such key.
    reference.labels = labels
  reference.classes = classes
  return reference


def validate(config: ConfigDict) -> None:
  """Checks everything that can be checked without data or devices.

  Two things are changed in place: class names that the command line gave as text become tuples
  (see `settings.read_class_names`), and a leading ~ of a path becomes the home folder.

  Raises:
    UserError: with the field and the remedy.
  """
  if 'experiments' in config:
    raise UserError(
      '--config: this is the config of a study, not of one training; run it with zsar study'
    )
  expected = default_config()
  if 'train' in config.get('data', {}):
    with expected.unlocked():
      expected.data.train = _same_keys(config.data.train)
  settings.check_keys(config, expected, 'config', _OPEN_SECTIONS)
  settings.read_class_names(config.data.train, 'config.data.train')
  for name, reference in config.eval.datasets.items():
    settings.check_keys(reference, _same_keys(reference), f'config.eval.datasets.{name}')
    settings.read_class_names(reference, f'config.eval.datasets.{name}')
  _check_tuples(config)
  _check_groups(config.eval)
  for field in _PATH_FIELDS:
    value = get_value(config, field)
    if not (field in _WEIGHT_FIELDS and value.startswith(HUB_PREFIX)):
      set_value(config, field, path_text(value, f'config.{field}'))
  _check_cache(config.data)
  if config.model.external:
    settings.check_function('config.model.external', config.model.external)
  for field, choices in CHOICES.items():
    check_choice(f'config.{field}', get_value(config, field), choices)
  check_views(config)
  for field, limits in RANGES.items():
    settings.check_range(f'config.{field}', get_value(config, field), limits)
  if config.optim.torc and config.model.temporal not in ORDERED_HEADS:
    raise UserError(
      f'config.optim.torc: the head of temporal={config.model.temporal!r} does not see the order of'
      f' frames, so this loss changes nothing; set config.model.temporal to'
      f' {" or ".join(map(repr, ORDERED_HEADS))}, or the loss to 0'
    )
  _check_profile(config)
  _check_recipes(config)


def _check_cache(data: ConfigDict) -> None:
  if not data.cache:
    return
  data.cache = local_path(data.cache, 'config.data.cache')
  if not is_url(data.dir):
    raise UserError(
      f'config.data.cache: config.data.dir {data.dir} is on this machine and needs no cache; leave'
      ' it out'
    )


def check_views(config: ConfigDict) -> None:
  """Raises a `UserError` if the views of `config.eval` do not exist with the frames of a view."""
  if config.view.sampling != 'segments' and config.eval.clips > 1:
    raise UserError(
      f'config.eval.clips: config.view.sampling {config.view.sampling!r} gives one view in time;'
      " set it to 1, or config.view.sampling to 'segments'"
    )
  if config.view.resize == 'squash' and config.eval.crops > 1:
    raise UserError(
      'config.eval.crops: frames that config.view.resize squashes have one crop; set it to 1, or'
      " config.view.resize to 'shortest'"
    )


def _same_keys(reference: Any) -> ConfigDict:
  """Returns a reference to a data set that has the optional key `labels` if `reference` has it."""
  has_labels = isinstance(reference, ConfigDict) and 'labels' in reference
  return dataset_ref('', '', labels='x' if has_labels else '')


def _check_tuples(config: ConfigDict) -> None:
  """Checks the types inside settings that hold several values."""
  for field, example in _TEXTS.items():
    settings.check_texts(f'config.{field}', get_value(config, field), example)
  for field in _RULES:
    settings.check_rules(f'config.{field}', get_value(config, field))
  for field in _INTERVALS:
    settings.check_interval(f'config.{field}', get_value(config, field))
  shares = tuple(config.augment.still_share)
  if len(shares) != 2 or not all(map(settings.is_number, shares)):
    raise UserError(
      f'config.augment.still_share: {shares} are not the two numbers alpha and beta; write them as'
      ' (200.0, 200.0)'
    )
  for step in config.profile.steps:
    if type(step) is not int:
      raise UserError(f'config.profile.steps: {step!r} is no step; take such as (10, 15), or ()')


def _check_groups(evaluation: ConfigDict) -> None:
  for name, members in evaluation.groups.items():
    field = f'config.eval.groups.{name}'
    if not isinstance(members, tuple | list):
      raise UserError(f'{field}: {members!r} is no tuple of data sets of config.eval.datasets')
    if name in evaluation.datasets:
      raise UserError(f'{field}: a data set of config.eval.datasets has that name; take another')
    for member in members:
      check_choice(field, member, evaluation.datasets)
    if len(members) < 2 or len(set(members)) < len(members):
      raise UserError(f'{field}: {tuple(members)} are not two or more different data sets')


def _check_profile(config: ConfigDict) -> None:
  steps = config.profile.steps
  if steps and not (len(steps) == 2 and 1 <= steps[0] <= steps[1] <= config.steps):
    raise UserError(
      f'config.profile.steps: {steps} are not the first and the last of {config.steps} steps; take'
      ' such as (10, 15), or ()'
    )


def _check_recipes(config: ConfigDict) -> None:
  language.parse(config.recipe, 'config.recipe')
  for text in config.eval.recipes:
    recipe = language.parse(text, 'config.eval.recipes')
    if recipe.early_effects:
      raise UserError(
        f'config.eval.recipes: {text!r} has an effect that is for training only; leave it out. The'
        f' effects for evaluation are {", ".join(language.ORDER_EFFECTS)}'
      )
    if len(recipe.order_effects) > 1:
      raise UserError(
        f'config.eval.recipes: {text!r} changes the order of frames twice, and a shuffled or frozen'
        ' clip has no order left that could be changed; keep one of'
        f' {", ".join(effect.name for effect in recipe.order_effects)}'
      )
  if not config.eval.recipes:
    raise UserError("config.eval.recipes: there is none; ('none',) evaluates unmasked clips")


def check_batch(field: str, batch_size: int, shards: int, accumulation: int = 1) -> None:
  """Checks that a batch divides into shards and micro-batches.

  Args:
    field: the setting of the batch size, for errors.
    batch_size: clips in the batch.
    shards: the number of devices that the mesh splits a batch over.
    accumulation: micro-batches in the batch.

  Raises:
    UserError: if it does not.
  """
  if batch_size % (shards * accumulation):
    micro = f' times {accumulation} micro-batches' if accumulation > 1 else ''
    raise UserError(
      f'{field}: a batch of {batch_size} does not divide over {shards} devices{micro}; take a'
      f' multiple of {shards * accumulation}'
    )


def to_json(config: ConfigDict) -> str:
  """Returns the resolved config as it is saved in the workdir."""
  return config.to_json_best_effort(indent=2)
