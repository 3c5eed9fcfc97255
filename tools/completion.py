"""Prints the script with which a shell completes the command `zsar`.

bash   zsar completion bash > ~/.local/share/bash-completion/completions/zsar
zsh    zsar completion zsh > ~/.zfunc/_zsar, with fpath+=~/.zfunc before compinit in ~/.zshrc
fish   zsar completion fish > ~/.config/fish/completions/zsar.fish
"""

import argparse
import contextlib
import io
import re
import runpy
import sys

from absl import flags

from zsar_jax.command_line import config_names, parse_arguments

from . import zsar

# A flag in a help text with its choices: absl writes '--mode: <train|eval>', argparse
# '--kind {random,difference}'.
_FLAG = re.compile(r'^ +(?:-\w, )?(--[\w-]+)(?:: <([\w|-]+)>| \{([\w,-]+)\})?', re.MULTILINE)

Flags = dict[str, list[str]]

_BASH = """\
_zsar() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} flag= before=${{COMP_WORDS[COMP_CWORD-1]}}
  # bash takes --flag=value apart into three words.
  if [[ $word == = ]]; then flag=$before word=
  elif [[ $before == = ]]; then flag=${{COMP_WORDS[COMP_CWORD-2]}}
  elif [[ $before == --* ]]; then flag=$before; fi
  local words=
  if (( COMP_CWORD == 1 )); then words="{commands}"
  else case "${{COMP_WORDS[1]}} $flag" in
{values}
  esac; fi
  if [[ -z $words && $word == -* ]]; then
    case ${{COMP_WORDS[1]}} in
{flags}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _zsar zsar
"""

_ZSH = """\
#compdef zsar
if (( CURRENT == 2 )); then
  local -a commands=({commands})
  _describe command commands
  return
fi
local -a values=() flags=()
local flag=${{words[CURRENT-1]}}
if [[ $PREFIX == --*=* ]]; then flag=${{PREFIX%%=*}}; compset -P '*='; fi
case "$words[2] $flag" in
{values}
esac
case $words[2] in
{flags}
esac
if [[ $PREFIX == -* ]]; then compadd -- $flags
else (( $#values )) && compadd -- $values; _files; fi
"""


def main() -> None:
  """Prints the script for a shell."""
  parser = argparse.ArgumentParser(
    'zsar completion', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('shell', choices=SCRIPTS)
  shell = parse_arguments(parser).shell
  commands = {name: {} if name == 'completion' else flags_of(name) for name in zsar.COMMANDS}
  print(SCRIPTS[shell](commands), end='')


def flags_of(name: str) -> Flags:
  """Returns the flags of a command, each with its choices; [] if any value is allowed."""
  before = set(flags.FLAGS)
  argv, sys.argv = sys.argv, ['zsar', '--help']
  text = io.StringIO()
  try:
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
      runpy.run_module(zsar.COMMANDS[name].module, run_name='__main__', alter_sys=True)
  finally:
    sys.argv = argv
    for flag in set(flags.FLAGS) - before:  # The next program defines flags of the same names.
      delattr(flags.FLAGS, flag)
  result = {}
  for flag, absl_choices, choices in _FLAG.findall(text.getvalue()):
    result[flag] = re.split('[|,]', absl_choices or choices) if absl_choices or choices else []
  if '--config' in result:
    result['--config'] = config_names(studies=name == 'study')
  return result


def _bash(commands: dict[str, Flags]) -> str:
  return _BASH.format(
    commands=' '.join(commands),
    values=_cases(commands, '    "{name} {flag}") words="{values}";;'),
    flags='\n'.join(
      f'      {name}) words="{" ".join(options)}";;' for name, options in commands.items()
    ),
  )


def _zsh(commands: dict[str, Flags]) -> str:
  quoted = (f"'{name}:{zsar.COMMANDS[name].about}'" for name in commands)
  return _ZSH.format(
    commands=' '.join(quoted),
    values=_cases(commands, '  "{name} {flag}") values=({values});;'),
    flags='\n'.join(
      f'  {name}) flags=({" ".join(options)});;' for name, options in commands.items()
    ),
  )


def _fish(commands: dict[str, Flags]) -> str:
  lines = [
    f'complete -c zsar -n __fish_use_subcommand -f -a {name} -d "{zsar.COMMANDS[name].about}"'
    for name in commands
  ]
  for name, options in commands.items():
    for flag, values in options.items():
      line = f'complete -c zsar -n "__fish_seen_subcommand_from {name}" -l {flag[2:]}'
      lines.append(line + (f' -r -a "{" ".join(values)}"' if values else ''))
  return '\n'.join([*lines, ''])


def _cases(commands: dict[str, Flags], line: str) -> str:
  """Returns a line for each flag that has choices."""
  return '\n'.join(
    line.format(name=name, flag=flag, values=' '.join(values))
    for name, options in commands.items()
    for flag, values in options.items()
    if values
  )


SCRIPTS = {'bash': _bash, 'zsh': _zsh, 'fish': _fish}


if __name__ == '__main__':
  main()
