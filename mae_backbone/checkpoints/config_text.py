"""Parses the text of the config in a checkpoint without executing it. Only literals are read."""
import ast
from typing import Any

# Our choice. Largest number of characters of a config. The largest configs of mmdet and mmseg have 40,000.
MAX_LENGTH = 4_000_000
# Names that MMEngine prints for floats that have no literal in Python.
_FLOATS = {'inf': float('inf'), 'nan': float('nan')}


def config_in(content: object) -> dict[str, Any]:
    """Returns the config in the content of a checkpoint; {} if it has none."""
    return parse_config(config_text_in(content))


def config_text_in(content: object) -> str:
    """Returns the text of the config in the content of a checkpoint (`meta.cfg`, as MMEngine writes); '' if none."""
    meta = content.get('meta') if isinstance(content, dict) else None
    text = meta.get('cfg') if isinstance(meta, dict) else None
    return text if isinstance(text, str) else ''


def parse_config(text: str) -> dict[str, Any]:
    """Returns the top-level values of a config in text style.

    Values other than literals and dict(...) are skipped. Returns {} for a text of more than `MAX_LENGTH` characters.
    """
    if len(text) > MAX_LENGTH:
        return {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = _literal(node.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                continue
    return values


def _literal(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            raise ValueError('a call of a function')
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id in _FLOATS:
        return _FLOATS[node.id]
    if node is None:
        raise ValueError('a dict that another one is unpacked into')
    return ast.literal_eval(node)
