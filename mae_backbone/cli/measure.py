"""Measure the mean and standard deviation of each channel, and print them as config lines.

examples:
  mae-backbone measure YOUR/IMAGES
  mae-backbone measure YOUR/IMAGES --reader mae_backbone.TiffReader channels=13 dtype=uint16
"""
import argparse
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_reader, positive_int, reader_config

if TYPE_CHECKING:
    from mae_backbone.data.mean_std import PixelStatistics

_DEFAULT_READER = ['mae_backbone.ColorReader']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('data', metavar='DATA',
                        help='folder of images, list of files (.txt), shard (.tar) or folder of shards')
    parser.add_argument('--images', type=positive_int, default=2000, metavar='N',
                        help='number of images to read, evenly spaced (default: %(default)s)')
    add_reader(parser, _DEFAULT_READER)


def run(args: argparse.Namespace) -> 'PixelStatistics':
    """Runs the command; returns the statistics."""
    config = reader_config(args.reader)
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.mean_std import measure
    from mae_backbone.data.sources import open_source
    from mae_backbone.registry import TRANSFORMS
    from mae_backbone.utils.printable import printable

    reader = TRANSFORMS.build(dict(config))
    pixels = measure(open_source(args.data, suffixes=reader.suffixes), reader, images=args.images)
    for line in pixels.bad[:5]:
        log_rank0(f'left out: {printable(line)}')
    if pixels.warning:
        log_rank0(f'warning: {pixels.warning}')
    log_rank0(f'{pixels.images:,} images of {reader.channels} channels ({reader.dtype}), {len(pixels.bad)} left out. '
              'In the config:\n')
    mean, std = ([round(float(value), 2) for value in values] for values in (pixels.mean, pixels.std))
    channels = '' if reader.channels == 3 else f'encoder=dict(in_channels={reader.channels}), '
    log_rank0(f'model = dict({channels}data_preprocessor=dict(mean={mean}, std={std}))')
    if args.reader != _DEFAULT_READER:
        settings = ', '.join(f'{key}={value!r}' for key, value in config.items())
        log_rank0(f'train_dataloader = dict(dataset=dict(reader=dict({settings})))')
    return pixels
