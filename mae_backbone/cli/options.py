"""Options that several commands have in common."""
import argparse
import ast


def add_config_options(parser: argparse.ArgumentParser, *, reads_data: bool = True) -> argparse._ArgumentGroup:
    """Adds the config and options that change it, with mmdet's names. Returns the group, for more options.

    A command that reads no data of the config hides --data-root, and refuses it.
    """
    parser.add_argument('config', metavar='CONFIG',
                        help='name of a config, such as mask-rcnn_vitdet-b_100e_coco, or a path')
    group = parser.add_argument_group('config')
    group.add_argument('--data-root', metavar='DIR', help='your data, in the layout that the head of the config states'
                       if reads_data else argparse.SUPPRESS)
    group.add_argument('--cfg-options', nargs='+', action='extend', type=key_value, metavar='KEY=VALUE',
                       help='override settings of the config, such as train_dataloader.batch_size=8')
    return group


def add_group_pattern(group: argparse._ActionsContainer) -> None:
    """Adds the option that keeps groups of images together in a made validation split."""
    group.add_argument('--group-pattern', metavar='REGEX',
                       help='if the data have no validation split: keep images together whose file names have the same '
                            "match, such as '^(patient\\d+)_'; the part in parentheses is compared")


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Adds the data and the options of a plan."""
    parser.add_argument('data', metavar='DATA', help='folder of the data')
    parser.add_argument('--task', choices=['detection', 'segmentation', 'classification', 'pretraining'],
                        help='task to train (default: the task of the labels)')
    parser.add_argument('--unlabeled', '--unlabelled', metavar='DIR',
                        help='folder of further images, for the pretraining')
    parser.add_argument('--pretrained', metavar='PATH',
                        help='weights to start from: a file, or a name of `mae-backbone models`')
    add_group_pattern(parser)
    parser.add_argument('--hours', type=positive_float, metavar='H',
                        help='time for all trainings together (default: 1 on a CPU, 12 on a GPU)')


def add_work_dir(parser: argparse._ActionsContainer) -> None:
    """Adds the option of the output folder."""
    parser.add_argument('--work-dir', metavar='DIR',
                        help='folder for logs, checkpoints and figures (default: work_dirs/CONFIG)')


def add_launcher(parser: argparse._ActionsContainer) -> None:
    """Adds the option of the launcher."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='launcher of the processes of a distributed run (torchrun: pytorch)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_training_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options of `pretrain` and `train`; returns the group of the training, for more options."""
    add_reader(add_config_options(parser))
    group = parser.add_argument_group('run')
    add_work_dir(group)
    group.add_argument('--resume', nargs='?', const='auto', metavar='PATH|auto',
                       help='continue from a checkpoint (default: the latest in the work directory)')
    add_launcher(group)
    group = parser.add_argument_group('training')
    length = group.add_mutually_exclusive_group()
    length.add_argument('--epochs', type=positive_int, metavar='N',
                        help='length of the training, for configs that count epochs; schedule, warm-up and validation '
                             'interval are stretched with it')
    length.add_argument('--iters', type=positive_int, metavar='N', help='the same, for configs that count iterations')
    group.add_argument('--batch-size', type=positive_int, metavar='N',
                       help='images per step and process; the learning rate follows if the config has auto_scale_lr')
    group.add_argument('--lr', type=positive_float, metavar='LR', help='peak learning rate, not scaled with the batch')
    group.add_argument('--seed', type=seed, metavar='N', help='random seed (default: the seed of the config)')
    group.add_argument('--memory', type=positive_float, metavar='GB',
                       help='recompute as few blocks as needed in the backward pass to fit into this memory')
    group.add_argument('--amp', action='store_true',
                       help='mixed precision in bfloat16 on GPUs, and on CPUs that are faster in it (Xeon with AMX, '
                            'AMD from Zen 4 on, some Arm)')
    group.add_argument('--tf32', action='store_true',
                       help='matrix products in TF32 on GPUs, for runs without --amp: inputs are rounded to 10 bits')
    return group


def add_weights_options(parser: argparse.ArgumentParser, pretrained: str) -> None:
    """Adds the options of pretrained weights; `pretrained` is the help of `--pretrained`."""
    group = parser.add_argument_group('weights')
    group.add_argument('--pretrained', metavar='PATH', help=pretrained)
    group.add_argument('--weights-key', metavar='KEY',
                       help='which weights of a file with several: student, teacher, or a key of the file (default: '
                            'the average, if there is one)')
    group.add_argument('--weights-heads', type=positive_int, metavar='N',
                       help='number of heads of attention of the weights, if the file does not state it')


def key_value(text: str) -> str:
    """Checks a KEY=VALUE argument."""
    key, equals, _ = text.partition('=')
    if not key or not equals:
        raise argparse.ArgumentTypeError(f'{text!r}: expected KEY=VALUE, such as train_dataloader.batch_size=8')
    return text


def positive_int(text: str) -> int:
    """An integer of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected an integer of 1 or more')
    return int(text)


def natural(text: str) -> int:
    """An integer of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r}: expected an integer of 0 or more')
    return int(text)


def seed(text: str) -> int:
    """An integer that NumPy takes as a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f'{text!r}: expected an integer from 0 to {2**32 - 1}')
    return int(text)


def frozen_blocks(text: str) -> int | str:
    """'all', or a number of blocks."""
    if text != 'all' and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of blocks, or 'all'")
    return text if text == 'all' else int(text)


def positive_float(text: str) -> float:
    """A number greater than 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r}: expected a number greater than 0')
    return value


def add_reader(parser: argparse._ActionsContainer, default: list[str] | None = None) -> None:
    """Adds the option of the reader of the images."""
    parser.add_argument('--reader', nargs='+', default=default, metavar=('TYPE', 'KEY=VALUE'),
                        help='reader of the images, such as mae_backbone.TiffReader channels=5 dtype=uint16 (default: '
                             'color images; in a config: its reader)')


def reader_config(words: list[str]) -> dict[str, object]:
    """TYPE KEY=VALUE ... of `--reader` -> config of the reader."""
    return {'type': words[0], **dict(map(_setting, words[1:]))}


def _setting(text: str) -> tuple[str, object]:
    """Splits KEY=VALUE. Literals of Python are evaluated, other values are strings."""
    key, equals, value = text.partition('=')
    if not equals:
        raise ValueError(f'--reader {text}: expected KEY=VALUE, such as channels=4')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
