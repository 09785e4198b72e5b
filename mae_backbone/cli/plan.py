"""Measure the data and the machine, and write a config with the reason for each setting.

examples:
  mae-backbone plan nuclei
  mae-backbone plan street --unlabeled drives --hours 8 -o street.py
  mae-backbone plan scans --task segmentation --pretrained mae_vit_base
"""
import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_plan_options, positive_int

if TYPE_CHECKING:
    from mae_backbone.planning.plan import WrittenPlan


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_plan_options(parser)
    parser.add_argument('-o', '--out', metavar='FILE',
                        help='config file to write (default: NAME.py, by the name of the folder)')
    parser.add_argument('--overwrite', action='store_true', help='replace files of an earlier plan')
    parser.add_argument('--estimate', action='store_true',
                        help='estimate the time of an iteration from the number of operations, without running any')
    parser.add_argument('--workers', type=positive_int, metavar='N',
                        help='files to read at the same time (default: the number of CPUs)')


def run(args: argparse.Namespace) -> 'WrittenPlan':
    """Runs the command."""
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.cli.write_plan import Writer, progress_bar
    from mae_backbone.planning.data_warnings import data_warnings
    from mae_backbone.planning.find_data import find_data
    from mae_backbone.planning.fingerprint import take_fingerprint
    from mae_backbone.planning.machine import measure_machine
    from mae_backbone.planning.plan import PlanOptions

    data = find_data(args.data, args.task, group_pattern=args.group_pattern or '')
    for line in data.notes:
        log_rank0(line)
    writer = Writer(data, _config_path(args.out, data.root), unlabeled=args.unlabeled, overwrite=args.overwrite)
    weights = None
    if args.pretrained:
        from mae_backbone.planning.weights import read_weights
        weights = read_weights(args.pretrained)
    count = len(data.classes)
    log_rank0(f'{data.root}: {data.task}' + f', {count} class{"es" * (count > 1)}' * bool(count))
    warnings = data_warnings(data)
    fingerprint = take_fingerprint(data, unlabeled=args.unlabeled, workers=args.workers, progress=progress_bar())
    machine = measure_machine(data.image_paths('train'))
    log_rank0(f'{machine.name}: {machine.cpus} CPUs, {machine.memory / 2**30:.1f} GB free, {machine.gflops:,.0f} '
              f'GFLOP/s, {machine.disk:,.0f} MB/s from disk')
    options = PlanOptions(hours=args.hours, weights=weights, has_peft=find_spec('peft') is not None)
    plan = writer.measured_plan(fingerprint, machine, options, estimate=args.estimate)
    plan.warnings += warnings
    for title, choices in plan.sections():
        log_rank0(f'{title}:')
        for choice in choices:
            log_rank0(f'  {choice}')
    for warning in plan.warnings:
        log_rank0(f'warning: {warning}')
    written = writer.write(plan, fingerprint, machine)
    log_rank0(f'\nreport: {written.report}')
    for line in writer.commands(plan):
        log_rank0(line)
    return written


def _config_path(out: str | None, root: str) -> Path:
    """File of the config.

    Raises:
        ValueError: the name does not end in .py, or would hide a package of Python.
    """
    path = Path(out or f'{Path(root).name or "own"}.py')
    if path.suffix != '.py':
        raise ValueError(f'--out {path}: a config is a file of Python, expected a name that ends in .py')
    return path
