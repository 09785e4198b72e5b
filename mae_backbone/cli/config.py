"""Config of a run: the config file, overridden by the options of the command line."""
import argparse
import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.config import Config, DictAction

from mae_backbone.cli.check_settings import check_settings
from mae_backbone.cli.errors import is_rank0
from mae_backbone.cli.options import reader_config
from mae_backbone.utils.config_files import drop_scope, find_config, is_checkpoint

# Seconds to wait for the lock of a work directory. The data loading processes of a killed run hold it until they
# exit: torch checks every 5 s whether their parent still runs.
LOCK_TIMEOUT = 12.0
# Top-level keys that MMEngine's Runner and our commands read.
RUN_KEYS = {
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'default_scope', 'randomness', 'experiment_name', 'custom_imports', 'tta', 'tta_model',
    'tta_pipeline', 'compile', 'tf32', 'val_dtype', 'cfg', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'group_pattern',
    # Variables at the top of the configs of mmdet and mmseg, which other settings are built from.
    'vis_backends', 'data_root', 'train_pipeline', 'val_pipeline', 'test_pipeline', 'dataset_type', 'metainfo',
    'backend_args', 'max_epochs',
}
# Changing one of these variables has no effect: the config has already used its value.
_VARIABLES = {'vis_backends', 'data_root', 'train_pipeline', 'val_pipeline', 'test_pipeline', 'dataset_type',
              'metainfo', 'backend_args', 'max_epochs'}
# Options of the command line that have the intended effect.
_OPTIONS_FOR = {'max_iters': '--iters', 'max_epochs': '--epochs', 'data_root': '--data-root', 'base_lr': '--lr',
                'lr': '--lr', 'batch_size': '--batch-size'}
# Last parts of the keys that are set from the classes of the data, and by --epochs, --iters, --batch-size and --seed.
_CLASS_KEYS = ('num_classes', 'classes')
_LENGTH_KEYS = ('max_epochs', 'max_iters', 'val_interval', 'batch_size', 'seed')
# Keys that an option of the command line sets.
_OWN_OPTIONS = {'launcher': '--launcher', 'resume': '--resume'}


def load_config(args: argparse.Namespace, *, with_data: bool = True) -> Config:
    """Loads the config of a command and applies --cfg-options, --data-root, --work-dir and --launcher.

    Args:
        args: parsed arguments. CONFIG may be a checkpoint. Its config is parsed and checked, but never executed.
        with_data: whether the command reads the test data of the config.

    Raises:
        FileNotFoundError: the config does not exist.
        ValueError: a key is unknown or has no effect, a number is out of range, or --data-root is given and the config
            has no data_root.
    """
    os.environ.setdefault('LOCAL_RANK', str(getattr(args, 'local_rank', 0)))
    if is_checkpoint(args.config) and not hasattr(args, 'checkpoint'):
        raise ValueError(f'{args.config} is a checkpoint, and this command needs a config, with the settings of the '
                         'training: pass the config in the work directory of the run. In training, --resume continues '
                         'from a checkpoint and --pretrained starts from its weights')
    if is_checkpoint(args.config):
        from mae_backbone.checkpoints.published import read_checkpoint
        from mae_backbone.prediction.embedded_config import safe_config
        path = Path(args.config)
        cfg = safe_config(read_checkpoint(path), path, with_data=with_data)
    else:
        path = find_config(args.config)
        cfg = Config.fromfile(path)
    drop_scope(cfg._cfg_dict)
    given = args.cfg_options or []
    options = dict(given) if isinstance(given, Mapping) else parse_options(given)
    check_keys(cfg, options)
    _check_flags(cfg, options)
    _check_conflicts(args, options)
    cfg.merge_from_dict(options)
    check_settings(cfg)
    if args.data_root:
        if is_checkpoint(args.config) and cfg.get('test_dataloader') is None:
            check_test(cfg, args.config)
        from mae_backbone.planning.adapt_config import replace_data_root
        replace_data_root(cfg, args.data_root)
    if getattr(args, 'group_pattern', None):
        cfg.group_pattern = args.group_pattern
    cfg.launcher = getattr(args, 'launcher', 'none')
    cfg.work_dir = getattr(args, 'work_dir', None) or cfg.get('work_dir') or str(Path('work_dirs', path.stem))
    return cfg


def check_test(cfg: Config, source: str) -> None:
    """Refuses configs without a test.

    Args:
        cfg: config.
        source: file that it is from, for the message.

    Raises:
        ValueError: the config has no test data or no metrics, such as the config of a pretraining.
    """
    missing = [key for key in ('test_dataloader', 'test_cfg', 'test_evaluator') if cfg.get(key) is None]
    if missing:
        raise ValueError(f'{source} has no {" and no ".join(missing)}, which a test needs. A pretraining has none: '
                         'train a task from its weights (mae-backbone train CONFIG --pretrained FILE), or test them '
                         'with a config of nearest neighbors, such as vit-b_knn_in1k')


def parse_options(options: list[str]) -> dict[str, object]:
    """Parses KEY=VALUE strings. Values are numbers, bools, None, lists, tuples or strings.

    Raises:
        ValueError: a value has unmatched brackets, or is written as a dict.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    parsed: dict[str, object] = {}
    for option in options:
        message = (f'--cfg-options {option}: expected a number, a word, [1,2] or "(1,2)" after the =, with all '
                   'brackets closed. A dict is set key by key: model.backbone.arch.width=64 '
                   'model.backbone.arch.heads=2')
        if option.partition('=')[2].startswith(('{', 'dict(')):  # MMEngine would parse it as a string
            raise ValueError(message)
        try:
            parsed |= parser.parse_args(['--options', option]).options
        except (AssertionError, RecursionError):  # MMEngine's parser, at brackets without their counterpart
            raise ValueError(message) from None
    return parsed


def check_keys(cfg: Config, options: dict[str, object]) -> None:
    """Refuses misspelled top-level keys, and options without effect.

    Raises:
        ValueError: a key is misspelled or has no effect. The message names the keys that have the intended effect.
    """
    for key in cfg:
        similar = difflib.get_close_matches(key, RUN_KEYS, n=1, cutoff=0.85)
        if key not in RUN_KEYS and similar and similar[0] not in cfg:
            raise ValueError(f'{cfg.filename} has the unknown key {key!r}: did you mean {similar[0]!r}?')
    for option in options:
        first = option.split('.')[0]
        if first in cfg and (first not in RUN_KEYS or first in _VARIABLES):
            raise ValueError(f'--cfg-options {option} has no effect: {first} is a variable that the config has '
                             f'used already: {_keys_that_count(cfg, first)}')
        if first not in RUN_KEYS:
            similar = difflib.get_close_matches(first, RUN_KEYS - _VARIABLES | set(cfg), n=1)
            raise ValueError(f'--cfg-options {option}: unknown key {first!r}'
                             + (f'; did you mean {similar[0]!r}?' if similar else
                                ', see the top-level keys of the config'))
        _check_spelling(cfg, option, options)


def _check_spelling(cfg: Config, option: str, options: dict[str, object]) -> None:
    """Refuses an option for a new key below the top level next to a key with nearly the same name.

    Parts of a config such as `test_cfg` are plain dicts, in which a misspelled key has no effect.

    Raises:
        ValueError: the key is misspelled.
    """
    node: object = cfg
    parts = option.split('.')
    for depth, key in enumerate(parts):
        if isinstance(node, (dict, Config)) and key not in node:
            parent = '.'.join(parts[:depth])
            similar = difflib.get_close_matches(key, [str(name) for name in node], n=1, cutoff=0.85)
            if parent and similar and f'{parent}.type' not in options:  # another type may have other options
                raise ValueError(f'--cfg-options {option}: the config has no key {key!r} in {parent}; did you mean '
                                 f'{similar[0]!r}?')
            return
        node = _value_at(cfg, '.'.join(parts[:depth + 1]))


def check_kept(cfg: Config, args: argparse.Namespace) -> None:
    """Refuses --cfg-options with values that were replaced by the classes of the data or by other options.

    Raises:
        ValueError: a value was replaced.
    """
    given = args.cfg_options or []
    for option, value in (dict(given) if isinstance(given, Mapping) else parse_options(given)).items():
        now, last = _value_at(cfg, option), option.split('.')[-1]
        same = (list(now) if isinstance(now, tuple) else now) == (list(value) if isinstance(value, tuple) else value)
        if last in _CLASS_KEYS and not same:
            raise ValueError(f'--cfg-options {option}={value} has no effect: it is {now} after reading the classes of '
                             'the data. Remove it, or change the data')
        if (last in _LENGTH_KEYS or (last == 'lr' and args.lr)) and not same:
            raise ValueError(f'--cfg-options {option}={value} has no effect: --epochs, --iters, --batch-size, --lr or '
                             f'--seed has set it to {now}. Pass only one of them')
        if option.startswith('param_scheduler.') and not same:
            raise ValueError(f'--cfg-options {option}={value} has no effect: --epochs or --iters has stretched it to '
                             f'{now}. Pass only one of them')


def _value_at(cfg: Config, option: str) -> object:
    """Returns the value at a dotted key, or None. Parts of the key may be indices of lists."""
    node: object = cfg
    for key in option.split('.'):
        if isinstance(node, (list, tuple)):
            node = node[int(key)] if key.isdecimal() and int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, (dict, Config)) else None
    return node


def _check_flags(cfg: Config, options: dict[str, object]) -> None:
    """Refuses text in place of True or False, because any text counts as true in Python.

    Raises:
        ValueError: the value of a flag is a text.
    """
    for option, value in options.items():
        before = _value_at(cfg, option)
        if isinstance(before, bool) and isinstance(value, str):
            raise ValueError(f'--cfg-options {option}={value}: the config has {before} here, expected True or False')


def _check_conflicts(args: argparse.Namespace, options: dict[str, object]) -> None:
    """Refuses --cfg-options that another option overrides, or that take effect only while the config file is read.

    Raises:
        ValueError: an option has no effect.
    """
    for option in options:
        first, last = option.split('.')[0], option.split('.')[-1]
        if first in _OWN_OPTIONS:
            raise ValueError(f'--cfg-options {option} has no effect: pass {_OWN_OPTIONS[first]} instead')
        if first == 'tta' and not getattr(args, 'tta', True):
            raise ValueError(f'--cfg-options {option} has no effect without test-time augmentation: pass --tta too')
        if first == 'custom_imports':
            raise ValueError(f'--cfg-options {option} has no effect: modules are imported when the config is read. '
                             'Write custom_imports into the config file')
        if last == 'data_root' and args.data_root:
            raise ValueError(f'--cfg-options {option} and --data-root set the same folder: pass one of them')
        if option == 'work_dir' and getattr(args, 'work_dir', None):
            raise ValueError('--cfg-options work_dir and --work-dir set the same folder: pass one of them')


def _keys_that_count(cfg: Config, variable: str) -> str:
    """Returns advice on the keys to set instead of a variable of the config."""
    keys = [key for key in cfg if key in RUN_KEYS - _VARIABLES]
    using = [path for key in keys for path in _paths_of(cfg[key], cfg[variable], key)]
    advice = [f'pass {_OPTIONS_FOR[variable]}'] if variable in _OPTIONS_FOR else []
    if using:
        advice.append(f'set {", ".join(using[:6])}' + f' and {len(using) - 6} more' * (len(using) > 6))
    return ', or '.join(advice) or 'set the keys that use it, or change it in the config file'


def _paths_of(node: object, value: object, path: str) -> Iterator[str]:
    """Yields the dotted keys at and below `path` that have the value `value`."""
    if type(node) is type(value) and node == value:
        yield path
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _paths_of(child, value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from _paths_of(child, value, f'{path}.{index}')


def adapt_classes(cfg: Config) -> list[str]:
    """Adapts the config to the classes of the data; returns lines for the plan."""
    from mae_backbone.planning import adapt_config
    return adapt_config.adapt_classes(cfg, complete=True)


def reader_lines(cfg: Config, args: argparse.Namespace) -> list[str]:
    """Writes `--reader` into the config; returns lines for the plan.

    Raises:
        ValueError: the reader is unknown, or no image can be read.
    """
    if not args.reader:
        return []
    from mae_backbone.planning.bands import use_reader
    return use_reader(cfg, reader_config(args.reader))


def data_lines(cfg: Config, splits: list[str]) -> list[str]:
    """Adapts the config to the classes of the data and checks the data; returns lines for the plan.

    Raises:
        ValueError: the data cannot be used.
    """
    from mae_backbone.formats.check import check_data
    from mae_backbone.planning.bands import check_bands
    check_bands(cfg)
    return [*adapt_classes(cfg), *check_data(cfg, splits=tuple(splits))]


def make_folder(folder: str | Path, option: str) -> None:
    """Makes an output folder and checks that it can be written to.

    Raises:
        OSError: the folder cannot be written to.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f'{option} {folder} cannot be written to ({error.strerror}): choose another folder') from error


@contextmanager
def locked_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Locks a work directory while the block runs. Only the main process of a run holds the lock.

    Raises:
        ValueError: another run holds the lock.
    """
    lock = FileLock(Path(work_dir, 'run.lock'), timeout=LOCK_TIMEOUT if is_rank0() else 0)
    held = False
    try:
        if is_rank0():
            lock.acquire()
            held = True
    except Timeout as error:
        raise ValueError(f'another run is writing to {work_dir}: wait until it ends, or choose another '
                         '--work-dir') from error
    except (OSError, NotImplementedError):
        pass  # a file system without locks
    try:
        yield
    finally:
        if held:
            lock.release()
