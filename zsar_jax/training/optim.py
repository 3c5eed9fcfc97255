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
  """Linear warm-up from 0 to `factor` x `lr`, then a cosine to `final_lr` x `lr` at the last step.

  The cosine begins at the end of the warm-up, or with `cosine_from` 'start' at step 0, as in timm's
  `CosineLRScheduler`: the rate then falls from the peak onto the cosine when the warm-up is over.
  As there, the last rate does not depend on the factor; but no rate rises after the warm-up.

  Args:
    config: `config.optim`.
    steps: optimizer steps of the whole run.
    factor: of the parameters' learning rate, see `lr_rules`; above 0.
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
    steps: optimizer steps of the whole run.
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
  """Builds the optimizer, and says which parameters it trains.

  Gradients are clipped by their global norm; weight decay is decoupled (Loshchilov & Hutter,
  2019) and scaled by the learning rate. `lr_rules` multiply the learning rate (see
  `learning_rate`), and 0 freezes; `decay_rules` multiply the weight decay.

  Args:
    config: `config.optim`.
    params: all the parameters or their shapes.
    steps: optimizer steps of the whole run.

  Returns:
    The optimizer, for the part of the parameters that `trees.partition` takes by the mask, and
    the mask: a tree of bools, True where a parameter is trained.
  """
  scale = trees.match_rules(config.lr_rules, params, 1.0, 'config.optim.lr_rules')
  decay = trees.match_rules(config.decay_rules, params, 1.0, 'config.optim.decay_rules')
  trained = jax.tree.map(bool, scale)
  scale, _ = trees.partition(scale, trained)
  decay, _ = trees.partition(decay, trained)

  def add_decay(updates: Any, params: Any) -> Any:
    return jax.tree.map(
      lambda u, p, share: u + config.weight_decay * share * p, updates, params, decay
    )

  optimizer = optax.chain(
    optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
    optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
    optax.stateless(add_decay),
    _scale_by_rates(config, scale, steps),
    optax.scale(-1.0),
  )
  return optimizer, trained
