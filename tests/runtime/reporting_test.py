"""Error messages of programs, and their exit status."""

import errno
import os

import pytest

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.reporting import exit_on_user_error


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (UserError('config.seed: no'), 'error: config.seed: no\n'),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'runs/a'), 'runs/a: No space left'),
    (OSError(errno.EROFS, os.strerror(errno.EROFS)), 'a file: Read-only file system; make room'),
    (NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), 'a/b'), 'a/b: Not a directory'),
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE), 'a'), 'a: Too many open files; raise the li'),
    (FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), 'a'), 'a: File exists'),
  ],
)
def test_one_sentence(capsys, error, words):
  with pytest.raises(SystemExit) as end, exit_on_user_error():
    raise error
  assert end.value.code == 2
  err = capsys.readouterr().err
  assert words in err
  assert err.count('\n') == 1


@pytest.mark.parametrize(
  'error', [ValueError('x'), OSError(errno.ECONNRESET, 'gone'), AssertionError(), RuntimeError('x')]
)
def test_defects_keep_their_traceback(error):
  with pytest.raises(type(error)), exit_on_user_error():
    raise error


def test_the_first_line_is_cut_between_words():
  error = ValueError('\n' + 'forty words ' * 40 + '\nmore')
  assert first_line(error) == ('forty words ' * 17)[:197] + ' ...'
  assert first_line(ValueError('short\nmore')) == 'short'
  assert first_line(KeyError()) == 'KeyError'
  assert first_line(ValueError('x' * 300)) == 'x' * 200 + ' ...'
