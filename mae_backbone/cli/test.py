"""Evaluate a checkpoint with the metrics of its config, or measure its speed.

CHECKPOINT may be `random`: the weights that a training starts from, with the `init_cfg` of the config.

examples:
  mae-backbone test work_dirs/RUN/iter_184375.pth --data-root coco
  mae-backbone test CONFIG CHECKPOINT --data-root coco    with a config in place of the one in the checkpoint
"""
import argparse
from collections.abc import Iterable
from shlex import quote
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_config_options, add_group_pattern, add_launcher, add_work_dir, positive_int

if TYPE_CHECKING:
    from mae_backbone.engine.runner import Runner


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of `mae-backbone train` (for nearest neighbors: any with a ViT), or `random`')
    group = parser.add_argument_group('evaluation')
    group.add_argument('--tta', action='store_true',
                       help='test-time augmentation: flips, and the scales of the config (tta.ratios)')
    group.add_argument('--speed', type=positive_int, nargs='?', const=50, metavar='IMAGES',
                       help='measure the inference time on this many images (50) instead of the metrics')
    add_group_pattern(group)
    add_work_dir(group)
    add_launcher(group)


def run(args: argparse.Namespace) -> dict[str, float]:
    """Runs the command; returns the metrics, which are empty for a measurement of the speed."""
    if args.speed is not None and args.launcher != 'none':
        raise ValueError(f'--speed measures one process: leave out --launcher {args.launcher}')
    check_used(args.cfg_options or [])
    from mmengine.registry import MODELS

    from mae_backbone.checkpoints.adapters import drop_adapters
    from mae_backbone.checkpoints.model_index import resolve
    from mae_backbone.cli.config import check_test, data_lines, load_config, make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.cli.run_plan import print_plan
    from mae_backbone.engine.checkpointing import is_encoder_only
    from mae_backbone.engine.runner import Runner
    from mae_backbone.evaluation.metrics import metric_text
    from mae_backbone.planning.match_classes import checkpoint_classes, match_classes
    from mae_backbone.prediction.tta import use_tta

    cfg = load_config(args)
    check_test(cfg, args.config)
    is_random = args.checkpoint == 'random'
    if not is_random:
        args.checkpoint = str(resolve(args.checkpoint))  # may be the name of public weights
    # Before the data, which take longer to check.
    names = [] if is_random else checkpoint_classes(args.checkpoint)
    lines = data_lines(cfg, ['test'])
    if not is_random:
        lines += match_classes(cfg, names, args.checkpoint)
    if args.tta:
        lines.append(use_tta(cfg))
    if not is_random:
        drop_adapters(cfg.model.get('backbone') or {})  # adapters of the checkpoint are added to its weights
    # A checkpoint of a run with EMAHook already holds the averaged weights. The hook would copy the model before they
    # are loaded.
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook.get('type') != 'EMAHook']
    make_folder(cfg.work_dir, '--work-dir')
    cfg.load_from = None if is_random else args.checkpoint
    runner = Runner.quietly_from_cfg(cfg)
    print_plan(runner, [*lines, f'weights: {args.checkpoint}'], trains=False)
    if is_random:
        runner._init_model_weights()  # MMEngine calls it only in train()
    runner.load_or_resume()
    encoder_only = is_encoder_only(runner.model)
    if args.tta:
        runner.model = MODELS.build({**cfg.tta_model, 'module': runner.model})
    if args.speed is not None:
        _measure_speed(runner, args.speed)
        return {}
    metrics = {name: float(value) for name, value in runner.test().items()}
    for name, value in metrics.items():
        log_rank0(f'{name}: {metric_text(value)}')
    if is_random:
        return metrics
    data = f' --data-root {quote(str(args.data_root))}' if args.data_root else ''
    checkpoint = quote(str(args.checkpoint))
    if encoder_only:
        log_rank0(f'\nnext: mae-backbone train CONFIG --pretrained {checkpoint}{data}')
    else:
        config = '' if args.config == args.checkpoint else f'{quote(str(args.config))} '
        log_rank0(f'\nnext: mae-backbone predict {config}{checkpoint} IMAGE|FOLDER -o predictions{data}')
    return metrics


def check_used(options: Iterable[str]) -> None:
    """Refuses --cfg-options of the training and of its validations, which a test does not read.

    Data sets of the training are read: they state the classes.

    Args:
        options: KEY=VALUE or KEY.

    Raises:
        ValueError: an option has no effect.
    """
    for option in options:
        key = option.partition('=')[0]
        first, _, rest = key.partition('.')
        if first.startswith('val_') and first not in ('val_dtype', 'val_pipeline') and not rest.startswith('dataset'):
            raise ValueError(f'--cfg-options {key} has no effect in a test: set test_{key.removeprefix("val_")}')
        if first in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
            raise ValueError(f'--cfg-options {key} has no effect in a test: it is a setting of the training, leave it '
                             'out')


def _measure_speed(runner: 'Runner', num_images: int) -> None:
    """Measures the inference time, prints it, and writes it to speed.json in the work directory."""
    from pathlib import Path

    from mae_backbone.benchmark import inference
    from mae_backbone.benchmark.report import write_json
    from mae_backbone.cli.errors import log_rank0

    dataset = runner.build_dataloader(runner.cfg.test_dataloader).dataset
    report = inference.measure(runner.model, dataset, images=num_images)
    for line in inference.lines(report):
        log_rank0(line)
    path = Path(runner.work_dir, 'speed.json')
    write_json(report, path)
    log_rank0(f'written: {path}')
