"""Measures speed and memory beside a plain form of the same work, in the same run.

    python tools/benchmark.py step                      a step of MAE pretraining, against MAE on timm's blocks
    python tools/benchmark.py backbone                  the ViTDet backbone, against attention with N x N positions
    python tools/benchmark.py train CONFIG --against CONFIG   a training step of one config, against another
    python tools/benchmark.py loader --data-root DIR    decoding and cropping, against torchvision and PIL
    python tools/benchmark.py features                  frozen features to the disk, against bare forward passes
"""
import argparse
import importlib
from types import ModuleType

import torch

from mae_backbone.benchmark.report import write_json
from mae_backbone.cli import common as cli

KINDS = {'step': 'a step of MAE pretraining', 'backbone': 'forward and backward of the ViTDet backbone',
         'train': 'a training step of any two configs', 'loader': 'images from files or shards to batches',
         'features': 'frozen features from files to the disk'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='|'.join(KINDS))
    for kind, text in KINDS.items():
        one = kinds.add_parser(kind, help=text, description=text)
        one.add_argument('--json', metavar='FILE', help='write what was found there too')
        benchmark(kind).add_arguments(one)
    args = parser.parse_args()
    if getattr(args, 'threads', None):
        torch.set_num_threads(args.threads)
    found, text = benchmark(args.kind).run(args)
    cli.say(text)
    if args.json:
        write_json(found, args.json)
        cli.say(f'written: {args.json}')


def benchmark(kind: str) -> ModuleType:
    """The file of the package that measures it."""
    return importlib.import_module(f'mae_backbone.benchmark.{kind}')


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
