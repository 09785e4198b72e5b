"""The result of `benchmark gpu` as text: a line for each check, and a Markdown report."""
from typing import Any


def line(name: str, result: dict[str, Any]) -> str:
    """A check on one line."""
    state = next((f'{key}: {result[key]}' for key in ('error', 'skipped') if key in result), 'ok')
    return f'{name}: {state} ({result["seconds"]:.1f} s)'


def markdown(result: dict[str, Any]) -> str:
    """A Markdown report: a heading and a table for each check."""
    parts = [f'`{result["command"]}`']
    for name, check in result['checks'].items():
        parts.append(f'### {name}')
        parts += [f'{key}: {check[key]}' for key in ('error', 'skipped') if key in check]
        if check['rows']:
            parts.append(table(check['rows']))
    return '\n\n'.join(parts)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Rows of figures -> a Markdown table, with a column for each figure that any row has."""
    columns = list(dict.fromkeys(column for figures in rows.values() for column in figures))
    lines = [['', *columns], ['---'] * (1 + len(columns))]
    lines += [[name, *(cell(figures.get(column, '')) for column in columns)] for name, figures in rows.items()]
    return '\n'.join('| ' + ' | '.join(words) + ' |' for words in lines)


def cell(value: Any) -> str:
    """A figure as text, with three digits."""
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'
    return str(value).replace('|', '/')
