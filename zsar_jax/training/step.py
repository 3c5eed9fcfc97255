"""The optimizer step that is jitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from zsar_jax.models.compute import compiler_options
from zsar_jax.models.video_model import Params
from zsar_jax.ops.geometric import mirror_labels
from zsar_jax.ops.prepare import Augmentation, Batch, training_input
from zsar_jax.runtime import sharding, trees
from zsar_jax.text.classes import encode_classes
from zsar_jax.training import optim
from zsar_jax.training.inputs import Inputs
from zsar_jax.training.losses import LossInputs, Metrics, Teacher, training_loss
from zsar_jax.training.setup import Setup
from zsar_jax.weights.state import State

# From state, batch and inputs to the next state and metrics.
TrainStep = Callable[[State, Batch, Inputs], tuple[State, Metrics]]


def jit_train_step(setup: Setup) -> Callable[..., tuple[State, Metrics, Metrics]]:
  """Jits `(state, batch, inputs) -> (state, metrics, outputs for the monitor)`.

  The state is donated, and the new one has the same shardings.
  """
  return jax.jit(
    with_monitor_outputs(make_train_step(setup)),
    donate_argnums=0,
    out_shardings=(setup.state_shardings, setup.replicated, setup.replicated),
    compiler_options=compiler_options(setup.mesh, setup.model.compute.deterministic),
  )


def with_monitor_outputs(
  train_step: TrainStep,
) -> Callable[[State, Batch, Inputs], tuple[State, Metrics, Metrics]]:
  """Returns `train_step` with a third result: what `monitor.StepMonitor` checks."""

  def step(state: State, batch: Batch, inputs: Inputs) -> tuple[State, Metrics, Metrics]:
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


def make_train_step(setup: Setup) -> TrainStep:
  """Returns the optimizer step `(state, batch, inputs) -> (state, metrics)`, to be jitted.

  The batch is split into micro-batches, whose gradients are averaged. The class texts are encoded
  only once per step: the gradients of all micro-batches with respect to the text embeddings are
  summed before they are propagated back through the text tower.

  Args:
    setup: the experiment. For the batch see `data.batch`, for the inputs `training.inputs`.
  """
  config, mesh = setup.config, setup.mesh
  augmentation = Augmentation(**config.augment)
  num_classes = len(setup.classes)
  mirrored: Any = (
    mirror_labels(setup.classes) if augmentation.mirror_labels else np.arange(num_classes)
  )

  def train_step(state: State, batch: Batch, inputs: Inputs) -> tuple[State, Metrics]:
    augment_key, template_key = jax.random.split(inputs['key'])
    loss_key = jax.random.fold_in(augment_key, 1)
    params, frozen = trees.partition(state['params'], setup.trained)
    texts = inputs['texts']
    template = jax.random.randint(
      jax.random.fold_in(template_key, state['step']), (), 0, texts.shape[0]
    )

    def full_params(params: Params) -> Params:
      """Joins the trained parameters with the frozen ones, gathered for computing."""
      params = trees.merge(params, frozen)
      dtype = setup.model.compute.dtype
      return sharding.gather_fsdp(params, mesh, config.mesh.fsdp_min_bytes, dtype)

    def class_embeddings(params: Params) -> jax.Array:
      """Embeds the class texts under the template of the step, f32[C', E]."""
      if setup.texts_frozen:
        return texts[template]
      tokens = texts[template][None]
      return encode_classes(setup.model, full_params(params), tokens, mesh=mesh)[0]

    def micro_loss(
      params: Params, embeddings: jax.Array, batch: Batch
    ) -> tuple[jax.Array, Metrics]:
      """Computes the loss of a micro-batch, and its metrics."""
      params = full_params(params)
      with jax.named_scope('augment'):
        clips = training_input(
          augment_key, batch, augmentation, mirrored, setup.recipe, inputs.get('stills')
        )
      teacher = None
      if setup.teacher:
        teacher_classes = inputs['teacher_texts'][template, :num_classes]
        teacher = Teacher(setup.teacher, inputs['teacher'], teacher_classes)
      frames = setup.model.encode_frames(params, clips.video)
      loss_inputs = LossInputs(
        model=setup.model,
        params=params,
        clips=clips,
        seeds=batch['seed'],
        frames=frames,
        encoded=setup.model.combine_frames(params, *frames),
        classes=embeddings[:num_classes],
        key=loss_key,
        step=state['step'],
        teacher=teacher,
      )
      return training_loss(config.optim, loss_inputs)

    micro_batches = _split(batch, config.optim.accumulation, mesh)
    metrics, gradients = _mean_gradients(micro_loss, class_embeddings, params, micro_batches)
    state, update_metrics = _update(setup, state, gradients)
    return state, metrics | update_metrics

  return train_step


def _split(batch: Batch, count: int, mesh: Mesh) -> Batch:
  """Splits arrays [B, ...] of a batch into those of `count` micro-batches, [count, B / count, ...].

  Neighboring rows go to different micro-batches, so that each device keeps its own rows.
  """
  micro_sharding = NamedSharding(mesh, PartitionSpec(None, *sharding.BATCH_SPEC))

  def split(x: jax.Array) -> jax.Array:
    x = jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)
    return jax.lax.with_sharding_constraint(x, micro_sharding)

  return jax.tree.map(split, batch)


def _mean_gradients(
  micro_loss: Callable[[Params, jax.Array, Batch], tuple[jax.Array, Metrics]],
  class_embeddings: Callable[[Params], jax.Array],
  params: Params,
  micro_batches: Batch,
) -> tuple[Metrics, Params]:
  """Averages metrics and gradients over micro-batches, and encodes the class texts only once.

  Args:
    micro_loss: maps parameters, class embeddings and a micro-batch to the loss and metrics.
    class_embeddings: maps parameters to the class embeddings.
    params: the trained parameters, with None for frozen ones.
    micro_batches: with a leading dimension that counts the micro-batches.
  """
  count = len(jax.tree.leaves(micro_batches)[0])
  embeddings, pull_back = jax.vjp(class_embeddings, params)

  def add_micro_batch(total: Any, batch: Batch) -> tuple[Any, None]:
    (_, metrics), gradients = jax.value_and_grad(micro_loss, argnums=(0, 1), has_aux=True)(
      params, embeddings, batch
    )
    share = jax.tree.map(lambda x: x / count, (metrics, gradients))
    return jax.tree.map(jnp.add, total, share), None

  shapes = jax.eval_shape(
    lambda: (
      micro_loss(params, embeddings, jax.tree.map(lambda x: x[0], micro_batches))[1],
      (params, embeddings),
    )
  )
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  (metrics, (gradients, text_gradients)), _ = jax.lax.scan(add_micro_batch, zeros, micro_batches)
  return metrics, jax.tree.map(jnp.add, gradients, pull_back(text_gradients)[0])


@jax.named_scope('optimizer')
def _update(setup: Setup, state: State, gradients: Params) -> tuple[State, Metrics]:
  """Applies the optimizer; returns the next state, and metrics of the update."""
  config = setup.config.optim
  schedule = optim.learning_rate(config, setup.config.steps)
  params, frozen = trees.partition(state['params'], setup.trained)
  updates, opt = setup.optimizer.update(gradients, state['opt'], params)
  params = trees.merge(optax.apply_updates(params, updates), frozen)
  # CLIP (Radford et al., 2021, section 2.5) keeps logits from being scaled by more than 100. SigLIP
  # was trained without a limit, and its scale is larger.
  if not setup.model.spec.parts.logit_bias:
    largest = float(np.log(config.max_logit_scale))
    params['logit_scale'] = jnp.minimum(params['logit_scale'], largest)
  new_state = {'params': params, 'opt': opt, 'step': state['step'] + 1}
  metrics = {
    'learning_rate': schedule(state['step']),
    'gradient_norm': optax.tree.norm(gradients),
    'logit_scale': jnp.exp(params['logit_scale']),
  }
  return new_state | _update_average(config, state, new_state, setup.trained), metrics


def _update_average(
  config: ConfigDict, state: State, new_state: State, trained: Any
) -> dict[str, Any]:
  """Returns the entries 'average' and 'averaged' after a step; {} if the run averages nothing.

  The parameters after every `config.average_every`-th step join the mean.
  """
  if not config.average_every:
    return {}
  step, params = new_state['step'], trees.partition(new_state['params'], trained)[0]
  due = (step >= config.average_from) & (step % config.average_every == 0)
  count = state['averaged'] + due
  share = due / jnp.maximum(count, 1)
  average = jax.tree.map(lambda mean, x: mean + share * (x - mean), state['average'], params)
  return {'average': average, 'averaged': count}
