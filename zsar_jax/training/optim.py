"""The optimizer: AdamW with warm-up and cosine decay, and rules that freeze or scale parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from zsar_jax.runtime import trees


def learning_rate(
  config: ml_collections.ConfigDict, steps: int, factor: float = 1.0
) -> optax.Schedule:
  """Returns a linear warm-up to `factor` x `lr`, followed by a cosine to `final_lr` x `lr`.

  The cosine ends at the last step. It starts at the end of the warm-up. If `cosine_from` is
  'start', it starts at step 0, as in timm's `CosineLRScheduler`; then the rate drops from the peak
  to the cosine when the warm-up ends. As in timm, the last rate does not depend on the factor.
  Unlike in timm, no rate rises after the warm-up.

  Args:
    config: `config.optim`.
    steps: the optimizer steps of the run.
    factor: the factor of the parameters' learning rate, see `lr_rules`; above 0.
  """
  peak, warmup = config.lr * factor, config.warmup_steps
  last = config.lr * min(config.final_lr, factor)
  if config.cosine_from == 'start':
    cosine = optax.cosine_decay_schedule(peak, steps, alpha=min(config.final_lr / factor, 1.0))
    ramp = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([ramp, lambda step: cosine(step + warmup)], [warmup])
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=peak,
    warmup_steps=warmup,
    decay_steps=max(steps, warmup + 1),
    end_value=last,
  )


def _scale_by_rates(
  config: ml_collections.ConfigDict, factors: Any, steps: int
) -> optax.GradientTransformation:
  """Multiplies each update by the learning rate of its parameter.

  Args:
    config: `config.optim`.
    factors: a tree of the parameters' factors, above 0.
    steps: the optimizer steps of the run.
  """
  schedules = {
    factor: learning_rate(config, steps, factor) for factor in set(jax.tree.leaves(factors))
  }

  def init(params: Any) -> optax.ScaleByScheduleState:
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update(updates: Any, state: optax.ScaleByScheduleState, params: Any = None) -> Any:
    del params
    rates = {factor: schedule(state.count) for factor, schedule in schedules.items()}
    updates = jax.tree.map(lambda u, factor: rates[factor] * u, updates, factors)
    return updates, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

  return optax.GradientTransformation(init, update)


def make_optimizer(
  config: ml_collections.ConfigDict, params: Any, steps: int
) -> tuple[optax.GradientTransformation, Any]:
  """Builds the optimizer, and the mask of the parameters that it trains.

  Gradients are clipped by their global norm. Weight decay is decoupled (Loshchilov & Hutter, 2019)
  and scaled by the learning rate. `lr_rules` multiply the learning rate (see `learning_rate`); the
  factor 0 freezes. `decay_rules` multiply the weight decay.

  Checkpoints hold the state of the optimizer, so the number of its transformations is fixed.

  Args:
    config: `config.optim`.
    params: all parameters or their shapes.
    steps: the optimizer steps of the run.

  Returns:
    The optimizer, for the part of the parameters that `trees.partition` selects by the mask; and
    the mask, a tree of bools, True where a parameter is trained.
  """
  scale = trees.match_rules(config.lr_rules, params, 1.0, 'config.optim.lr_rules')
  decay = trees.match_rules(config.decay_rules, params, 1.0, 'config.optim.decay_rules')
  trained = jax.tree.map(bool, scale)
  scale, _ = trees.partition(scale, trained)
  decay, _ = trees.partition(decay, trained)

  def add_decay(updates: Any, params: Any) -> Any:
    return jax.tree.map(
      lambda u, p, factor: u + config.weight_decay * factor * p, updates, params, decay
    )

  optimizer = optax.chain(
    optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
    optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
    optax.stateless(add_decay),
    _scale_by_rates(config, scale, steps),
    optax.scale(-1.0),
  )
  return optimizer, trained
