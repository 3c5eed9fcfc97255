"""The description of a weight format."""

import dataclasses
import pathlib
from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np

from zsar_jax.weights.formats.key_tables import Shape, Table
from zsar_jax.weights.formats.lazy_arrays import StateDict
from zsar_jax.weights.formats.preprocessing import CLIP_PREPROCESSING, Preprocessing


@dataclasses.dataclass(frozen=True)
class Format:
  """A layout of weight files.

  The functions raise a `UserError` for a model that this project cannot compute.

  Attributes:
    name: its name on the command line.
    table: the keys and layouts of its arrays.
    markers: keys of arrays or extras that every such file has. If several formats match, the first
      in `recognition.FORMATS` is chosen.
    droppable: regexes of full keys; such arrays are ignored if the model does not use them.
    prepare: changes the arrays of a file before the table is applied.
    restore: the inverse of `prepare`, for arrays that are written.
    temporal: the temporal model of such a file if its arrays do not show one.
    read_video: from the file's path, its extras and its arrays to fields of `VideoSpec`.
    tower_fields: fields of `TowerSpec` that every such model has.
    read_tower: from our paths of a file's arrays to fields that take precedence over those.
    heads: the number of heads of a tower by its width, if neither the arrays nor a file beside them
      show it; empty for heads of width 64.
    normalization: the normalization of the frames in training, see `TowerSpec`.
    preprocessing: the rest of the preprocessing in training.
    preprocessing_from_shapes: from the shapes of a file's arrays, by our paths, to the fields of
      `preprocessing` that depend on them.
    processor_defaults: the settings that a file of transformers' image processor leaves out.
    config_file: the name of the JSON file beside the weights that describes the model, or ''.
    read_config: from that file's path and JSON object to fields of `TowerSpec`.
  """

  name: str
  table: Table
  markers: tuple[str, ...]
  droppable: tuple[str, ...] = ()
  prepare: Callable[[StateDict], StateDict] = lambda state: state
  restore: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda arrays: arrays
  temporal: str = 'mean'
  read_video: Callable[[pathlib.Path, Mapping[str, Any], StateDict], dict[str, Any]] = (
    lambda path, extras, state: {}
  )
  tower_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  read_tower: Callable[[Container[str]], dict[str, Any]] = lambda paths: {}
  heads: Mapping[int, int] = dataclasses.field(default_factory=dict)
  normalization: str = 'clip'
  preprocessing: Preprocessing = CLIP_PREPROCESSING
  preprocessing_from_shapes: Callable[[Mapping[str, Shape]], dict[str, Any]] = lambda shapes: {}
  processor_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  config_file: str = ''
  read_config: Callable[[pathlib.Path, dict[str, Any]], dict[str, Any]] = lambda path, config: {}
