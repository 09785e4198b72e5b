"""Plan, pretrain, train, test and report, in one command that continues where it stopped.

examples:
  mae-backbone auto nuclei --hours 1
  mae-backbone auto street --unlabeled drives --work-dir work_dirs/street --hours 8
"""
import argparse
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_plan_options

if TYPE_CHECKING:
    from mae_backbone.cli.python_api import TrainingRun

RESUME_HINT = 'the same command continues: finished steps are not repeated'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_plan_options(parser)
    parser.add_argument('--work-dir', metavar='DIR',
                        help='folder of all results (default: work_dirs/auto_NAME, by the name of the folder)')


def run(args: argparse.Namespace) -> 'TrainingRun':
    """Runs the command; returns the last training, with the metrics of the test."""
    from mae_backbone.cli.auto_steps import AutoRun
    from mae_backbone.cli.config import locked_work_dir, make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.cli.python_api import TrainingRun

    folder = Path(args.work_dir or Path('work_dirs', f'auto_{Path(args.data).resolve().name}'))
    make_folder(folder, '--work-dir')
    options = {name: getattr(args, name) for name in ('task', 'unlabeled', 'pretrained', 'hours', 'group_pattern')}
    with locked_work_dir(folder):
        steps = AutoRun(folder, args.data, options)
        results = steps.run()
    log_rank0(f'\nreport: {steps.report}')
    assert steps.checkpoint is not None
    checkpoint = quote(str(steps.checkpoint))
    log_rank0(f'next: mae-backbone predict {checkpoint} IMAGE|FOLDER -o predictions' if results else
              f'next: mae-backbone visualize {checkpoint} IMAGE|FOLDER')
    return TrainingRun(folder, steps.checkpoint, results)
