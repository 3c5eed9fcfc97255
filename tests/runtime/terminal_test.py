"""Names from strangers cannot control the terminal."""

import io
import sys

import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime import terminal
from zsar_jax.runtime.reporting import exit_on_user_error


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('\x1b]0;title\x07', '\\x1b]0;title\\x07'),
    ('\x9b31m', '\\x9b31m'),  # The same as ESC [, in one character.
    ('right\rwrong', 'right\\rwrong'),
    ('a\x08b\x7f', 'a\\x08b\\x7f'),
    ('abc\u202egpm.exe', 'abc\\u202egpm.exe'),
    ('tab\tand line\n', 'tab\tand line\n'),
    ('Ünïcode 射箭 हिन्दी 😀', 'Ünïcode 射箭 हिन्दी 😀'),
  ],
)
def test_control_characters_are_written_out(text, shown):
  assert terminal.escape_control_chars(text) == shown


def test_all_output_is_filtered(monkeypatch):
  out, err = io.StringIO(), io.StringIO()
  monkeypatch.setattr(sys, 'stdout', out)
  monkeypatch.setattr(sys, 'stderr', err)
  terminal.escape_output()
  terminal.escape_output()  # Twice, as when programs call each other.
  print('a \x1b[31mclass')
  sys.stdout.writelines(['\x1b', '[0m\n'])
  with pytest.raises(SystemExit), exit_on_user_error():
    raise UserError('clip \x1b[2J: damaged')
  assert out.getvalue() == 'a \\x1b[31mclass\n\\x1b[0m\n'
  assert err.getvalue() == 'error: clip \\x1b[2J: damaged\n'
  assert not sys.stdout.isatty()


def test_letters_that_the_terminal_cannot_encode(monkeypatch):
  written = io.BytesIO()
  monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(written, encoding='ascii', errors='strict'))
  terminal.escape_output()
  print('射 \udcff')
  sys.stdout.flush()
  assert written.getvalue() == b'\\u5c04 \\udcff\n'
