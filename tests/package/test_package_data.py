"""Data files in the package: each is in `package_data` of setup.py, so that it travels in the wheel."""
import ast
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_data_file_travels_in_the_wheel():
    keywords = [node for node in ast.walk(ast.parse((ROOT / 'setup.py').read_text()))
                if isinstance(node, ast.keyword) and node.arg == 'package_data']
    patterns = ast.literal_eval(keywords[0].value)['mae_backbone']
    package = ROOT / 'mae_backbone'
    files = [path.relative_to(package).as_posix() for path in package.rglob('*')
             if path.is_file() and path.suffix not in ('.py', '.pyc') and '.mim' not in path.parts]
    assert 'checkpoints/model_index.json' in files
    assert [file for file in files if not any(fnmatch(file, pattern) for pattern in patterns)] == []
