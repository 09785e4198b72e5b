"""Measure speed and memory against a reference implementation of the same work, in the same run.

examples:
  mae-backbone benchmark step                      a step of MAE pretraining, against MAE on timm's blocks
  mae-backbone benchmark backbone                  the ViTDet backbone, against attention with N x N positions
  mae-backbone benchmark train CONFIG --against CONFIG   a training step of one config, against another
  mae-backbone benchmark loader --data-root DIR    decoding and cropping, against torchvision and PIL
  mae-backbone benchmark features                  frozen features to disk, against bare forward passes
"""
import argparse
from importlib import import_module
from types import ModuleType

KINDS = {'step': 'a step of MAE pretraining', 'backbone': 'forward and backward pass of the ViTDet backbone',
         'train': 'a training step of any two configs', 'loader': 'images from files or shards to batches',
         'features': 'frozen features from files to disk'}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='|'.join(KINDS))
    for kind, text in KINDS.items():
        subparser = kinds.add_parser(kind, help=text, description=text)
        subparser.add_argument('--json', metavar='FILE', help='also write the result to this file')
        _module(kind).add_arguments(subparser)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    import torch

    from mae_backbone.benchmark.report import write_json
    from mae_backbone.cli.errors import log_rank0

    if getattr(args, 'threads', None):
        torch.set_num_threads(args.threads)
    result, text = _module(args.kind).run(args)
    log_rank0(text)
    if args.json:
        write_json(result, args.json)
        log_rank0(f'written: {args.json}')


def _module(kind: str) -> ModuleType:
    return import_module(f'mae_backbone.benchmark.{kind}')
