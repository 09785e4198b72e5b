"""Describe a file: model, task, classes, results, training, weights; inputs and outputs of an exported file.

examples:
  mae-backbone info work_dirs/RUN/iter_600.pth
  mae-backbone info mae_pretrain_vit_base.pth
  mae-backbone info model.onnx
"""
import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of this package, public weights, a folder with a config.json, or an exported '
                             '.onnx or .pt2 file')
    parser.add_argument('--show-config', action='store_true', help='print only the config in the file')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.prediction.file_info import info
    from mae_backbone.utils.printable import printable_lines

    page = info(args.checkpoint)
    if args.show_config and not page.config:
        raise ValueError(f'{args.checkpoint} holds no config')
    log_rank0(printable_lines(page.config) if args.show_config else str(page))
