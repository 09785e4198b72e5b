"""Report of loaded weights: format, and mapped, resized, left out, missing and assumed parts."""
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field

_LOGGER = 'mae_backbone'


@dataclass
class LoadReport:
    """Report of loaded weights.

    Attributes:
        path: of the file or folder.
        layout: title of its layout.
        prefix: of the ViT in it.
        num_mapped: number of tensors of the model that were set.
        num_read: number of tensors of the file that they came from.
        choice: which of several sets of weights was taken; empty if there was one.
        resized: name of a tensor -> how it was resized.
        left_out: names of the file that were not used.
        missing: names of the model that the file lacks, which keep their initial values.
        notes: properties that shapes do not show: heads, normalization of the pixels, activation, pooling.
        warnings: the same, if it needs attention.
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
        """The report as a short block, one line for each kind."""
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
        """Tables of relative positions that changed alike are counted, not listed."""
        tables = Counter(how for name, how in self.resized.items() if is_table(name))
        return ([f'{name} {how}' for name, how in self.resized.items() if not is_table(name)]
                + [f'{number} tables of relative positions {how}' for how, number in tables.items()])


def is_table(name: str) -> bool:
    """True if a name is a table of relative positions."""
    return name.endswith(('rel_pos_h', 'rel_pos_w', 'relative_position_bias_table'))


def _missing(names: list[str]) -> str:
    tables = [name for name in names if is_table(name)]
    others = [name for name in names if not is_table(name)]
    return '; '.join(
        [f'{len(tables)} tables of relative positions start at zero'] * bool(tables)
        + [f'{len(others)} tensors start as in a new model: {_groups(others)}'] * bool(others))


def _groups(names: list[str]) -> str:
    """Names by their first parts with counts, such as `decoder_blocks (96), head (2)`."""
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
    """Prints a report to the log of a run, also in the tools of mmdet and mmseg, and otherwise to stderr.

    Our Runner gives the logger of the package its handlers. Other runners of MMEngine do not, and log by an MMLogger.
    """
    level = logging.WARNING if report.warnings else logging.INFO
    logger = logging.getLogger(_LOGGER)
    if logger.isEnabledFor(level) and logger.hasHandlers():
        logger.log(level, '%s', report)
        return
    from mmengine.logging import MMLogger
    if MMLogger._instance_dict:  # a run of MMEngine; without one, `get_current_instance` would start a logger
        MMLogger.get_current_instance().log(level, str(report))
        return
    print(report, file=sys.stderr)
