"""Train a detector, a segmenter or a classifier, from a pretrained encoder or from random weights.

example:
  mae-backbone train mask-rcnn_vitdet-b_100e_coco --data-root coco --pretrained MAE.pth
"""
import argparse
from shlex import quote

from mae_backbone.cli.options import (
    add_group_pattern,
    add_training_options,
    add_weights_options,
    frozen_blocks,
    positive_int,
)

RESUME_HINT = 'the same command with --resume continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    group = add_training_options(parser)
    add_weights_options(parser, 'start the encoder from the weights of this file or folder: of mae-backbone, the '
                                'public MAE code, timm, Hugging Face, mmpretrain, SAM, ...')
    part = group.add_mutually_exclusive_group()
    part.add_argument('--freeze', type=frozen_blocks, metavar='N|all',
                      help='train only a part of the encoder: freeze its patch embedding and the first N blocks, or '
                           'all of it')
    part.add_argument('--lora', type=positive_int, metavar='RANK',
                      help='freeze the encoder, and train matrices of this rank next to its weights (LoRA, needs peft)')
    add_group_pattern(group)
    group.add_argument('--labels', type=float, metavar='FRACTION',
                       help='train on this fraction of the labeled images, such as 0.1; --seed selects them')
    group.add_argument('--patience', type=positive_int, metavar='N',
                       help='stop after N validations without improvement; the best checkpoint is kept')


def run(args: argparse.Namespace) -> dict[str, float]:
    """Runs the command; returns the metrics of the last validation and the training loss."""
    from mae_backbone.cli.best_checkpoint import keep_best
    from mae_backbone.cli.config import data_lines, load_config, locked_work_dir, reader_lines
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.cli.run_plan import fit_memory, print_plan
    from mae_backbone.cli.trained_part import set_trained_part
    from mae_backbone.cli.training import has_foreign_types, last_checkpoint, prepare_training
    from mae_backbone.engine.provenance import results
    from mae_backbone.engine.runner import Runner
    from mae_backbone.planning.match_classes import checkpoint_classes, match_classes

    cfg = load_config(args)
    set_trained_part(cfg, freeze=args.freeze, lora=args.lora)
    lines = reader_lines(cfg, args) + data_lines(cfg, ['train', 'val']) + prepare_training(cfg, args)
    lines += keep_best(cfg, args.patience)
    if cfg.get('resume'):
        lines += match_classes(cfg, checkpoint_classes(cfg.load_from), cfg.load_from, splits=['train', 'val'])
    with locked_work_dir(cfg.work_dir):
        runner = Runner.quietly_from_cfg(cfg)
        if args.memory:
            lines.append(fit_memory(runner, args.memory))
        print_plan(runner, lines)
        runner.train()
    data = f' --data-root {quote(str(args.data_root))}' if args.data_root else ''
    checkpoint = quote(str(last_checkpoint(cfg.work_dir)))
    config = f'{quote(str(args.config))} ' if has_foreign_types(cfg) else ''
    # A checkpoint does not contain the path of its data. The config does, if it was used without --data-root.
    with_data = config if data else f'{quote(str(args.config))} '
    log_rank0(f'\nnext: mae-backbone test {with_data}{checkpoint}{data}\n'
              f'then: mae-backbone predict {config}{checkpoint} IMAGE|FOLDER -o predictions')
    return results(runner.message_hub.log_scalars)
