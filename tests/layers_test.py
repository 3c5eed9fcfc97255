"""The packages of zsar_jax import one way: from themselves and from the layers below them."""

import ast
import collections
import graphlib
import pathlib

import zsar_jax

ROOT = pathlib.Path(zsar_jax.__file__).parent

# From the ground up. The packages of one layer do not import each other.
LAYERS = (
  ('errors',),
  ('runtime', 'recipes'),
  ('storage',),
  ('data',),
  ('models',),
  ('text', 'ops', 'datasets'),
  ('pantomime', 'mask_making'),
  ('config',),
  ('weights',),
  ('evaluation',),
  ('training',),
  ('study', 'performance'),
  ('experiment', 'api', 'command_line'),
  ('main',),
)
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}


def modules():
  """The files of the package by module name, without the linked folders `tools` and `configs`."""
  files = {}
  for folder in (ROOT, *(path for path in ROOT.iterdir() if path.is_dir())):
    if folder.is_symlink():
      continue
    for path in folder.glob('*.py') if folder == ROOT else folder.rglob('*.py'):
      names = path.relative_to(ROOT.parent).with_suffix('').parts
      files['.'.join(names[:-1] if names[-1] == '__init__' else names)] = path
  return files


def imports_of(path, files):
  """The modules of zsar_jax that a file imports, at its head or inside functions."""
  imported = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.ImportFrom) and node.module:
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        imported.add(name if name in files else node.module)
    elif isinstance(node, ast.Import):
      imported.update(alias.name for alias in node.names)
  return {name for name in imported if name.startswith('zsar_jax.')}


def package_of(module):
  return module.split('.')[1]


def test_every_package_has_a_layer():
  packages = {package_of(module) for module in modules() if module != 'zsar_jax'}
  assert packages == set(LEVEL)


def test_imports_run_one_way():
  files = modules()
  upward = []
  for module, path in files.items():
    if module == 'zsar_jax':
      continue
    for imported in imports_of(path, files):
      source, target = package_of(module), package_of(imported)
      if source != target and LEVEL[source] <= LEVEL[target]:
        upward.append(f'{module} imports {imported}')
  assert not upward


def test_no_import_circles():
  files = modules()
  graph = {module: imports_of(path, files) - {module} for module, path in files.items()}
  graphlib.TopologicalSorter(graph).prepare()


def test_file_names_are_unique():
  names = collections.Counter(path.name for path in modules().values())
  del names['__init__.py']
  assert [name for name, count in names.items() if count > 1] == []


def test_the_root_holds_the_entry_points_and_what_they_share():
  names = {path.name for path in ROOT.glob('*.py')}
  assert names == {
    '__init__.py',
    'api.py',
    'command_line.py',
    'config.py',
    'errors.py',
    'experiment.py',
    'main.py',
  }


def test_pytorch_stays_with_the_makers_of_masks():
  """Only functions of mask_making import it, and only tools import mask_making."""
  for module, path in modules().items():
    package = 'zsar_jax' if module == 'zsar_jax' else package_of(module)
    tree = ast.parse(path.read_text(encoding='utf-8'))
    nodes = ast.walk(tree) if package != 'mask_making' else ast.iter_child_nodes(tree)
    imported = {
      name.partition('.')[0]
      for node in nodes
      for name in (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [node.module or '']
        if isinstance(node, ast.ImportFrom)
        else []
      )
    }
    assert not imported & {'torch', 'torchvision', 'transformers'}, module
    if package != 'mask_making':
      makers = {name for name in imports_of(path, modules()) if package_of(name) == 'mask_making'}
      assert not makers, module
