"""The training state, and the optimizer step that is jitted."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from zsar_jax.models.layers import compiler_options
from zsar_jax.models.video_model import Encoded, Params, VideoModel
from zsar_jax.ops.geometric import mirror_labels
from zsar_jax.ops.prepare import Augmentation, Batch, training_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding, trees
from zsar_jax.text.classes import encode_classes
from zsar_jax.training import losses, optim
from zsar_jax.weights.state import State

Metrics = dict[str, jax.Array]


def jit_train_step(
  config: ConfigDict,
  model: VideoModel,
  teacher: VideoModel,
  optimizer: optax.GradientTransformation,
  trained: Any,
  classes: tuple[str, ...],
  mesh: Mesh,
  template: State,
) -> Callable[..., tuple[State, Metrics, Metrics]]:
  """The jitted optimizer step `(state, batch, inputs)` with the outputs for the monitor.

  The class texts are frozen where no parameter of the text tower is trained. The state, whose
  sharded shapes are `template`, is donated and comes back as it lay.
  """
  step = make_train_step(config, model, teacher, optimizer, trained, classes, mesh)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
  whole = sharding.replicated(mesh)
  return jax.jit(
    with_monitor_outputs(functools.partial(step, texts_frozen=texts_frozen(trained))),
    donate_argnums=0,
    out_shardings=(shardings, whole, whole),
    compiler_options=compiler_options(mesh),
  )


def with_monitor_outputs(
  train_step: Callable[..., tuple[State, Metrics]],
) -> Callable[..., tuple[State, Metrics, Metrics]]:
  """Returns `train_step` with the outputs for a `StepMonitor`; its batch has `stop`, bool[B]."""

  def step(state: State, batch: dict[str, jax.Array], inputs: dict[str, Any]) -> Any:
    state, metrics = train_step(state, batch, inputs)
    outputs = {
      'loss': metrics['loss'],
      'gradient_norm': metrics['gradient_norm'],
      'clip': batch['clip'],
      'replaced': batch['replaced'],
      'stop': batch['stop'].any(),
    }
    return state, metrics, outputs

  return step


def texts_frozen(trained: Any) -> bool:
  """Whether no parameter of the text tower is trained, so that class embeddings stay the same."""
  return not any(jax.tree.leaves(trained['text']))


def make_train_step(
  config: ConfigDict,
  model: VideoModel,
  teacher: VideoModel,
  optimizer: optax.GradientTransformation,
  trained: Any,
  classes: tuple[str, ...],
  mesh: Mesh,
) -> Callable[..., tuple[State, Metrics]]:
  """Builds the optimizer step; it is to be jitted.

  The class texts are encoded once in a step, and the gradients of all micro-batches with
  respect to the text embeddings are summed before they are taken back through the text tower.

  Args:
    config: the config.
    model: the model.
    teacher: the CLIP that distillation stays close to.
    optimizer: from `optim.make_optimizer`.
    trained: a tree of bools, which parameters it trains.
    classes: the names of the training classes.
    mesh: the devices.

  Returns:
    `train_step(state, batch, inputs, texts_frozen) -> (state, metrics)`. The inputs, the same in
    each step: 'key', the random key of the run; 'texts', the tokens i32[P, C', L] of the class
    texts under each template, or with `texts_frozen` their embeddings f32[P, C', E]; with
    distillation 'teacher', the parameters of the teacher, and 'teacher_texts', f32[P, C', E];
    where the recipe takes frames from a bank 'stills', u8[K, S, S, 3].
  """
  schedule = optim.learning_rate(config.optim, config.steps)
  augmentation = Augmentation(**config.augment)
  mirrored = mirror_labels(classes) if augmentation.mirror_labels else np.arange(len(classes))
  recipe = language.parse(config.recipe)
  accumulation = config.optim.accumulation
  micro_sharding = NamedSharding(mesh, PartitionSpec(None, *sharding.BATCH_SPEC))

  def split(x: jax.Array) -> jax.Array:
    # Neighboring rows go to different micro-batches, so that each device keeps its own rows.
    x = jnp.moveaxis(x.reshape(-1, accumulation, *x.shape[1:]), 1, 0)  # [A, B / A, ...]
    return jax.lax.with_sharding_constraint(x, micro_sharding)

  def train_step(
    state: State, batch: Batch, inputs: dict[str, Any], *, texts_frozen: bool
  ) -> tuple[State, Metrics]:
    augment_key, template_key = jax.random.split(inputs['key'])
    still_key = jax.random.fold_in(augment_key, 1)
    params, frozen = trees.partition(state['params'], trained)
    texts = inputs['texts']
    template = jax.random.randint(
      jax.random.fold_in(template_key, state['step']), (), 0, texts.shape[0]
    )

    def whole(params: Params) -> Params:
      params = trees.merge(params, frozen)
      return sharding.gather_fsdp(params, mesh, config.mesh.fsdp_min_bytes)

    def class_embeddings(params: Params) -> jax.Array:
      if texts_frozen:
        return texts[template]
      tokens = texts[template][None]
      return encode_classes(model, whole(params), tokens, mesh=mesh)[0]

    def loss_of(params: Params, embeddings: jax.Array, clips: Batch) -> tuple[jax.Array, Metrics]:
      params = whole(params)
      stills = inputs.get('stills')
      with jax.named_scope('augment'):
        seen = training_input(augment_key, clips, augmentation, mirrored, recipe, stills)
      video, targets = seen.video, seen.targets
      encoded = model.encode_video(params, video)
      embeddings = embeddings[: len(classes)]

      def score(encoded: Encoded) -> jax.Array:
        return model.logits(params, encoded, embeddings)  # [B / A, C]

      logits = score(encoded)
      smooth = optax.smooth_labels(targets, config.optim.label_smoothing)
      loss = optax.softmax_cross_entropy(logits, smooth).mean()
      metrics = {'accuracy': (logits.argmax(-1) == targets.argmax(-1)).mean()}
      if config.optim.distillation:
        frames, _ = teacher.encode_frames(inputs['teacher'], video)
        named = inputs['teacher_texts'][template, : len(classes)]
        metrics['distance'] = model.distance(params, encoded, embeddings, frames, named)
        loss += config.optim.distillation * metrics['distance']
      if config.optim.confusion:
        hidden = jax.vmap(losses.fill_people)(video, seen.regions)
        counted = jax.vmap(losses.detected)(seen.regions, seen.annotated)
        confused = losses.confusion(score(model.encode_video(params, hidden)), counted)
        metrics['confusion'] = confused
        loss += config.optim.confusion * confused
      weights = config.optim.still_clip
      if any(weights.values()):
        keys = jax.vmap(lambda seed: jax.random.fold_in(still_key, seed))(clips['seed'])
        still = jax.vmap(losses.still_clip)(keys, video)
        found = losses.static_losses(
          lambda still: score(model.encode_video(params, still)), still, targets
        )
        metrics |= {f'still_{name}': value for name, value in found.items()}
        loss += weights.entropy * found['entropy'] + weights.gradient * found['gradient']
        loss -= weights.static * found['static']
      return loss, metrics | {'loss': loss}

    embeddings, pull_back = jax.vjp(class_embeddings, params)

    def micro_step(total: Any, clips: Batch) -> tuple[Any, None]:
      (_, metrics), gradients = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
        params, embeddings, clips
      )
      share = jax.tree.map(lambda x: x / accumulation, (metrics, gradients))
      return jax.tree.map(jnp.add, total, share), None

    micro_batches = jax.tree.map(split, batch)
    nothing = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype),
      jax.eval_shape(
        lambda: (
          loss_of(params, embeddings, jax.tree.map(lambda x: x[0], micro_batches))[1],
          (params, embeddings),
        )
      ),
    )
    (metrics, (gradients, text_gradients)), _ = jax.lax.scan(micro_step, nothing, micro_batches)
    gradients = jax.tree.map(jnp.add, gradients, pull_back(text_gradients)[0])

    updates, opt = optimizer.update(gradients, state['opt'], params)
    part = optax.apply_updates(params, updates)
    params = trees.merge(part, frozen)
    # CLIP (Radford et al., 2021, section 2.5) keeps logits from being scaled by more than 100.
    largest = float(np.log(config.optim.max_logit_scale))
    params['logit_scale'] = jnp.minimum(params['logit_scale'], largest)
    after = {'params': params, 'opt': opt, 'step': state['step'] + 1}
    metrics |= {
      'learning_rate': schedule(state['step']),
      'gradient_norm': optax.tree.norm(gradients),
      'logit_scale': jnp.exp(params['logit_scale']),
    }
    return after | _averaged(config.optim, state, after, trained), metrics

  return train_step


def _averaged(config: ConfigDict, before: State, after: State, trained: Any) -> State:
  """The mean of the trained parameters, with those after this step where it is their turn."""
  if not config.average_every:
    return {}
  step, part = after['step'], trees.partition(after['params'], trained)[0]
  due = (step >= config.average_from) & (step % config.average_every == 0)
  count = before['averaged'] + due
  share = due / jnp.maximum(count, 1)
  average = jax.tree.map(lambda mean, x: mean + share * (x - mean), before['average'], part)
  return {'average': average, 'averaged': count}
