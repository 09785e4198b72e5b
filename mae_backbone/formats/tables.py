"""Tables of class frequencies for reports."""
from collections.abc import Mapping

from mae_backbone.formats.messages import first_few
from mae_backbone.utils.printable import printable

_NUM_ROWS = 20


def frequency_table(counts: Mapping[str, int], unit: str) -> list[str]:
    """Lists the most frequent classes with their percentages, and names the classes without any.

    Args:
        counts: by class name.
        unit: name of the counted things, such as 'boxes'.
    """
    total = sum(counts.values()) or 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    absent = [name for name, count in ranked if not count]
    lines = [f'    {printable(name):<24.24} {count:>12,} {unit} {count / total:6.1%}'
             for name, count in ranked[:_NUM_ROWS] if count]
    if len(ranked) - len(absent) > _NUM_ROWS:
        lines.append(f'    and {len(ranked) - len(absent) - _NUM_ROWS} more classes')
    return lines + ([f'{len(absent)} classes without {unit} ({first_few(absent)})'] if absent else [])
