"""Reads the config that a checkpoint of this package carries, without executing it."""
import ast
from typing import Any


def config_in(content: object) -> dict[str, Any]:
    """Returns the config in a checkpoint of this package, or {}. Its text is parsed and never executed."""
    meta = content.get('meta') if isinstance(content, dict) else None
    text = meta.get('cfg') if isinstance(meta, dict) else None
    return parse_config(text) if isinstance(text, str) else {}


def parse_config(text: str) -> dict[str, Any]:
    """Returns the top-level values of a config in text style. Values other than literals and dict(...) are left out."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = _literal(node.value)
            except (ValueError, TypeError, RecursionError):
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
        return [_literal(item) for item in node.elts]
    if node is None:
        raise ValueError('a dict that another one is unpacked into')
    return ast.literal_eval(node)
