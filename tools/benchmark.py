"""Measures speed and memory beside a plain form of the same work, in the same run.

    python tools/benchmark.py step                      a step of MAE pretraining, against MAE on timm's blocks
    python tools/benchmark.py backbone                  the ViTDet backbone, against attention with N x N positions
    python tools/benchmark.py loader --data-root DIR    decoding and cropping, against torchvision and PIL
"""
import argparse
import importlib
from types import ModuleType

import torch

from mae_backbone import cli
from mae_backbone.benchmark.report import write_json

KINDS = {'step': 'a step of MAE pretraining, against MAE on timm blocks',
         'backbone': 'the ViTDet backbone, against attention with N x N positions'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='|'.join(KINDS))
    for kind, text in KINDS.items():
        one = kinds.add_parser(kind, help=text, description=text)
        one.add_argument('--json', metavar='FILE', help='write what was found there too')
        one.add_argument('--threads', type=int, help='threads of torch; those of the machine without it')
        one.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                         help='cpu or cuda (default: %(default)s)')
        one.add_argument('--rounds', type=int, default=5, help='each times both sides once (default: %(default)s)')
        one.add_argument('--warmup', type=int, default=1,
                         help='rounds before, which do not count (default: %(default)s)')
        benchmark(kind).add_arguments(one)
    args = parser.parse_args()
    if args.threads:
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
