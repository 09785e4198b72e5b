"""Results of each class as a table, for the log and for a file."""
import csv
import io
import math
from collections.abc import Mapping

MAX_ROWS = 40  # our choice: of a table in the log

# Class -> column -> value: a count (int) or a score (float). All classes have the same columns.
ClassTable = dict[str, dict[str, float]]


def merged(*tables: ClassTable) -> ClassTable:
    """Returns one table with the columns of all; classes in the order of their first appearance."""
    rows: ClassTable = {}
    for table in tables:
        for name, row in table.items():
            rows[name] = rows.get(name, {}) | row
    return rows


def columns_of(table: ClassTable) -> list[str]:
    """Names of all columns in the order of their first appearance."""
    return list(dict.fromkeys(column for row in table.values() for column in row))


def to_csv(table: ClassTable) -> str:
    """Comma-separated values with a line for each class. Values that were not measured are empty."""
    columns, file = columns_of(table), io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['class', *columns])
    for name, row in table.items():
        writer.writerow([name, *('' if math.isnan(value) else round(value, 4) for value in _cells(row, columns))])
    return file.getvalue()


def to_text(table: ClassTable) -> str:
    """Columns of text. With more than 40 classes, the ones with the lowest last score."""
    columns, names = columns_of(table), list(table)
    note = ''
    if len(names) > MAX_ROWS:
        worst = columns[-1]
        scores = {name: row.get(worst, math.nan) for name, row in table.items()}
        measured = [name for name in names if not math.isnan(scores[name])]
        names = sorted(measured, key=lambda name: scores[name])[:MAX_ROWS]
        note = f'the {len(names)} of {len(table)} classes with the lowest {worst}'
    rows = [['class', *columns], *([name, *map(_text, _cells(table[name], columns))] for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns) + 1)]
    lines = [row[0].ljust(widths[0]) + ''.join(f'  {cell:>{width}}' for cell, width in zip(
        row[1:], widths[1:], strict=True)) for row in rows]
    return '\n'.join([*lines, *([note] if note else [])])


def _cells(row: Mapping[str, float], columns: list[str]) -> list[float]:
    return [row.get(column, math.nan) for column in columns]


def _text(value: float) -> str:
    if math.isnan(value):
        return '-'
    return f'{value:,}' if isinstance(value, int) else f'{value:.1f}'
