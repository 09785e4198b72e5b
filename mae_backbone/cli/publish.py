"""Write a checkpoint without the state of its training, with a model card, to give it to others.

example:
  mae-backbone publish work_dirs/RUN/iter_600.pth cells.safetensors
"""
import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of `mae-backbone train` or `mae-backbone pretrain`')
    parser.add_argument('out', metavar='OUT.safetensors', help='file to write; the model card is written next to it')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.checkpoints.publish import publish
    from mae_backbone.cli.errors import log_rank0

    card = publish(args.checkpoint, args.out)
    log_rank0(f'weights, config and classes: {args.out}\nmodel card: {card}\n\n'
              f'next: mae-backbone info {args.out}')
