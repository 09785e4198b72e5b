"""Looks through a labeled data set before a training: reads every image, counts classes, draws some samples.

    python tools/check_data.py configs/detection/mask-rcnn_vitdet-b_100e_coco.py --data-root coco -o samples.png
"""
import os
import sys

from mae_backbone.cli import common as cli
from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import SPLITS, DataError, sources
from mae_backbone.planning.report import samples, survey
from mae_backbone.utils.image_grid import save_picture, side_by_side


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('-o', '--out', default='samples.png', help='the picture of samples (default: %(default)s)')
    parser.add_argument('--samples', type=int, default=8, help='images of each split that are drawn (default: 8)')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='images that are read at once')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    for line in cli.fit_to_data(cfg):
        cli.say(line)
    seen, problems, rows = set(), [], []
    for source in [source for split in SPLITS for source in sources(cfg, split)]:
        place = source.annotations or source.folder('img_path'), source.option('split')
        if place in seen:
            continue
        seen.add(place)
        try:
            check_data(cfg, splits=[source.split])
        except DataError as error:
            problems.append(str(error))
        for line in survey(source, workers=args.workers, progress=_bar(source.split)):
            cli.say(line)
        rows.append(samples(source, args.samples))
    if rows and any(rows):
        width = max(map(len, rows))
        blank = rows[0][0] * 0 + 255 if rows[0] else max(rows, key=len)[0] * 0 + 255
        save_picture(args.out, side_by_side([row + [blank] * (width - len(row)) for row in rows], [''] * width,
                                            height=280))
        cli.say(f'samples: {args.out}')
    if problems:
        raise DataError('; '.join(dict.fromkeys(problems)))
    cli.say('nothing that keeps from training')


def _bar(split: str) -> object:
    """A line that counts, on a terminal."""
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            share = 40 * done // total
            print(f'\r{split} [{"#" * share}{" " * (40 - share)}] {done:,}/{total:,}', end='\n' * (done == total),
                  file=sys.stderr, flush=True)
    return show


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
