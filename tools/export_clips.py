"""Writes the painted clips of an evaluation as files, for models that run in another program.

    zsar export-clips --config=zeroshot_eval --workdir=exported

The clips, recipes and frames are those that `zsar eval` with the same config shows an external
model. Each data set gets a folder in the workdir: a file for each clip under each recipe, the list
files.csv, and clips.json, which zsar score-predictions needs. The same command continues an
interrupted export. See docs/external_models.md.
"""

import pathlib

from absl import app, flags
from ml_collections import config_flags

from zsar_jax.command_line import parse_flags, start_program
from zsar_jax.runtime.interruption import interruptible_program
from zsar_jax.runtime.reporting import exit_on_user_error

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: see zsar train --help.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder to write to.')
_FILES = flags.DEFINE_enum(
  'files',
  'mp4',
  ['mp4', 'png', 'jpg'],
  'mp4: H.264 in RGB without loss (libx264rgb, quantizer 0), which FFmpeg decodes to exactly the'
  ' frames. png: a folder of images, exact too. jpg: the same at quality 95, which is not exact.',
)


def main(argv: list[str]) -> None:
  """Runs the program; see the head of this file."""
  with exit_on_user_error():
    _export(start_program(argv))


def _export(workdir: pathlib.Path) -> None:
  # Imported late, so that --help and errors in flags answer at once.
  from zsar_jax import config, experiment
  from zsar_jax.evaluation.clip_export import export_clips

  config.validate(_CONFIG.value)
  experiment.build_embedded_data(_CONFIG.value, 'eval')
  for name, count in export_clips(_CONFIG.value, workdir, _FILES.value).items():
    print(f'{name}: {count} files, listed in {workdir / name / "files.csv"}')


if __name__ == '__main__':
  with interruptible_program():
    app.run(main, flags_parser=parse_flags)
