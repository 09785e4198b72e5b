"""Check a data set before training: read every image, count classes and objects, draw samples.

example:
  mae-backbone check mask-rcnn_vitdet-b_100e_coco --data-root coco -o samples.png
"""
import argparse
import sys
from collections.abc import Callable

from mae_backbone.cli.options import add_config_options, add_group_pattern, add_reader, natural, positive_int
from mae_backbone.utils.cpu import available_cpus


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_reader(add_config_options(parser))
    group = parser.add_argument_group('check')
    group.add_argument('-o', '--out', default='samples.png', metavar='FILE',
                       help='image file for the samples (default: %(default)s)')
    add_group_pattern(group)
    group.add_argument('--samples', type=natural, default=8, metavar='N',
                       help='images of each split to draw (default: %(default)s)')
    group.add_argument('--workers', type=positive_int, default=available_cpus(), metavar='N',
                       help='images to read at the same time (default: the number of CPUs, %(default)s here)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.cli.config import adapt_classes, load_config, reader_lines
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.formats.check import check_data
    from mae_backbone.formats.dataset_spec import SPLITS, DataError, dataset_specs
    from mae_backbone.formats.registry import format_of
    from mae_backbone.planning.bands import check_bands
    from mae_backbone.planning.report import samples, survey
    from mae_backbone.utils.image_grid import add_legend, save_picture, side_by_side

    cfg = load_config(args)
    lines = reader_lines(cfg, args)
    check_bands(cfg)
    for line in lines + adapt_classes(cfg):
        log_rank0(line)
    seen, problems, rows = set(), [], []
    colors: dict[str, tuple[int, int, int]] = {}
    for spec in [spec for split in SPLITS for spec in dataset_specs(cfg, split)]:
        key = spec.annotations or spec.folder('img_path'), spec.option('split')
        if key in seen:
            continue
        seen.add(key)
        lines = []
        try:
            lines += check_data(cfg, splits=[spec.split])
        except DataError as error:
            problems.append(str(error))
        lines += survey(spec, workers=args.workers, progress=_progress_bar(spec.split))
        for line in lines:
            log_rank0(line)
        rows.append(samples(spec, args.samples))
        colors |= format_of(spec).colors()
    if rows and any(rows):
        width = max(map(len, rows))
        blank = rows[0][0] * 0 + 255 if rows[0] else max(rows, key=len)[0] * 0 + 255
        picture = side_by_side([row + [blank] * (width - len(row)) for row in rows], [''] * width, height=280)
        save_picture(args.out, add_legend(picture, list(colors), list(colors.values())))
        log_rank0(f'samples: {args.out}')
    if problems:
        raise DataError('; '.join(dict.fromkeys(problems)))
    log_rank0('the data can be used for training')


def _progress_bar(split: str) -> Callable[[int, int], None]:
    """Returns a function of (images read, all images) that draws a progress bar if stderr is a terminal."""
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            filled = 40 * done // total
            print(f'\r{split} [{"#" * filled}{" " * (40 - filled)}] {done:,}/{total:,}', end='\n' * (done == total),
                  file=sys.stderr, flush=True)
    return show
