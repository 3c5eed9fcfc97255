"""Prompts: class names written into sentences."""

from collections.abc import Sequence

from zsar_jax.errors import UserError


def fill_templates(
  classes: Sequence[str], templates: Sequence[str], field: str = 'config.text.templates'
) -> list[list[str]]:
  """Writes each class name into each template.

  Args:
    classes: C class names, used as they are.
    templates: P templates such as 'a video of a person {}.', with '{}' where the name goes.
    field: the setting with the templates, for errors.

  Returns:
    [P][C] texts.

  Raises:
    UserError: there is no template, or one has not exactly one '{}'.
  """
  if not templates:
    raise UserError(f"{field}: there is none; ('{{}}',) gives bare class names")
  for template in templates:
    if template.count('{}') != 1:
      raise UserError(
        f"{field}: {template!r} must hold '{{}}', the place of the class name, exactly once"
      )
  return [[template.replace('{}', name) for name in classes] for template in templates]
