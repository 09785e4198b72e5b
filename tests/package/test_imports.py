"""Who imports whom: the core knows torch and timm alone, nothing knows mmdet or mmseg, and arrows go one way."""
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'mae_backbone'
# The path of the data, and what loads weights into it: each file may import those before it.
CORE = ('patches', 'masking', 'recompute', 'relative_bias', 'windows', 'attention_parts', 'attention', 'vit', 'decoder',
        'mae', 'array_pickle', 'checkpoint')
FILES = sorted('.'.join(file.relative_to(PACKAGE).with_suffix('').parts) for file in PACKAGE.glob('**/*.py')
               if file.stem != '__init__')
MODULES = {f'mae_backbone.{file}' for file in FILES}
TASKS = ('detection.', 'segmentation.')  # subclasses of mmdet's and mmseg's parts, imported by their configs alone
OPENMMLAB = {'mmengine', 'mmcv', 'mmdet', 'mmseg'}


def imported(file: str, *, anywhere: bool = False) -> set[str]:
    """Full names of what a file of the package imports, at its import or (`anywhere`) inside of functions too."""
    source = PACKAGE.joinpath(*file.split('.')).with_suffix('.py').read_text('utf-8')
    return set().union(*map(_names, _imports(ast.parse(source), anywhere)))


def _imports(node: ast.AST, anywhere: bool) -> list[ast.Import | ast.ImportFrom]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not anywhere:
        return []
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [node]
    return [found for child in ast.iter_child_nodes(node) for found in _imports(child, anywhere)]


def _names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    assert node.level == 0, 'imports of the package are absolute'
    if node.module.split('.')[0] == 'mae_backbone':  # of a file, or a file of a folder
        return {name if name in MODULES else node.module
                for name in (f'{node.module}.{alias.name}' for alias in node.names)}
    return {node.module}


def ours(names: set[str]) -> set[str]:
    return {name.removeprefix('mae_backbone.') for name in names if name.startswith('mae_backbone.')}


def fresh(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('place', range(len(CORE)), ids=CORE)
def test_the_core_imports_only_what_comes_before_it(place: int):
    names = imported(CORE[place], anywhere=True)
    assert ours(names) <= set(CORE[:place])
    assert not {name.split('.')[0] for name in names} & OPENMMLAB


@pytest.mark.parametrize('file', FILES)
def test_nothing_imports_mmdet_or_mmseg_at_import(file: str):
    if not file.startswith(TASKS):
        assert not {name.split('.')[0] for name in imported(file)} & {'mmdet', 'mmseg'}
        assert not [name for name in ours(imported(file)) if f'{name}.'.startswith(TASKS)]


def test_arrows_make_no_circle():
    """Files whose imports are all done are taken away, until none is left."""
    left = {file: ours(imported(file, anywhere=True)) & set(FILES) - {file} for file in FILES}
    while ready := {file for file, wanted in left.items() if not wanted & left.keys()}:
        for file in ready:
            del left[file]
    assert left == {}


def test_the_package_itself_and_then_the_core_load_nothing_of_openmmlab():
    lines = fresh(f'''
import sys, importlib
import mae_backbone
print(sorted({OPENMMLAB | {'torch', 'timm'}} & sys.modules.keys()))
for name in {CORE}:
    importlib.import_module('mae_backbone.' + name)
    print(sorted({OPENMMLAB} & sys.modules.keys()))
''').splitlines()
    assert lines == ['[]'] * (1 + len(CORE))


def test_no_file_loads_mmdet_or_mmseg_by_others():
    # mmcv_ext is imported as `mmcv._ext` alone
    files = [file for file in FILES if file != 'mmcv_ext' and not file.startswith(TASKS)]
    assert fresh(f'''
import sys, importlib
for name in {files}:
    importlib.import_module('mae_backbone.' + name)
    print(*[name + ' loads ' + other for other in ('mmdet', 'mmseg') if other in sys.modules], end='')
''') == ''
