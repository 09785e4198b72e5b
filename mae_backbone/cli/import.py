"""Read a labeled data set in any layout and write it in another one.

Layouts are recognized: Pascal VOC, YOLO, labelme, CVAT, VIA, Create ML, COCO, JSON Lines, CSV lists, label maps, class
folders.

examples:
  mae-backbone import voc_boxes coco_boxes --to coco
  mae-backbone import labelme_polygons streets --to labelmaps --link
"""
import argparse
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_group_pattern

if TYPE_CHECKING:
    from mae_backbone.formats.import_data import Imported

# As in formats/import_data.py, which is not imported here: it imports mmengine.
_TARGETS = ('coco', 'labelmaps', 'folders', 'yolo', 'voc')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('source', metavar='SRC', help='folder of the data set')
    parser.add_argument('out', metavar='DST', help='folder to write, which must not exist or be empty')
    parser.add_argument('--to', required=True, choices=_TARGETS,
                        help='layout of the result: COCO, label maps with classes.txt, class folders, YOLO, Pascal VOC')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--copy', action='store_true', help='copy the images (default)')
    group.add_argument('--link', action='store_true', help='make links to the images, which must then stay where '
                                                           'they are')
    add_group_pattern(parser)


def run(args: argparse.Namespace) -> 'Imported':
    """Runs the command; returns its report."""
    from mae_backbone.formats.import_data import import_data
    result = import_data(args.source, args.out, args.to, link=args.link, pattern=args.group_pattern or '')
    for line in [*result.lines, f'written: {args.out}', *(f'next: {line}' for line in result.next)]:
        print(line)
    return result
