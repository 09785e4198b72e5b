"""Shows the whole path on generated scenes: pretraining, detection, segmentation, classification, and a report.

    python tools/quickstart.py

No download; about ten minutes on two processors. Interrupted, the same command goes on where it was.
"""
import argparse
from pathlib import Path

from mae_backbone.cli import common as cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=Path, metavar='DIR', help='pretrain on this folder instead of the scenes')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/quickstart', help='default: %(default)s')
    args = parser.parse_args()
    from mae_backbone.data.files import list_images
    from mae_backbone.quickstart.steps import quickstart
    from mae_backbone.utils.cpu import available_processors
    if args.images:
        cli.say(f'{len(list_images(args.images)):,} images in {args.images}')
    cli.make_folder(str(args.work_dir), '--work-dir')
    cli.say(f'quickstart: {available_processors()} processors, results go to {args.work_dir}')
    page = quickstart(args.work_dir, root=Path(__file__).resolve().parents[1], images=args.images)
    cli.say(f'\nopen {page}\nnext: python tools/pretrain.py configs/demo/quickstart_mae.py --data-root YOUR/IMAGES')


if __name__ == '__main__':
    cli.tool(main, again='the same command goes on')
