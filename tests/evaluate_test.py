"""Zero-shot evaluation against one clip and one class at a time."""

import jax
import numpy as np
from ml_collections import ConfigDict

from tests.toy import CLASSES, build_toy
from tests.train_test import toy_config
from zsar_jax import sharding
from zsar_jax.config import clips
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import ClipLoader, View
from zsar_jax.data.subset import select
from zsar_jax.evaluate import COLOUR_SEED, Evaluator, table
from zsar_jax.models.build import build_model
from zsar_jax.ops import recipes
from zsar_jax.ops.prepare import prepare
from zsar_jax.text.classes import ClassTexts


def test_against_one_clip_at_a_time(tmp_path):
  config = toy_config(build_toy(tmp_path))
  config.eval.recipes = ('none', 'background=normal,object=uniform')
  config.eval.datasets = ConfigDict(
    {
      'all': clips('toy', 'validation'),
      'novel': clips('toy', 'validation', 'novel'),
    }
  )
  model = build_model(config)
  params = model.init(jax.random.key(1))
  texts = ClassTexts.from_config(config, model)
  mesh = sharding.make_mesh(config.mesh)
  placed = jax.device_put(params, sharding.replicated(mesh))
  results = Evaluator(config, model, texts, mesh).run(placed)

  encode_text, encode_video = jax.jit(model.encode_text), jax.jit(model.encode_video)
  for name, classes in (('all', CLASSES), ('novel', CLASSES[3:])):
    embeddings = []
    for label in classes:
      prompts = [template.format(label) for template in config.text.templates]
      mean = np.mean(encode_text(params, texts.tokenizer(prompts)), axis=0)
      embeddings.append(mean / np.linalg.norm(mean))
    subset = select(open_dataset(tmp_path, 'toy', 'validation'), classes, 'nearest', '')
    loader = ClipLoader(subset, View.from_config(config))
    for text in config.eval.recipes:
      right = []
      for position in range(len(subset)):
        clip = jax.tree.map(lambda x: np.asarray(x)[None], loader.evaluation_clip(position))
        video = prepare(jax.random.key(COLOUR_SEED), clip, recipes.parse(text))
        scores = np.stack(embeddings) @ np.asarray(encode_video(params, video))[0]
        right.append(scores.argmax() == clip['label'][0])
      got = results[name][text]
      assert got['count'] == len(subset)
      np.testing.assert_allclose(got['top1'], np.mean(right))
  assert table(results).count('background=normal,object=uniform') == 2
