"""Report about loaded weights: format, tensors that were mapped, resized, left out or missing, and assumptions."""
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field

_LOGGER = 'mae_backbone'


@dataclass
class LoadReport:
    """Report about loaded weights.

    Attributes:
        path: path of the file or folder.
        layout: title of the layout of the file.
        prefix: prefix of the names of the ViT in the file.
        num_mapped: number of tensors of the model that were loaded.
        num_read: number of tensors of the file from which they were loaded.
        choice: text about the selected weights, if the file has several sets of weights; otherwise ''.
        resized: text about each resized tensor by its name.
        left_out: names of tensors of the file that were not used.
        missing: names of tensors of the model that the file does not have. They keep their initial values.
        notes: notes about properties that shapes do not show: heads, normalization of the pixels, activation, pooling.
        warnings: notes that need attention.
    """

    path: str
    layout: str
    prefix: str
    num_mapped: int = 0
    num_read: int = 0
    choice: str = ''
    resized: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Returns the report as text, with a line for each kind of information."""
        prefix = f', prefix {self.prefix!r}' if self.prefix else ''
        lines = [f'weights from {self.path}', f'  format    {self.layout}{prefix}']
        if self.choice:
            lines.append(f'  taken     {self.choice}')
        lines.append(f'  mapped    {self.num_mapped} tensors of the encoder, from {self.num_read} of the file')
        lines += [f'  resized   {line}' for line in self._resized()]
        if self.left_out:
            names = [name.removeprefix(self.prefix) for name in self.left_out]
            lines.append(f'  left out  {len(names)} tensors of the file: {_groups(names)}')
        if self.missing:
            lines.append(f'  missing   {_missing(self.missing)}')
        lines += [f'  note      {line}' for line in self.notes] + [f'  warning   {line}' for line in self.warnings]
        return '\n'.join(lines)

    def _resized(self) -> list[str]:
        """Returns lines about resized tensors. Tables of relative positions with the same change share a line."""
        tables = Counter(how for name, how in self.resized.items() if is_table(name))
        return ([f'{name} {how}' for name, how in self.resized.items() if not is_table(name)]
                + [f'{number} tables of relative positions {how}' for how, number in tables.items()])


def is_table(name: str) -> bool:
    """True if a name is the name of a table of relative positions."""
    return name.endswith(('rel_pos_h', 'rel_pos_w', 'relative_position_bias_table'))


def _missing(names: list[str]) -> str:
    tables = [name for name in names if is_table(name)]
    others = [name for name in names if not is_table(name)]
    return '; '.join(
        [f'{len(tables)} tables of relative positions start at zero'] * bool(tables)
        + [f'{len(others)} tensors start as in a new model: {_groups(others)}'] * bool(others))


def _groups(names: list[str]) -> str:
    """Groups names by their first part, with counts, such as `decoder_blocks (96), head (2)`."""
    prefix = _common_prefix(names)
    counts = Counter(name.removeprefix(prefix).split('.')[0] for name in names)
    texts = [f'{prefix}{group} ({number})' if number > 1 else f'{prefix}{group}' for group, number in counts.items()]
    return ', '.join(texts[:8]) + (f' and {len(texts) - 8} more' if len(texts) > 8 else '')


def _common_prefix(names: list[str]) -> str:
    parts = [name.split('.')[:-1] for name in names]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ''.join(part + '.' for part in common[:-1] if part)


def say(report: LoadReport) -> None:
    """Writes a report to the log of the run; without a run, prints it to stderr.

    Our Runner adds handlers to the logger of this package. Other runners of MMEngine, such as in the tools of mmdet and
    mmseg, do not. In this case the report is written to their MMLogger.
    """
    level = logging.WARNING if report.warnings else logging.INFO
    logger = logging.getLogger(_LOGGER)
    if logger.isEnabledFor(level) and logger.hasHandlers():
        logger.log(level, '%s', report)
        return
    from mmengine.logging import MMLogger
    if MMLogger._instance_dict:  # there is a run of MMEngine: otherwise `get_current_instance` would make a new logger
        MMLogger.get_current_instance().log(level, str(report))
        return
    print(report, file=sys.stderr)
