"""Does a pretraining transfer, and better than another one? Runs a suite of tasks and reports.

    python tools/transfer.py quick --checkpoint MAE.pth --against random --data-root cifar10

SUITE is a file of configs/transfer, or the path of a config like those. Interrupted, the same command goes on: no cell
that is finished is run again. A cell that fails does not stop the others; the exit code is then 1.
"""
import argparse
import sys
from pathlib import Path

from mae_backbone.cli import common as cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite', help='quick, few-labels, paper, or the path of a config')
    parser.add_argument('--checkpoint', nargs='+', action='extend', required=True, metavar='FILE|RUN',
                        help='what is judged: checkpoints, or the work directory of a run with many of them')
    parser.add_argument('--against', nargs='+', action='extend', default=[], metavar='FILE|random',
                        help='what it is compared with: random weights of the same architecture, other checkpoints')
    parser.add_argument('--data-root', type=Path, default='data', metavar='DIR',
                        help='holds the folders of the data sets, or is the only one (default: %(default)s)')
    parser.add_argument('--tasks', nargs='+', metavar='NAME', help='only these tasks of the suite')
    parser.add_argument('--data', nargs='+', metavar='NAME', help='only these data sets of the suite')
    parser.add_argument('--labels', nargs='+', type=float, metavar='SHARE', help='only these shares of the labels')
    parser.add_argument('--seeds', nargs='+', type=int, metavar='N', help='only these seeds')
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help='default: work_dirs/transfer_SUITE')
    parser.add_argument('--gpus', metavar='0,1', help='run on these GPUs, a job on each (default: all that there are)')
    parser.add_argument('--jobs', type=int, metavar='N',
                        help='run on CPUs, so many jobs at a time, which share the processors (default, where there '
                             'is no GPU: one for each processor)')
    parser.add_argument('--slurm', nargs='+', metavar='KEY=VALUE',
                        help='run as jobs of Slurm, such as slurm_partition=gpu gpus_per_node=1 timeout_min=600')
    args = parser.parse_args()
    from mae_backbone.transfer.benchmark import run
    out = args.work_dir or Path('work_dirs', f'transfer_{Path(args.suite).stem}')
    cli.make_folder(str(out), '--work-dir')
    failed, page = run(args.suite, args.checkpoint, args.against, data_root=args.data_root, out=out,
                       root=Path(__file__).resolve().parents[1], gpus=args.gpus, jobs=args.jobs, slurm=args.slurm,
                       only={'tasks': args.tasks, 'data': args.data, 'labels': args.labels,
                             'seeds': args.seeds})
    for folder, text in failed.items():
        cli.say(f'\nfailed: {folder}\n' + '\n'.join('   ' + line for line in text.strip().splitlines()))
    cli.say(f'\nopen {page}')
    if failed:
        cli.say(f'{len(failed)} cells failed; the same command tries them again')
        sys.exit(1)


if __name__ == '__main__':
    cli.tool(main, again='the same command goes on')
