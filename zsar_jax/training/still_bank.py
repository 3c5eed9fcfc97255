"""The bank of still frames that StillMix mixes into clips: frames that give the action away.

StillMix (Li et al., ICCV 2023) trains an image classifier on single frames and keeps those with the
most confident predictions. Here the classifier is a CLIP model that is not trained any further.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.subset import Subset
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_teacher
from zsar_jax.ops.photometric import normalize, to_float
from zsar_jax.runtime.progress import Progress, log
from zsar_jax.storage import buckets
from zsar_jax.storage.files import open_atomically
from zsar_jax.text.classes import ClassTexts
from zsar_jax.weights.formats.load import load_weights

_BATCH = 64

# Candidates per bank slot. All are held in memory, which bounds their number.
_CANDIDATES = 4


def open_bank(config: ConfigDict, subset: Subset, workdir: pathlib.Path) -> np.ndarray:
  """Returns the bank of a run, which is made once and kept in `workdir`/stills.npz.

  The candidates are the middle frames of training clips that are drawn with the run's seed. They
  are classified among the training classes. The bank is drawn from those with the highest
  probability of any class.

  Args:
    config: of the run; `config.stills` sets the size of the bank and the classifier.
    subset: the training clips.
    workdir: the run's folder.

  Returns:
    u8[K, S, S, 3], RGB; K is `config.stills.count`, or the number of candidates if it is smaller.

  Raises:
    UserError: if no weights are named, or a saved bank cannot be read.
  """
  path = workdir / 'stills.npz'
  if path.exists():
    try:
      with (
        buckets.reporting_errors(path),
        buckets.local_copy(path) as copy,
        np.load(copy, allow_pickle=False) as arrays,
      ):
        return arrays['frames']
    except UserError:
      raise
    except Exception as error:  # NumPy and zipfile raise many kinds of errors.
      raise UserError(
        f'{path} is damaged ({error}); delete it, and the same command makes it again'
      ) from None
  random = np.random.default_rng(config.seed)
  candidates = min(_CANDIDATES * config.stills.count, len(subset))
  positions = np.sort(random.choice(len(subset), candidates, replace=False))
  frames, confidence = _classify(config, subset, positions)
  best = np.argsort(-confidence, kind='stable')[: max(1, int(len(frames) * config.stills.share))]
  chosen = random.choice(best, min(config.stills.count, len(best)), replace=False)
  bank = frames[np.sort(chosen)]
  with open_atomically(path) as file:
    np.savez_compressed(file, frames=bank)
  return bank


def _classify(
  config: ConfigDict, subset: Subset, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Classifies the middle frames of N clips.

  Returns:
    The frames, u8[N, S, S, 3], and the probabilities of their likeliest classes, f32[N].
  """
  source = config.stills.source or config.model.init_from
  if not source:
    raise UserError(
      'config.stills.source: a bank needs weights that classify frames; name some, or set'
      " config.model.init_from, or take 'stillmix', which needs none"
    )
  field = 'config.stills.source' if config.stills.source else 'config.model.init_from'
  model = build_teacher(config)
  params, _ = load_weights(source, model, field=field, allow_left_over=('.*',))
  params = jax.device_put(params)
  texts = ClassTexts.from_config(config, model).tokens(subset.texts, 1)  # [P, C, L]
  classes = jnp.stack([jax.jit(model.encode_text)(params, tokens) for tokens in texts]).mean(0)

  @jax.jit
  def classify(frames: jax.Array) -> jax.Array:
    video = normalize(to_float(frames[:, None]))  # [B, 1, S, S, 3]
    logits = model.logits(params, model.encode_video(params, video), classes)
    return jax.nn.softmax(logits).max(axis=-1)

  view = View.from_config(config)
  loader = ClipLoader(subset, View(**vars(view) | {'num_frames': 1}))
  count = len(positions)
  frames = np.empty((count, view.size, view.size, 3), np.uint8)
  confidence = np.empty(count, np.float32)
  log(f'choosing still frames by {source}')
  progress = Progress(-(-count // _BATCH), 0, 'frames', _BATCH, log_interval=10)
  for step, first in enumerate(range(0, count, _BATCH), start=1):
    chosen = positions[first : first + _BATCH]
    frames[first : first + _BATCH] = [loader.evaluation_clip(n)['frames'][0] for n in chosen]
    batch = np.zeros((_BATCH, *frames.shape[1:]), np.uint8)  # All batches have the same shape.
    batch[: len(chosen)] = frames[first : first + _BATCH]
    confidence[first : first + _BATCH] = np.asarray(classify(batch))[: len(chosen)]
    progress.show(step, 'still frames')
  progress.close()
  return frames, confidence
