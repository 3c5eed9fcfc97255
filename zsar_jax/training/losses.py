"""The training loss: of the classes, and further terms that `config.optim` weighs.

`CLASS_LOSSES` is the table of the losses of the classes, of which `config.optim.loss` names one.
`LOSSES` is the table of the further terms. To add one, write a function of `LossInputs` and its
weight, enter it in the table, and add a weight of the same name to `config.optim`.

The terms against static bias look at clips without people, and at clips without movement:

- SDN, where people are painted over, the model should not know the action. Choi et al., "Why Can't
  I Dance in the Mall? Learning to Mitigate Scene Bias in Action Recognition" (NeurIPS 2019).
- ALBAR, nor should it know the action from one frame. Fioresi et al., "ALBAR: Adversarial Learning
  approach to mitigate Biases in Action Recognition" (ICLR 2025).

One term is against the neglect of order:

- TORC, the embedding should change if time runs backwards, and the action be unknown if the frames
  are shuffled. RCORE, arXiv 2601.16211.

FROSTER's distillation keeps the embeddings close to those of CLIP, see `models.distillation`.

Letters in shapes: B clips of a micro-batch, T frames, H x W pixels, C classes, E embedding.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from zsar_jax.models.video_model import Encoded, Params, VideoModel
from zsar_jax.ops.transform import Clips
from zsar_jax.recipes.regions import PERSON, PERSON_BOX

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Teacher:
  """The CLIP model of distillation.

  Attributes:
    model: the model.
    params: its parameters.
    classes: f32[C, E], its embeddings of the class texts.
  """

  model: VideoModel
  params: Params
  classes: jax.Array


@dataclasses.dataclass(frozen=True)
class LossInputs:
  """What the losses of a micro-batch are computed from.

  Attributes:
    model: the model.
    params: its parameters.
    clips: the augmented and painted clips, with their targets.
    seeds: u32[B], the clips' random numbers.
    frames: the clips, by `model.encode_frames`.
    encoded: the clips, by `model.combine_frames`.
    classes: f32[C, E], the embeddings of the class texts.
    key: the random key of the losses; each clip folds its seed into it.
    step: i32[], the number of steps before this one.
    teacher: None without distillation.
  """

  model: VideoModel
  params: Params
  clips: Clips
  seeds: jax.Array
  frames: tuple[jax.Array, jax.Array | None]
  encoded: Encoded
  classes: jax.Array
  key: jax.Array
  step: jax.Array
  teacher: Teacher | None = None

  def score(self, video: jax.Array) -> jax.Array:
    """Returns the logits f32[B, C] of other clips f32[B, T, H, W, 3]."""
    encoded = self.model.encode_video(self.params, video)
    return self.model.logits(self.params, encoded, self.classes)


# From the inputs and the term's weight to summands of the loss, and metrics. The summands are added
# one after another.
Term = Callable[[LossInputs, Any], tuple[list[jax.Array], Metrics]]


def _distillation(inputs: LossInputs, weight: float) -> tuple[list[jax.Array], Metrics]:
  teacher = inputs.teacher
  assert teacher is not None
  frames, _ = teacher.model.encode_frames(teacher.params, inputs.clips.video)
  distance = inputs.model.distance(
    inputs.params, inputs.encoded, inputs.classes, frames, teacher.classes
  )
  return [weight * distance], {'distance': distance}


def _confusion(inputs: LossInputs, weight: float) -> tuple[list[jax.Array], Metrics]:
  clips = inputs.clips
  without_people = jax.vmap(fill_people)(clips.video, clips.regions)
  counted = jax.vmap(detected)(clips.regions, clips.annotated)
  value = confusion(inputs.score(without_people), counted)
  return [weight * value], {'confusion': value}


def _still_clip(inputs: LossInputs, weight: ConfigDict) -> tuple[list[jax.Array], Metrics]:
  keys = jax.vmap(lambda seed: jax.random.fold_in(inputs.key, seed))(inputs.seeds)
  still = jax.vmap(still_clip)(keys, inputs.clips.video)
  values = static_losses(inputs.score, still, inputs.clips.targets)
  uncertainty = weight.entropy * values['entropy'] + weight.gradient * values['gradient']
  # The model should fail on still clips.
  failure = -weight.static * values['static']
  return [uncertainty, failure], {f'still_{name}': value for name, value in values.items()}


def _torc(inputs: LossInputs, weight: jax.Array) -> tuple[list[jax.Array], Metrics]:
  key = jax.random.fold_in(inputs.key, 1)  # Other numbers than those of still clips.
  keys = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(inputs.seeds)
  count = inputs.frames[0].shape[1]
  orders = jax.vmap(lambda key: jax.random.permutation(key, count))(keys)  # [B, T]
  encode = functools.partial(inputs.model.combine_frames, inputs.params)
  shuffled = encode(*reorder(inputs.frames, orders))
  values = order_losses(
    inputs.encoded['embedding'],
    encode(*reorder(inputs.frames, jnp.arange(count)[::-1]))['embedding'],
    inputs.model.logits(inputs.params, shuffled, inputs.classes),
  )
  summands = [weight * value for value in values.values()]
  return summands, {f'torc_{name}': value for name, value in values.items()}


# By the name of the weight in `config.optim`: a number, or a group of numbers. Terms whose weights
# are all 0 are not computed.
LOSSES: dict[str, Term] = {
  'distillation': _distillation,
  'confusion': _confusion,
  'still_clip': _still_clip,
  'torc': _torc,
}

# Of terms whose weight grows from 0: the setting of the first and the last of the steps in between.
_RAMPS = {'torc': 'torc_ramp'}


def softmax_loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the cross-entropy f32[B] of logits f32[B, C] with distributions f32[B, C]."""
  return optax.softmax_cross_entropy(logits, targets)


def sigmoid_loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns SigLIP's loss of each clip (Zhai et al., arXiv 2303.15343, section 3.2).

  Each pair of a clip and a class is a decision of its own: with z = 1 for the clip's class and -1
  for the others, the loss of a clip is the sum of -log sigmoid(z logit) over the classes. SigLIP
  compares images with the texts of a batch; here the texts are those of all classes, so that a clip
  has one positive pair even if other clips of the batch have the same class. A target between 0 and
  1 weighs the two decisions.

  Args:
    logits: f32[B, C], the cosines scaled and with the bias.
    targets: f32[B, C], from 0 to 1.

  Returns:
    f32[B].
  """
  return optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)


# The choices of `config.optim.loss`: from logits and targets to the loss of each clip.
CLASS_LOSSES = {'softmax': softmax_loss, 'sigmoid': sigmoid_loss}


def training_loss(config: ConfigDict, inputs: LossInputs) -> tuple[jax.Array, Metrics]:
  """Returns the loss of a micro-batch, and metrics: 'loss', 'accuracy', and one for each term.

  Args:
    config: `config.optim`.
    inputs: the micro-batch.
  """
  logits = inputs.model.logits(inputs.params, inputs.encoded, inputs.classes)  # [B, C]
  targets = inputs.clips.targets
  smooth = optax.smooth_labels(targets, config.label_smoothing)
  loss = CLASS_LOSSES[config.loss](logits, smooth).mean()
  metrics = {'accuracy': (logits.argmax(-1) == targets.argmax(-1)).mean()}
  for name, term in LOSSES.items():
    if _is_used(config[name]):
      weight = config[name]
      if name in _RAMPS:
        weight = weight * ramp(inputs.step, *config[_RAMPS[name]])
      summands, values = term(inputs, weight)
      loss = sum(summands, loss)
      metrics |= values
  return loss, metrics | {'loss': loss}


def _is_used(weight: float | ConfigDict) -> bool:
  return any(weight.values()) if isinstance(weight, ConfigDict) else weight > 0


def ramp(step: jax.Array, start: int, end: int) -> jax.Array:
  """Returns f32[], the share of a weight that grows linearly from 0 at `start` to 1 at `end`."""
  if start == end:
    return (step >= start).astype(jnp.float32)
  return jnp.clip((step - start) / (end - start), 0, 1)


def fill_people(video: jax.Array, regions: jax.Array) -> jax.Array:
  """Paints over the people of one clip with the mean color of each frame (SDN).

  Args:
    video: f32[T, H, W, 3].
    regions: u8[T, H, W]. People are their boxes, or their shapes in a clip without boxes.

  Returns:
    f32[T, H, W, 3].
  """
  color = video.mean((1, 2), keepdims=True)  # [T, 1, 1, 3]
  return jnp.where(_people(regions)[..., None], color, video)


def detected(regions: jax.Array, annotated: jax.Array, share: float = 0.7) -> jax.Array:
  """Returns whether enough frames of one clip show people; SDN counts only such clips.

  Args:
    regions: u8[T, H, W], see `fill_people`.
    annotated: bool[T]; frames without annotation count as showing nobody.
    share: the least share of the frames, from 0 to 1.

  Returns:
    bool[].
  """
  # 0.55 * 20 is a little more than 11 in floating point.
  least = math.ceil(share * len(annotated) - 1e-6)
  return (_people(regions).any((1, 2)) & annotated).sum() >= least


def _people(regions: jax.Array) -> jax.Array:
  """Returns bool[T, H, W]: boxes of people, or their shapes in a clip without boxes."""
  boxes = (regions & PERSON_BOX) != 0
  return jnp.where(boxes.any(), boxes, (regions & PERSON) != 0)


def confusion(logits: jax.Array, counted: jax.Array) -> jax.Array:
  """SDN's loss on clips whose people are painted over: minus the entropy of the prediction.

  Its minimum, -log C, is reached when all classes are equally likely.

  Args:
    logits: f32[B, C].
    counted: bool[B], the clips that count, see `detected`.

  Returns:
    f32[], the mean over the clips that count; 0 if none does.
  """
  logits = jnp.where(counted[:, None], logits, 0)
  return (counted * _minus_entropy(logits)).sum() / jnp.maximum(counted.sum(), 1)


def _minus_entropy(logits: jax.Array) -> jax.Array:
  """Maps logits f32[B, C] to the sum of p log p over the classes, f32[B]."""
  log_probabilities = jax.nn.log_softmax(logits)
  return (jnp.exp(log_probabilities) * log_probabilities).sum(-1)


def reorder(
  frames: tuple[jax.Array, jax.Array | None], order: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
  """Returns the frames of clips in another order.

  Args:
    frames: from `VideoModel.encode_frames`: arrays [B, T, ...].
    order: i32[T], or i32[B, T] with an order for each clip: the frame at each time.
  """

  def take(x: jax.Array) -> jax.Array:
    index = jnp.broadcast_to(order, x.shape[:2])
    return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), axis=1)

  embedded, patches = frames
  return take(embedded), None if patches is None else take(patches)


def order_losses(
  embedding: jax.Array, reversed_embedding: jax.Array, shuffled_logits: jax.Array
) -> dict[str, jax.Array]:
  """Computes the two terms of TORC, the temporal order regularization of RCORE.

  RCORE applies them to the features of verbs and to the logits of verbs; here they are those of
  clips and classes.

  Args:
    embedding: f32[B, E], of unit length, of clips.
    reversed_embedding: f32[B, E], of unit length, of the same frames in reverse order.
    shuffled_logits: f32[B, C], of the same frames in a random order.

  Returns:
    Two f32[], means over the clips:
    'reverse', the cosine of the two embeddings: time should matter;
    'shuffle', minus the entropy of the prediction without an order: nothing should be predicted.
  """
  cosines = (embedding * reversed_embedding).sum(-1)
  return {'reverse': cosines.mean(), 'shuffle': _minus_entropy(shuffled_logits).mean()}


def still_clip(key: jax.Array, video: jax.Array) -> jax.Array:
  """Repeats one random frame of a clip f32[T, H, W, 3] at all of its times (ALBAR)."""
  frame = jax.random.randint(key, (), 0, video.shape[0])
  return jnp.broadcast_to(video[frame], video.shape)


def static_losses(
  score: Callable[[jax.Array], jax.Array], still: jax.Array, targets: jax.Array
) -> dict[str, jax.Array]:
  """Computes ALBAR's three terms on still clips, unweighted.

  The gradient of 'gradient' with respect to the parameters of `score` is of second order.

  Args:
    score: maps f32[B, T, H, W, 3] to logits f32[B, C]; the logits of a clip depend on it alone.
    still: f32[B, T, H, W, 3], see `still_clip`.
    targets: f32[B, C], a distribution over the classes for each clip.

  Returns:
    Three f32[], means over the clips:
    'static', the cross-entropy with the targets, to be SUBTRACTED from the loss: the model should
      fail on a still clip;
    'entropy', minus the entropy of the prediction: it should fail by not knowing;
    'gradient', the L2 norm of the gradient of the sum of a clip's logits with respect to its
      pixels: the pixels should not matter.
  """
  logits, pull_back = jax.vjp(score, still)
  (gradient,) = pull_back(jnp.ones_like(logits))
  # A norm whose own gradient is 0 instead of NaN where the norm is 0.
  norms = jax.vmap(lambda clip: optax.safe_norm(clip.ravel(), 0.0))(gradient)
  return {
    'static': optax.softmax_cross_entropy(logits, targets).mean(),
    'entropy': _minus_entropy(logits).mean(),
    'gradient': norms.mean(),
  }
