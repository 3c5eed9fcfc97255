"""Says where the masks of a study's data sets come from, for study.json."""

import json
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.data.catalog import find_dataset
from zsar_jax.datasets import mask_provenance
from zsar_jax.study.plan import Job


def describe_masks(jobs: Sequence[Job]) -> dict[str, list[dict[str, Any]]]:
  """Describes the masks of all data sets that a study trains on or evaluates on.

  Args:
    jobs: all runs of the study.

  Returns:
    {'DATASET, SPLIT': [{'text': a phrase, 'warnings': [what a reader must know]}, ...]}, with one
    entry for each source of masks, and at least one.
  """
  masks = {}
  for job in jobs:
    for reference in (job.config.data.train, *job.config.eval.datasets.values()):
      if reference.dataset:
        name = f'{reference.dataset}, {reference.split}'
        masks.setdefault(name, _describe(job.config.data.dir, reference))
  return masks


def _describe(data_dir: str, reference: ConfigDict) -> list[dict[str, Any]]:
  directory = find_dataset(data_dir, reference.dataset)
  if directory is None:
    return _sentence('not known, as the data set is no longer there')
  try:
    report = json.loads((directory / 'build_report.json').read_text())
    # The report knows no splits that are parts of others. All splits have the same sources.
    split = report.get(reference.split) or next(iter(report.values()))
    if 'masks' not in split:
      return _sentence('not known, as an earlier version built the data set')
    if not split['masks']:
      return _sentence('drawn with the clips' if split['regions'] else 'no masks')
    return [
      {'text': mask_provenance.describe(source), 'warnings': mask_provenance.warnings(source)}
      for source in split['masks']
    ]
  except (AttributeError, KeyError, OSError, StopIteration, TypeError, ValueError):
    return _sentence('not known, as the report of its build cannot be read')


def _sentence(text: str) -> list[dict[str, Any]]:
  return [{'text': text, 'warnings': []}]
