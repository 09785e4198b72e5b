"""Pack images into shards (WebDataset tar files), optionally smaller ones, for faster loading.

After an interruption the same command continues.

example:
  mae-backbone pack YOUR/IMAGES shards --short-side 256
"""
import argparse

from mae_backbone.cli.options import positive_int
from mae_backbone.utils.cpu import available_cpus

RESUME_HINT = 'the same command continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('source', metavar='SOURCE',
                        help='folder of images, list of files (.txt), shard (.tar) or folder of shards')
    parser.add_argument('out', metavar='OUT', help='folder for the shards')
    group = parser.add_argument_group('shards')
    group.add_argument('--short-side', type=int, metavar='PIXELS',
                       help='resize larger images to this short side (default: keep their size)')
    group.add_argument('--shard-size', type=int, default=1000, metavar='IMAGES',
                       help='images per shard (default: %(default)s)')
    group.add_argument('--quality', type=int, default=92, metavar='1..100',
                       help='quality of resized JPEGs (default: %(default)s)')
    group.add_argument('--classes', action='store_true', help='keep the class folders as labels (.cls members)')
    group = parser.add_argument_group('run')
    group.add_argument('--workers', type=positive_int, default=available_cpus(), metavar='N',
                       help='processes (default: the number of CPUs, %(default)s here)')
    group.add_argument('--verify', action='store_true', help='decode everything that was packed and compare checksums')


def run(args: argparse.Namespace) -> dict:
    """Runs the command; returns the manifest."""
    from mae_backbone.cli.config import make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.pack import BAD_IMAGES, Packing, pack, verify
    from mae_backbone.data.sources import open_source

    packing = Packing(short_side=args.short_side, shard_size=args.shard_size, quality=args.quality,
                      classes=args.classes)
    source = open_source(args.source)
    make_folder(args.out, 'OUT')
    log_rank0(f'{len(source):,} images in {args.source}, {args.workers} workers')
    manifest = pack(source, args.out, packing, workers=args.workers)
    size = sum(shard['bytes'] for shard in manifest['shards'])
    log_rank0(f'{manifest["images"]:,} images in {len(manifest["shards"])} shards, {size / 1e9:.2f} GB')
    if manifest['bad']:
        log_rank0(f'left out: {manifest["bad"]:,} images that cannot be read, listed in {args.out}/{BAD_IMAGES}')
    if args.verify:
        log_rank0(f'verified: all {verify(args.out):,} images decode, and no shard has changed')
    log_rank0(f'next: mae-backbone pretrain CONFIG --data-root {args.out}')
    return manifest
