"""Writes class names into prompt templates."""

from collections.abc import Sequence

from zsar_jax.errors import UserError


def fill_templates(
  classes: Sequence[str], templates: Sequence[str], field: str = 'templates'
) -> list[list[str]]:
  """Writes each class name into each template.

  Args:
    classes: C class names, used as they are.
    templates: P sentences such as 'a video of a person {}.', with '{}' for the name.
    field: what errors call the setting that the templates come from.

  Returns:
    [P][C] texts.

  Raises:
    UserError: if there is no template, or a template does not have exactly one '{}'.
  """
  if not templates:
    raise UserError(f"{field}: there is none; ('{{}}',) gives bare class names")
  for template in templates:
    if template.count('{}') != 1:
      raise UserError(
        f"{field}: {template!r} must contain '{{}}', which stands for the class name, exactly once"
      )
  return [[template.replace('{}', name) for name in classes] for template in templates]
