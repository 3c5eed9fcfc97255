"""The command `zsar`: the trainer and the tools as subcommands, from any folder.

    zsar train --config=pantomime --workdir=runs/pantomime

In a clone, `python -m zsar_jax.main` is `zsar train`, and `python -m tools.NAME` runs the other
programs.
"""

import difflib
import importlib.metadata
import runpy
import sys
from typing import NamedTuple


class Command(NamedTuple):
  """A subcommand.

  Attributes:
    module: the program.
    about: one line of help.
    flags: are passed to the program before the user's own flags.
  """

  module: str
  about: str
  flags: tuple[str, ...] = ()


COMMANDS = {
  'train': Command('zsar_jax.main', 'train a config, then evaluate it'),
  'eval': Command('zsar_jax.main', 'evaluate a trained run', ('--mode=eval',)),
  'status': Command('zsar_jax.tools.status', 'show how runs are doing, on this machine or another'),
  'study': Command('zsar_jax.tools.bias_study', 'train under several mask recipes and report'),
  'predict': Command('zsar_jax.tools.predict', 'name the action in a video'),
  'make-masks': Command('zsar_jax.tools.make_masks', 'make masks from raw videos'),
  'compare-masks': Command('zsar_jax.tools.compare_masks', 'compare masks with trusted ones'),
  'build-dataset': Command(
    'zsar_jax.tools.build_dataset', 'build a data set from videos and masks'
  ),
  'inspect': Command('zsar_jax.tools.inspect_dataset', 'show what a data set contains'),
  'show': Command('zsar_jax.tools.show_clips', 'draw clips under mask recipes'),
  'export-clips': Command('zsar_jax.tools.export_clips', 'write painted clips for other programs'),
  'score-predictions': Command(
    'zsar_jax.tools.score_predictions', "evaluate another program's logits of these clips"
  ),
  'split': Command('zsar_jax.tools.make_split', 'split classes for zero-shot evaluation'),
  'convert': Command('zsar_jax.tools.convert_checkpoint', 'convert weights between codebases'),
  'plan': Command('zsar_jax.tools.plan', 'show what a run needs before a device is rented'),
  'profile': Command('zsar_jax.tools.summarize_profile', 'show where the time of steps went'),
  'benchmark': Command('zsar_jax.tools.benchmark', 'measure how fast the parts are'),
  'completion': Command('zsar_jax.tools.completion', 'print completions for bash, zsh or fish'),
}


def main() -> None:
  """Runs the subcommand that the command line names."""
  name, *arguments = sys.argv[1:] or ['--help']
  if name in ('-h', '--help', 'help'):
    print(_usage())
  elif name == '--version':
    print(f'zsar_jax {importlib.metadata.version("zsar_jax")}')
  elif name in COMMANDS:
    command = COMMANDS[name]
    sys.argv[1:] = [*command.flags, *arguments]
    runpy.run_module(command.module, run_name='__main__', alter_sys=True)
  else:
    guess = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f'did you mean {guess[0]}?' if guess else 'see zsar --help'
    print(f'error: zsar has no command {name!r}; {hint}', file=sys.stderr)
    raise SystemExit(2)


def _usage() -> str:
  width = max(map(len, COMMANDS))
  lines = ['usage: zsar COMMAND [FLAGS]', '', 'commands:']
  lines += [f'  {name:<{width}}  {command.about}' for name, command in COMMANDS.items()]
  return '\n'.join(
    [*lines, '', 'zsar COMMAND --help shows its flags; zsar --version shows the version.']
  )


if __name__ == '__main__':
  main()
