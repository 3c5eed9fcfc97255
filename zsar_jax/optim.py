"""The optimizer: AdamW with warm-up and cosine decay, and rules that freeze or scale parameters."""

from typing import Any

import jax
import ml_collections
import optax

from zsar_jax import trees


def learning_rate(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to `lr`, then a cosine to `final_lr` x `lr` at the last step.

  Args:
    config: `config.optim`.
    steps: optimizer steps of the whole run.
  """
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.lr,
    warmup_steps=config.warmup_steps,
    decay_steps=max(steps, config.warmup_steps + 1),
    end_value=config.lr * config.final_lr,
  )


def make_optimizer(
  config: ml_collections.ConfigDict, params: Any, steps: int
) -> tuple[optax.GradientTransformation, Any]:
  """Builds the optimizer, and says which parameters it trains.

  Gradients are clipped by their global norm; weight decay is decoupled (Loshchilov & Hutter,
  2019) and scaled by the learning rate. `lr_rules` multiply the learning rate, and 0 freezes;
  `decay_rules` multiply the weight decay.

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

  def multiply(updates: Any, params: Any) -> Any:
    del params
    return jax.tree.map(lambda u, share: u * share, updates, scale)

  optimizer = optax.chain(
    optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
    optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
    optax.stateless(add_decay),
    optax.scale_by_learning_rate(learning_rate(config, steps)),
    optax.stateless(multiply),
  )
  return optimizer, trained
