"""Options that several commands have in common."""
import argparse
from collections.abc import Callable


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """The config and what changes it; option names are mmdet's."""
    parser.add_argument('config', metavar='CONFIG',
                        help='name of a config, such as mask-rcnn_vitdet-b_100e_coco, or a path')
    group = parser.add_argument_group('config')
    group.add_argument('--data-root', metavar='DIR', help='your data, laid out as the head of the config says')
    group.add_argument('--cfg-options', nargs='+', action='extend', type=key_value, metavar='KEY=VALUE',
                       help='override settings of the config, such as train_dataloader.batch_size=8')


def add_work_dir(parser: argparse.ArgumentParser) -> None:
    """Where a run writes."""
    parser.add_argument('--work-dir', metavar='DIR',
                        help='folder for logs, checkpoints and figures (default: work_dirs/CONFIG)')


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """How the processes of a distributed run were started."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes of a distributed run were started (torchrun: pytorch)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options of `pretrain` and `train`."""
    add_config_options(parser)
    group = parser.add_argument_group('run')
    add_work_dir(group)
    group.add_argument('--resume', nargs='?', const='auto', metavar='PATH|auto',
                       help='continue from a checkpoint (default: the latest in the work directory)')
    group.add_argument('--seed', type=int, metavar='N', help='random seed (default: the seed of the config)')
    group.add_argument('--amp', action='store_true',
                       help='mixed precision in bfloat16 on GPUs, and in pretraining on CPUs that support it')
    add_launcher(group)


def key_value(text: str) -> str:
    """Checks a KEY=VALUE argument."""
    key, equals, _ = text.partition('=')
    if not key or not equals:
        raise argparse.ArgumentTypeError(f'{text!r}: expected KEY=VALUE, such as train_dataloader.batch_size=8')
    return text


def positive_int(text: str) -> int:
    """An integer of 1 or more."""
    return _number(text, int, lambda value: value >= 1, 'an integer of 1 or more')


def _number(text: str, kind: Callable, is_valid: Callable, expected: str):  # type: ignore[no-untyped-def]
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not is_valid(value):
        raise argparse.ArgumentTypeError(f'{text!r}: expected {expected}')
    return value
