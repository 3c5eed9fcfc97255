"""The inputs of the train step that stay the same at every step.

They are a dict of arrays, for P templates, C' classes (padded to divide over the mesh), L tokens,
and embeddings of size E:

    key              the random key of the run
    texts            i32[P, C', L], the tokens of the class texts; if the text tower is frozen,
                     their embeddings f32[P, C', E] instead
    teacher          with distillation, the parameters of the teacher
    teacher_texts    with distillation, f32[P, C', E], the class texts by the teacher
    stills           u8[K, S, S, 3], if the recipe mixes in frames from a bank
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data.subset import Subset
from zsar_jax.models.compute import compiler_options
from zsar_jax.models.video_model import Params
from zsar_jax.runtime import distributed, sharding
from zsar_jax.text.classes import encode_classes
from zsar_jax.training import still_bank
from zsar_jax.training.setup import Setup
from zsar_jax.weights.initial import InitialWeights

Inputs = dict[str, Any]


def make_inputs(
  setup: Setup,
  key: jax.Array,
  tokens: np.ndarray,
  params: Params,
  initial: InitialWeights,
  subset: Subset,
  workdir: pathlib.Path,
) -> Inputs:
  """Computes the inputs.

  Args:
    setup: the experiment.
    key: the random key of the run.
    tokens: i32[P, C', L], from `setup.tokens`.
    params: the parameters at the start, which encode the class texts if these are frozen.
    initial: the weights that training started from, which are the teacher's.
    subset: the training clips.
    workdir: the run's folder, which keeps the bank of stills.
  """
  encode = jax.jit(
    encode_classes,
    static_argnames=('model', 'mesh'),
    out_shardings=setup.replicated,
    compiler_options=compiler_options(setup.mesh, setup.model.compute.deterministic),
  )
  inputs: Inputs = {'key': key, 'texts': sharding.put_global(tokens, setup.replicated)}
  if setup.teacher:
    inputs['teacher'] = initial.load_teacher(setup.teacher)
    teacher_tokens = setup.tokens(subset.texts, setup.teacher)
    teacher_tokens = sharding.put_global(teacher_tokens, setup.replicated)
    inputs['teacher_texts'] = encode(
      setup.teacher, inputs['teacher'], teacher_tokens, mesh=setup.mesh
    )
  if _needs_stills(setup):
    bank = distributed.run_main_first(lambda: still_bank.open_bank(setup.config, subset, workdir))
    inputs['stills'] = sharding.put_global(bank, setup.replicated)
  if setup.texts_frozen:
    inputs['texts'] = encode(setup.model, params, inputs['texts'], mesh=setup.mesh)
  return inputs


def abstract_inputs(setup: Setup) -> Inputs:
  """Returns the inputs as ShapeDtypeStructs, with texts of the greatest length."""
  config, spec = setup.config, setup.model.spec

  def shape(sizes: Sequence[int], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(sizes), jnp.dtype(dtype), sharding=setup.replicated)

  count = len(setup.classes)
  texts = (len(config.text.templates), count + -count % sharding.num_batch_shards(setup.mesh))
  embeddings = shape((*texts, spec.embed_dim), np.float32)
  inputs = {'key': abstract_key(setup.replicated)}
  if setup.texts_frozen:
    inputs['texts'] = embeddings
  else:
    inputs['texts'] = shape((*texts, spec.context_length), np.int32)
  if setup.teacher:
    inputs['teacher'] = sharding.sharded_shapes(
      setup.teacher.abstract_params, setup.mesh, config.mesh.fsdp_min_bytes
    )
    inputs['teacher_texts'] = embeddings
  if _needs_stills(setup):
    inputs['stills'] = shape((config.stills.count, config.view.size, config.view.size, 3), np.uint8)
  return inputs


def abstract_key(target: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  """Returns a random key as a ShapeDtypeStruct."""
  return jax.ShapeDtypeStruct((), jax.eval_shape(jax.random.key, 0).dtype, sharding=target)


def _needs_stills(setup: Setup) -> bool:
  return bool(setup.recipe.effect('stillmix_bank'))
