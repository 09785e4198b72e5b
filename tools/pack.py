"""Packs images into shards (WebDataset tar files), smaller ones on request, for faster loading.

    python tools/pack.py SOURCE OUT --short-side 256

SOURCE is a folder of images, a list of files (.txt) or shards. Interrupted, the same command goes on.
"""
import argparse

from mae_backbone.cli import common as cli
from mae_backbone.utils.cpu import available_processors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='folder of images, list of files (.txt), shard (.tar) or folder of shards')
    parser.add_argument('out', help='folder for the shards')
    parser.add_argument('--short-side', type=int, metavar='PIXELS', help='make larger images this small (default: no)')
    parser.add_argument('--shard-size', type=int, default=1000, metavar='IMAGES', help='default: %(default)s')
    parser.add_argument('--quality', type=int, default=92, help='of JPEGs that are made smaller (default: %(default)s)')
    parser.add_argument('--classes', action='store_true', help='keep the class folders as labels (.cls members)')
    parser.add_argument('--workers', type=int, default=available_processors(), metavar='N', help='default: %(default)s')
    parser.add_argument('--verify', action='store_true', help='read all that was packed and compare it')
    args = parser.parse_args()
    from mae_backbone.data.pack import BAD_IMAGES, Packing, pack, verify
    from mae_backbone.data.sources import open_source
    packing = Packing(short_side=args.short_side, shard_size=args.shard_size, quality=args.quality,
                      classes=args.classes)
    source = open_source(args.source)
    cli.make_folder(args.out, 'OUT')
    cli.say(f'{len(source):,} images in {args.source}, {args.workers} workers')
    manifest = pack(source, args.out, packing, workers=args.workers)
    size = sum(shard['bytes'] for shard in manifest['shards'])
    cli.say(f'{manifest["images"]:,} images in {len(manifest["shards"])} shards, {size / 1e9:.2f} GB')
    if manifest['bad']:
        cli.say(f'left out: {manifest["bad"]:,} images that cannot be read, listed in {args.out}/{BAD_IMAGES}')
    if args.verify:
        cli.say(f'verified: all {verify(args.out):,} images decode, and no shard has changed')
    cli.say(f'next: python tools/pretrain.py CONFIG --data-root {args.out}')


if __name__ == '__main__':
    cli.tool(main, again='the same command goes on')
