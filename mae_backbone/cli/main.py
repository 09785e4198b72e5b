"""Entry point of the command line: `mae-backbone COMMAND ...`."""
import argparse
import difflib
import os
import sys
from importlib import import_module
from pathlib import Path

from mae_backbone import __version__
from mae_backbone.cli.errors import exit_process, is_rank0, run_cli
from mae_backbone.compat import quiet_logs
from mae_backbone.compat.install_check import newer_than_tested
from mae_backbone.utils.config_files import is_checkpoint

# Command -> description, in the order in which the commands are used.
COMMANDS = {
    'quickstart': 'run the whole path on generated images: pretraining, detection, segmentation, classification',
    'auto': 'plan, pretrain, train, test and report, in one command that continues where it stopped',
    'plan': 'measure data and machine, and write a config with the reason for each setting',
    'check': 'check a labeled data set: read every image, count classes and objects, draw samples',
    'import': 'write a labeled data set in another layout: COCO, YOLO, Pascal VOC, label maps, class folders',
    'measure': 'measure the mean and standard deviation of the pixels of a data set',
    'pack': 'pack images into tar shards for faster loading',
    'pretrain': 'pretrain a masked autoencoder on unlabeled images',
    'visualize': 'draw reconstructions of a pretrained masked autoencoder',
    'train': 'train a detector, a segmenter or a classifier',
    'test': 'evaluate a checkpoint, or measure its speed',
    'predict': 'predict on images, folders or videos',
    'demo': 'try a model on single images in a browser',
    'info': 'describe a checkpoint or an exported file',
    'publish': 'write a checkpoint without the state of its training, with a model card',
    'transfer': 'compare how well pretrained encoders transfer to a suite of tasks',
    'export': 'export a model to an ONNX or .pt2 file',
    'convert': 'convert a checkpoint for timm, Hugging Face, mmpretrain, detectron2 or the public MAE code',
    'models': 'list public weights that --pretrained takes by name',
    'robustness': 'evaluate a classifier on corrupted images and on ImageNet variants',
    'benchmark': 'measure speed and memory against reference implementations',
}

# Commands that need no CONFIG: it is taken from the checkpoint.
_CHECKPOINT_COMMANDS = ('test', 'predict', 'visualize', 'robustness')


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 after a mistake of the user, 1 after a defect of the program.

    Args:
        argv: the command and its options, as on the command line (default: the arguments of this process).
    """
    arguments = sys.argv[1:] if argv is None else [str(argument) for argument in argv]
    if not arguments or arguments[0].startswith('-'):
        return run_cli(lambda: _no_command(arguments))
    name, *options = arguments
    if name not in COMMANDS:
        similar = difflib.get_close_matches(name, COMMANDS, n=1)
        print(f'error: unknown command {name!r}: '
              + (f'did you mean {similar[0]!r}?' if similar else f'choose from {", ".join(COMMANDS)}'), file=sys.stderr)
        return 2
    command = import_module(f'mae_backbone.cli.{name}')

    def run() -> None:
        args = _parser(name).parse_args(with_config(name, options))
        set_rank(getattr(args, 'launcher', 'none'))
        quiet_logs.install()
        for line in newer_than_tested() if is_rank0() else ():
            print(f'note: {line}', file=sys.stderr)
        command.run(args)
    return run_cli(run, resume_hint=getattr(command, 'RESUME_HINT', 'run the same command again'))


def set_rank(launcher: str) -> None:
    """Sets RANK from the variables of Slurm or MPI. Otherwise all processes would be rank 0 until they join."""
    rank = os.environ.get({'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}.get(launcher, ''))
    if rank is not None:
        os.environ['RANK'] = rank


def with_config(command: str, options: list[str]) -> list[str]:
    """Returns the options with the checkpoint as CONFIG, if CONFIG was left out: the checkpoint holds the config.

    Raises:
        ValueError: the folder of a run is passed in place of a checkpoint.
    """
    if command not in _CHECKPOINT_COMMANDS:
        return options
    at = _first_argument(_parser(command), options)
    words = options[at:at + 2]
    if words and Path(words[0]).is_dir() and (files := checkpoints_in(Path(words[0]))):
        raise ValueError(f'{words[0]} is the folder of a run: pass one of its checkpoints, such as {files[-1]}')
    if words and is_checkpoint(words[0]) and not (len(words) > 1 and is_checkpoint(words[1])):
        return [*options[:at], words[0], *options[at:]]
    return options


def _first_argument(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Index of the first word that is neither an option nor its value."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    at = 0
    while at < len(words) and words[at].startswith('-') and words[at] != '--':
        action = options.get(words[at])  # None: --option=value
        at += 1
        if action is not None and (action.nargs is None or isinstance(action.nargs, int)):
            at += 1 if action.nargs is None else action.nargs
        elif action is not None:
            while at < len(words) and words[at][:1] != '-' and ('=' in words[at] or not is_checkpoint(words[at])):
                at += 1
    return at + (words[at:at + 1] == ['--'])


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints in the folder of a run, the best or latest one last."""
    return sorted(folder.glob('*.pth'), key=lambda file: (file.name.startswith('best_'), file.stat().st_mtime))


def console(command: str | None = None) -> None:
    """Runs a command as the program of this process, which ends with its exit code.

    Args:
        command: name of the command that the options of the command line belong to (default: the first argument).
    """
    exit_process(main([command, *sys.argv[1:]] if command else sys.argv[1:]))


def _parser(name: str) -> argparse.ArgumentParser:
    command = import_module(f'mae_backbone.cli.{name}')
    description, _, examples = (command.__doc__ or '').partition('\n\n')
    parser = argparse.ArgumentParser(prog=f'mae-backbone {name}', description=description, epilog=examples.rstrip(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_options(parser)
    return parser


def _no_command(arguments: list[str]) -> None:
    commands = '\n'.join(f'  {name:<12}{text}' for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog='mae-backbone', usage='mae-backbone COMMAND [options]',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='From a folder of unlabeled images to a detector and a segmenter.',
        epilog=f'commands:\n{commands}\n\nmae-backbone COMMAND --help lists the options of a command.')
    parser.add_argument('--version', action='version', version=f'mae_backbone {__version__}')
    parser.parse_args(arguments)
    parser.print_help()
    raise SystemExit(0 if not arguments else 2)
