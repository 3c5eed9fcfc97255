"""The training loop, from the config to the trained model's results."""

import functools
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax import optim, sharding, trees
from zsar_jax.checkpoint import Checkpoints, has_checkpoint, load_meta, load_params
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import ClipLoader, View, training_batches
from zsar_jax.data.subset import Subset, select
from zsar_jax.errors import UserError
from zsar_jax.evaluate import SEEN_CLASSES, Evaluator, Results
from zsar_jax.interruption import Interrupted, Interruption
from zsar_jax.models.build import build_model
from zsar_jax.models.video_clip import VideoModel
from zsar_jax.ops import recipes
from zsar_jax.ops.geometric import mirror_labels
from zsar_jax.ops.prepare import Augmentation, Batch, augment
from zsar_jax.text.classes import ClassTexts, encode_classes
from zsar_jax.writers import MetricWriter, Progress, say, write_whole

State = dict[str, Any]
Metrics = dict[str, jax.Array]

# CLIP (Radford et al., 2021, section 2.5) keeps logits from being scaled by more than 100.
MAX_LOGIT_SCALE = float(np.log(100))


def train(config: ConfigDict, workdir: pathlib.Path) -> Results:
  """Trains from the newest checkpoint in `workdir`, or from the start, and evaluates.

  Args:
    config: a validated config.
    workdir: the run's folder: config.json, metrics.jsonl, checkpoints/.

  Returns:
    The evaluation after the last step.

  Raises:
    UserError: for a config, data or a workdir that do not go together.
    Interrupted: after Ctrl-C or SIGTERM, with a checkpoint written.
  """
  # Data and vocabulary.
  mesh = sharding.make_mesh(config.mesh)
  config_lib.check_batch(
    'config.data.batch_size',
    config.data.batch_size,
    sharding.batch_parts(mesh),
    config.optim.accumulation,
  )
  subset = open_training_subset(config)
  model = build_model(config)
  texts = ClassTexts.from_config(config, model)
  seen = seen_classes(config, subset, workdir)
  evaluator = Evaluator(config, model, texts, mesh, seen)

  # State: shapes, then shardings, then arrays made where they belong.
  optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
  init = functools.partial(init_state, optimizer, trained)
  key = jax.random.key(config.seed)
  template = sharding.sharded_shapes(
    jax.eval_shape(init, model.abstract_params), mesh, config.mesh.fsdp_min_bytes
  )
  shardings = jax.tree.map(lambda leaf: leaf.sharding, template)

  meta = {'clips': fingerprint(subset), SEEN_CLASSES: seen}
  saved_config = workdir / 'config.json'
  with Checkpoints(workdir, config.checkpoint.keep) as checkpoints, Interruption() as interruption:
    step = checkpoints.latest or 0
    if step:
      config_lib.check_same_run(config, saved_config)
      check_clips(checkpoints.meta(step), meta['clips'], workdir)
      state = checkpoints.restore(step, template)
      say(f'resuming {workdir} after step {step}')
    else:
      if config.model.init_from:
        params = load_params(
          pathlib.Path(config.model.init_from), template['params'], 'config.model.init_from'
        )
      else:
        params = jax.jit(model.init, out_shardings=shardings['params'])(key)
      state = jax.jit(init, out_shardings=shardings, donate_argnums=0)(params)
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(saved_config, config_lib.to_json(config))

    tokens = texts.tokens(subset.texts, sharding.batch_parts(mesh))
    train_step = make_train_step(config, model, optimizer, trained, subset.classes, mesh)
    texts_frozen = not any(jax.tree.leaves(trained['text']))
    text_input = jax.device_put(tokens, sharding.replicated(mesh))
    if texts_frozen:
      text_input = jax.jit(
        functools.partial(encode_classes, model, mesh=mesh),
        out_shardings=sharding.replicated(mesh),
      )(state['params'], text_input)
    train_step = jax.jit(
      functools.partial(train_step, texts_frozen=texts_frozen),
      donate_argnums=0,
      out_shardings=(shardings, sharding.replicated(mesh)),
    )

    # The loop.
    loader = ClipLoader(subset, View.from_config(config))
    batches = training_batches(
      loader, config.data.batch_size, config.seed, step, config.data.workers
    )
    writer = MetricWriter(workdir, step, config.log.tensorboard)
    progress = Progress(config.steps, step, 'clips', config.data.batch_size)
    first_step, saved = step + 1, step
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params))
    say(
      f'{len(subset)} clips of {len(subset.classes)} classes, {parameters:,} parameters,'
      f' {jax.device_count()} {jax.devices()[0].platform} devices, mesh {dict(mesh.shape)}'
    )
    try:
      with jax.transfer_guard('disallow'):
        while step < config.steps and not interruption.signal:
          try:
            batch = sharding.place(next(batches), mesh)
          except RuntimeError:
            # A signal to the whole process group ends the workers as well.
            if interruption.signal:
              break
            raise
          state, metrics = train_step(state, batch, text_input)
          step += 1
          if step == first_step:
            jax.block_until_ready(metrics)
            progress.restart(step)
          saving = step % config.checkpoint.every == 0 or step == config.steps
          evaluating = config.eval.every and step % config.eval.every == 0 and step < config.steps
          if step % config.log.every == 0 or saving or evaluating:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            check_finite(values['loss'], step, workdir)
            progress.show(step, f'loss {values["loss"]:.4f}  accuracy {values["accuracy"]:.3f}')
            values['clips_per_second'] = progress.rate(step)
            if evaluating and not interruption.signal:
              values |= flatten(evaluator.run(state['params']))
            writer.write(step, values)
          if saving:
            checkpoints.save(step, state, meta)
            saved = step
      if step > saved:
        check_finite(float(jax.device_get(metrics['loss'])), step, workdir)
        checkpoints.save(step, state, meta)
      checkpoints.wait()
    finally:
      progress.close()
      writer.close()
      batches.close()
    if step < config.steps:
      raise Interrupted(
        f'interrupted after step {step}; the same command goes on from there',
        interruption.status,
      )
  return evaluator.run(state['params'])


def open_training_subset(config: ConfigDict) -> Subset:
  """The clips of `config.data.train`; checks the training recipe against them."""
  reference = config.data.train
  if not reference.dataset:
    raise UserError('config.data.train.dataset names no data set; set it, or use --mode=eval')
  dataset = open_dataset(config.data.dir, reference.dataset, reference.split)
  subset = select(dataset, reference.classes, config.view.unannotated, 'config.data.train.classes')
  subset.check_recipe(recipes.parse(config.recipe), 'config.recipe')
  return subset


def init_state(optimizer: optax.GradientTransformation, trained: Any, params: Any) -> State:
  """The state before the first step: {params, opt, step}."""
  return {
    'params': params,
    'opt': optimizer.init(trees.partition(params, trained)[0]),
    'step': jnp.zeros((), jnp.int32),
  }


def make_train_step(
  config: ConfigDict,
  model: VideoModel,
  optimizer: optax.GradientTransformation,
  trained: Any,
  classes: tuple[str, ...],
  mesh: Mesh,
) -> Callable[..., tuple[State, Metrics]]:
  """Builds the optimizer step; it is to be jitted.

  The class texts are encoded once in a step, and the gradients of all micro-batches with
  respect to the text embeddings are summed before they are taken back through the text tower.

  Returns:
    `train_step(state, batch, text, texts_frozen) -> (state, metrics)`. `text` is the tokens
    i32[P, C, L] of the class texts under each template, or with `texts_frozen` their
    embeddings f32[P, C, E].
  """
  schedule = optim.learning_rate(config.optim, config.steps)
  augmentation = Augmentation(**config.augment)
  mirrored = mirror_labels(classes) if augmentation.mirror_labels else np.arange(len(classes))
  recipe = recipes.parse(config.recipe)
  accumulation = config.optim.accumulation
  micro_sharding = NamedSharding(mesh, PartitionSpec(None, *sharding.BATCH))

  def split(x: jax.Array) -> jax.Array:
    # Neighbouring rows go to different micro-batches, so that each device keeps its own rows.
    x = jnp.moveaxis(x.reshape(-1, accumulation, *x.shape[1:]), 1, 0)  # [A, B / A, ...]
    return jax.lax.with_sharding_constraint(x, micro_sharding)

  def train_step(
    state: State, batch: Batch, text: jax.Array, *, texts_frozen: bool
  ) -> tuple[State, Metrics]:
    augment_key, template_key = jax.random.split(jax.random.key(config.seed))
    params, frozen = trees.partition(state['params'], trained)
    template = jax.random.randint(
      jax.random.fold_in(template_key, state['step']), (), 0, text.shape[0]
    )

    def class_embeddings(params: Any) -> jax.Array:
      if texts_frozen:
        return text[template]
      tokens = text[template][None]
      return encode_classes(model, trees.merge(params, frozen), tokens, mesh=mesh)[0]

    def loss_of(params: Any, embeddings: jax.Array, clips: Batch) -> tuple[jax.Array, jax.Array]:
      params = trees.merge(params, frozen)
      video, labels = augment(augment_key, clips, augmentation, mirrored, recipe)
      logits = jnp.exp(params['logit_scale']) * (
        model.encode_video(params, video) @ embeddings[: len(classes)].T
      )  # [B / A, C]
      targets = optax.smooth_labels(
        jax.nn.one_hot(labels, len(classes)), config.optim.label_smoothing
      )
      loss = optax.softmax_cross_entropy(logits, targets).mean()
      return loss, (logits.argmax(-1) == labels).mean()

    embeddings, pull_back = jax.vjp(class_embeddings, params)

    def micro_step(total: Any, clips: Batch) -> tuple[Any, None]:
      (loss, accuracy), gradients = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
        params, embeddings, clips
      )
      share = jax.tree.map(lambda x: x / accumulation, (loss, accuracy, gradients))
      return jax.tree.map(jnp.add, total, share), None

    nothing = jax.tree.map(jnp.zeros_like, (jnp.float32(0), jnp.float32(0), (params, embeddings)))
    (loss, accuracy, (gradients, text_gradients)), _ = jax.lax.scan(
      micro_step, nothing, jax.tree.map(split, batch)
    )
    gradients = jax.tree.map(jnp.add, gradients, pull_back(text_gradients)[0])

    updates, opt = optimizer.update(gradients, state['opt'], params)
    params = trees.merge(optax.apply_updates(params, updates), frozen)
    params['logit_scale'] = jnp.minimum(params['logit_scale'], MAX_LOGIT_SCALE)
    metrics = {
      'loss': loss,
      'accuracy': accuracy,
      'learning_rate': schedule(state['step']),
      'gradient_norm': optax.tree.norm(gradients),
      'logit_scale': jnp.exp(params['logit_scale']),
    }
    return {'params': params, 'opt': opt, 'step': state['step'] + 1}, metrics

  return train_step


def check_finite(loss: float, step: int, workdir: pathlib.Path) -> None:
  """Raises a `UserError` where training has failed, before that is saved."""
  if not np.isfinite(loss):
    raise UserError(
      f'{workdir}: the loss is {loss} at step {step}; lower config.optim.lr, or look at the data'
    )


def fingerprint(subset: Subset) -> int:
  """A checksum of which clips, in which order, with which classes."""
  names = [*subset.classes, *map(subset.clip_id, range(len(subset)))]
  return zlib.crc32(subset.labels.tobytes(), zlib.crc32('\n'.join(names).encode()))


def seen_classes(config: ConfigDict, subset: Subset, workdir: pathlib.Path) -> list[str]:
  """The classes of this run's training, and of the run whose weights it started from."""
  earlier = None
  if has_checkpoint(workdir):
    earlier = load_meta(workdir, '--workdir').get(SEEN_CLASSES)
  elif config.model.init_from:
    run = pathlib.Path(config.model.init_from)
    earlier = load_meta(run, 'config.model.init_from').get(SEEN_CLASSES)
  if earlier is None and config.model.init_from:
    say(f'which classes {config.model.init_from} was trained on is not known, and not checked')
  return sorted({*subset.classes, *(earlier or ())})


def check_clips(saved: dict[str, Any], clips: int, workdir: pathlib.Path) -> None:
  """Raises a `UserError` where the clips that a checkpoint was trained on are others."""
  if saved.get('clips') != clips:
    raise UserError(
      f'{workdir}: the checkpoint was made with other clips ({saved.get("clips")}, now {clips}),'
      ' so going on would not be the same run; restore the data or take another --workdir'
    )


def flatten(results: Results) -> dict[str, float]:
  """Results as metrics: 'DATASET/RECIPE/FIGURE'."""
  return {
    f'{dataset}/{recipe}/{figure}': value
    for dataset, by_recipe in results.items()
    for recipe, figures in by_recipe.items()
    for figure, value in figures.items()
    if figure not in ('count', 'over')
  }
