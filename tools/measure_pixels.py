"""Measures mean and standard deviation of each channel, and prints them as a config wants them.

    python tools/measure_pixels.py DATA
    python tools/measure_pixels.py DATA --reader mae_backbone.TiffReader channels=13 dtype=uint16
"""
import argparse
import ast

from mae_backbone.cli import common as cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', help='folder of images, list of files (.txt), shard (.tar) or folder of shards')
    parser.add_argument('--images', type=int, default=2000, help='how many to look at (default: %(default)s)')
    parser.add_argument('--reader', nargs='+', default=['mae_backbone.ColorReader'], metavar='TYPE [KEY=VALUE]',
                        help='what reads the files, as in the config (default: colors of 8 bits)')
    args = parser.parse_args()
    if args.images < 1:
        raise ValueError(f'--images {args.images}, wanted 1 or more')
    from mae_backbone.data.mean_std import measure
    from mae_backbone.data.sources import open_source
    from mae_backbone.registry import TRANSFORMS
    config = {'type': args.reader[0], **dict(map(_setting, args.reader[1:]))}
    reader = TRANSFORMS.build(dict(config))
    found = measure(open_source(args.data, suffixes=reader.suffixes), reader, images=args.images)
    for line in found.bad[:5]:
        cli.say(f'left out: {line}')
    cli.say(f'{found.images:,} images of {reader.channels} channels ({reader.dtype}), {len(found.bad)} left out. '
            'In the config:\n')
    numbers = {name: [round(float(value), 2) for value in values]
               for name, values in (('mean', found.mean), ('std', found.std))}
    channels = '' if reader.channels == 3 else f'encoder=dict(in_channels={reader.channels}), '
    cli.say(f'model = dict({channels}data_preprocessor=dict(mean={numbers["mean"]}, std={numbers["std"]}))')
    if args.reader != ['mae_backbone.ColorReader']:
        settings = ', '.join(f'{key}={value!r}' for key, value in config.items())
        cli.say(f'train_dataloader = dict(dataset=dict(reader=dict({settings})))')


def _setting(text: str) -> tuple[str, object]:
    """'channels=[3,2,1]' -> ('channels', [3, 2, 1]); what is no number or list is a string."""
    key, equals, value = text.partition('=')
    if not equals:
        raise ValueError(f'--reader {text}: wanted KEY=VALUE, such as channels=4')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
