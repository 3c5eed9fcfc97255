"""Candidates for a faster optimizer step on a GPU, each measured alone in a process of its own.

The step as it is comes first and last, which shows how much the machine's speed changes meanwhile.
A candidate that fails, for example because its batch does not fit, has a line with the reason.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import Any

from zsar_jax.errors import UserError

from . import lines, workload


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A change of the step.

  Attributes:
    flags: of the benchmark `step`.
    environment: variables to set; `XLA_FLAGS` is added to those that are set.
    batch: factor of the batch.
  """

  flags: tuple[str, ...] = ()
  environment: dict[str, str] = dataclasses.field(default_factory=dict)
  batch: float = 1.0


_BASE, _AGAIN = 'as it is', 'as it is, again'

# How XLA is told: openxla.org/xla/flags_guidance, and docs.jax.dev (`jax_optimization_level`).
CANDIDATES = {
  _BASE: Candidate(),
  'attention xla': Candidate(flags=('--attention=xla',)),
  'batch doubled': Candidate(batch=2),
  'batch halved': Candidate(batch=0.5),
  'optimization level O1': Candidate(environment={'JAX_OPTIMIZATION_LEVEL': 'O1'}),
  'Triton for any product': Candidate(environment={'XLA_FLAGS': '--xla_gpu_triton_gemm_any=true'}),
  'no CUDA graphs': Candidate(environment={'XLA_FLAGS': '--xla_gpu_enable_command_buffer='}),
  'remat dots': Candidate(flags=('--remat=dots',)),
  'remat full': Candidate(flags=('--remat=full',)),
  _AGAIN: Candidate(),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  workload.add_flags(parser, repeats=20)
  parser.add_argument(
    '--only',
    nargs='+',
    default=list(CANDIDATES),
    choices=CANDIDATES,
    metavar='CANDIDATE',
    help=f'of {", ".join(map(repr, CANDIDATES))}',
  )
  parser.add_argument(
    '--seconds',
    type=float,
    default=540,
    help='begin no candidate that would probably end later than this (default: 540)',
  )


def run(arguments: argparse.Namespace) -> None:
  """Measures the candidates, and prints the line of each and a table."""
  workload.from_flags(arguments)  # Its errors come before anything is measured.
  started, longest = time.monotonic(), 0.0
  base: Any = None
  rows = []
  for name in arguments.only:
    began = time.monotonic()
    if began + longest > started + arguments.seconds:
      line: dict[str, Any] = {'skipped': 'no time was left'}
    else:
      line = _measure(CANDIDATES[name], arguments)
    longest = max(longest, time.monotonic() - began)
    lines.show(**{'candidate': name, **line})
    if name == _BASE:
      base = line.get('per_second')
    rows.append(_row(name, line, base))
  print(f'\n{"candidate":<26}{"clips/s":>9}{"ratio":>8}{"MFU":>8}{"peak memory":>14}')
  print('\n'.join(rows))


def _row(name: str, line: dict[str, Any], base: float | None) -> str:
  """Returns a row of the table; `base` is the rate of the step as it is."""
  if 'per_second' not in line:
    return f'{name:<26}{line["skipped"]}'
  ratio = f'{line["per_second"] / base:.3f}' if base else '-'
  mfu = f'{line["mfu"]:.1%}' if 'mfu' in line else '-'
  peak = f'{line["peak_bytes"] / 2**30:.2f} GiB' if 'peak_bytes' in line else '-'
  return f'{name:<26}{line["per_second"]:>9.1f}{ratio:>8}{mfu:>8}{peak:>14}'


def _measure(candidate: Candidate, arguments: argparse.Namespace) -> dict[str, Any]:
  """Returns the line of the step with a candidate, and its MFU if that is known."""
  batch = int(arguments.batch * candidate.batch)
  if batch < arguments.micro_batches or batch % arguments.micro_batches:
    return {'skipped': f'{batch} clips do not divide into the micro-batches'}
  settings = dict(vars(arguments), batch=batch)
  names = (field.name for field in dataclasses.fields(workload.Workload))
  flags = [
    f'--{name.replace("_", "-")}={settings[name]}'
    for name in (*names, 'repeats')
    if name in settings
  ]
  environment = os.environ | candidate.environment
  if 'XLA_FLAGS' in candidate.environment:
    given = os.environ.get('XLA_FLAGS', '')
    environment['XLA_FLAGS'] = f'{given} {candidate.environment["XLA_FLAGS"]}'.strip()
  # The later of two equal flags counts.
  command = [sys.executable, '-m', f'{__package__.rpartition(".")[0]}.benchmark', 'step', *flags]
  command += [*candidate.flags, '--loops', 'ours/step']
  ended = subprocess.run(command, env=environment, capture_output=True, text=True)
  measured = {}
  for text in ended.stdout.splitlines():
    line = json.loads(text)
    if line['name'] == 'ours/step':
      measured |= line
    elif 'mfu' in line:
      measured['mfu'] = line['mfu']
  if not measured:
    reason = (ended.stderr.strip().splitlines() or [f'status {ended.returncode}'])[-1]
    if ended.returncode == 2:
      raise UserError(reason.removeprefix('error: '))
    return {'skipped': reason[:300]}
  return measured
