"""MMEngine finds our members by the prefix alone, from its own scope and from others."""
import ast
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'mae_backbone'


def registered() -> list[tuple[str, str, str]]:
    """(registry, name of the file, name of the class) for each class of the package with a decorator of a registry."""
    found = []
    for path in sorted(PACKAGE.glob('**/*.py')):
        if path.parent.name in ('detection', 'segmentation'):  # need mmdet and mmseg: their configs import them
            continue
        file = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
        classes = [node for node in ast.walk(ast.parse(path.read_text('utf-8'))) if isinstance(node, ast.ClassDef)]
        for node in classes:
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            found += [(decorator.split('.')[0], file, node.name) for decorator in decorators
                      if '.register_module(' in decorator]
    return found


def test_all_members_are_found_in_a_fresh_interpreter_that_imported_nothing_of_ours():
    members = registered()
    assert len(members) > 8
    code = f'''
import warnings
warnings.simplefilter('ignore')
import mmengine.registry as parent
members = {members}
registries = {{name: getattr(parent, name) for name, _, _ in members}}
siblings = {{name: parent.Registry(name, parent=registry, scope='sibling')  # as those of mmdet and mmseg are
            for name, registry in registries.items()}}
for name, file, member in members:
    found = {{scope[name].get('mae_backbone.' + member) for scope in (registries, siblings)}}
    print([one.__module__ for one in found] == ['mae_backbone.' + file], name, member)
'''
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith('True')] == []
    assert len(lines) == len(members)


def test_locations_are_the_files_that_register_something():
    import mae_backbone.registry as ours
    for name in {name for name, *_ in registered()}:
        locations = getattr(ours, name)._locations
        assert all(find_spec(location) for location in locations)
        assert set(locations) == {f'mae_backbone.{file}' for registry, file, _ in registered() if registry == name}


def test_registry_imports_mmengine_registry_and_nothing_else():
    """MMEngine swallows an ImportError of this file."""
    tree = ast.parse((PACKAGE / 'registry.py').read_text('utf-8'))
    imports = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports == ['from mmengine import registry as mmengine_registry']


@pytest.mark.parametrize(('registry', 'new', 'old'), [
    ('DATASETS', 'UnlabeledImages', 'UnlabelledImages'), ('TRANSFORMS', 'ColorReader', 'ColourReader')])
def test_config_types_of_version_0_1_keep_their_names(registry: str, new: str, old: str):
    ours = getattr(importlib.import_module('mae_backbone.registry'), registry)
    assert ours.get(old) is ours.get(new) is not None
