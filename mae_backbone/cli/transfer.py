"""Compare how well pretrained encoders transfer: run a suite of tasks and write a report.

After an interruption the same command continues: finished cells are not run again. A cell that fails does not stop the
others; the exit code is then 1.

example:
  mae-backbone transfer quick --checkpoint MAE.pth --against random --data-root cifar10
  mae-backbone transfer quick --checkpoint MAE.pth --against timm:vit_small_patch14_dinov2=dinov2.safetensors
  mae-backbone transfer evidence --data-root DIR --length 0.1
"""
import argparse
import sys
from pathlib import Path

from mae_backbone.cli.options import positive_float, positive_int

RESUME_HINT = 'the same command continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('suite', metavar='SUITE',
                        help='quick, few-labels, small-sets, evidence, paper, or the path of a config')
    group = parser.add_argument_group('encoders')
    group.add_argument('--checkpoint', nargs='+', action='extend', default=[], metavar='FILE|RUN|timm:NAME=FILE',
                       help='encoders to evaluate: checkpoints, a work directory with several of them, a model of '
                            'timm with its file, or names of encoders of the suite; timm:NAME without a file downloads '
                            'the weights (default: the encoders of the suite)')
    group.add_argument('--against', nargs='+', action='extend', metavar='FILE|random|...',
                       help='encoders to compare with: the same, or random weights of the same architecture (default: '
                            'the encoders in `against` of the suite)')
    group = parser.add_argument_group('selection')
    group.add_argument('--data-root', type=Path, default='data', metavar='DIR',
                       help='folder that holds the data sets, or the only data set (default: %(default)s)')
    group.add_argument('--tasks', nargs='+', metavar='NAME', help='only these tasks of the suite')
    group.add_argument('--data', nargs='+', metavar='NAME', help='only these data sets of the suite')
    group.add_argument('--labels', nargs='+', type=float, metavar='FRACTION', help='only these fractions of the labels')
    group.add_argument('--seeds', nargs='+', type=int, metavar='N',
                       help='seeds (default: the seeds of the suite); more seeds give narrower intervals')
    group.add_argument('--length', type=positive_float, default=1.0, metavar='FACTOR',
                       help='multiply the length of every training by this, such as 0.1 for a first look')
    group = parser.add_argument_group('execution')
    group.add_argument('--work-dir', type=Path, metavar='DIR', help='output folder (default: work_dirs/transfer_SUITE)')
    group.add_argument('--gpus', metavar='0,1', help='run on these GPUs, one job on each (default: all)')
    group.add_argument('--jobs', type=positive_int, metavar='N',
                       help='run this many jobs at a time on CPUs (default without a GPU: one job per CPU)')
    group.add_argument('--slurm', nargs='+', metavar='KEY=VALUE',
                       help='run as Slurm jobs, such as slurm_partition=gpu gpus_per_node=1 timeout_min=600')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.cli.config import make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.transfer.run import run_transfer

    out = args.work_dir or Path('work_dirs', f'transfer_{Path(args.suite).stem}')
    make_folder(str(out), '--work-dir')
    failed, page = run_transfer(
        args.suite, args.checkpoint, args.against, data_root=args.data_root, work_dir=out, length=args.length,
        gpus=args.gpus, jobs=args.jobs, slurm=args.slurm,
        only={'tasks': args.tasks, 'data': args.data, 'labels': args.labels, 'seeds': args.seeds})
    for folder, text in failed.items():
        log_rank0(f'\nfailed: {folder}\n' + '\n'.join('   ' + line for line in text.strip().splitlines()))
    log_rank0(f'\nopen {page}')
    if failed:
        log_rank0(f'{len(failed)} cells failed; the same command tries them again')
        sys.exit(1)
