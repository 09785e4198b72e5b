"""Run the whole path on generated images: pretraining, detection, segmentation, classification, and a report.

Downloads nothing and takes ten to fifteen minutes on two CPU cores. After an interruption the same command continues.

example:
  mae-backbone quickstart
"""
import argparse
from pathlib import Path

from mae_backbone.cli.options import positive_float

RESUME_HINT = 'the same command continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('--images', type=Path, metavar='DIR',
                        help='pretrain on the images of this folder instead of the generated ones')
    parser.add_argument('--length', type=positive_float, default=1.0, metavar='FACTOR',
                        help='multiply the iterations of all trainings; 0.05 checks an installation in a few minutes, '
                             'with meaningless results')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'), metavar='DIR',
                        help='output folder (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.cli.config import make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.files import list_images
    from mae_backbone.quickstart.steps import quickstart
    from mae_backbone.utils.cpu import available_cpus

    if args.images:
        log_rank0(f'{len(list_images(args.images)):,} images in {args.images}')
    make_folder(str(args.work_dir), '--work-dir')
    log_rank0(f'quickstart: {available_cpus()} CPUs, results go to {args.work_dir}')
    page = quickstart(args.work_dir, images=args.images, length=args.length)
    log_rank0(f'\nopen {page}\nnext: mae-backbone pretrain quickstart_mae --data-root YOUR/IMAGES')
