"""Pretrain a masked autoencoder on unlabeled images.

example:
  mae-backbone pretrain mae_vit-b_800e_in1k --data-root YOUR/IMAGES
  mae-backbone pretrain mae_vit-b_continue --data-root YOUR/IMAGES --pretrained mae_pretrain_vit_base_full.pth
"""
import argparse
from shlex import quote

from mae_backbone.cli.options import add_training_options, add_weights_options

RESUME_HINT = 'the same command with --resume continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_training_options(parser)
    add_weights_options(parser, 'start a new run from the weights of this file or folder, of any layout that train '
                                'reads: the encoder, and the decoder if there is one that fits')


def run(args: argparse.Namespace) -> dict[str, float]:
    """Runs the command; returns the training loss."""
    from mmengine.model import is_model_wrapper

    from mae_backbone.cli.config import data_lines, load_config, locked_work_dir, reader_lines
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.cli.run_plan import fit_memory, print_plan
    from mae_backbone.cli.training import last_checkpoint, prepare_training
    from mae_backbone.engine.provenance import results
    from mae_backbone.engine.runner import Runner

    cfg = load_config(args)
    lines = reader_lines(cfg, args) + data_lines(cfg, ['train']) + prepare_training(cfg, args)
    with locked_work_dir(cfg.work_dir):
        runner = Runner.quietly_from_cfg(cfg)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model, 'load_teacher'):
            model.load_teacher()  # before the plan, which counts its memory
        if args.memory:
            lines.append(fit_memory(runner, args.memory))
        print_plan(runner, [*lines, runner.tune_loader()])
        runner.train()
    checkpoint = quote(str(last_checkpoint(cfg.work_dir)))
    log_rank0(f'\nnext: mae-backbone visualize {checkpoint} IMAGE -o reconstruction.png\n'
              f'then: mae-backbone train CONFIG --pretrained {checkpoint}')
    return results(runner.message_hub.log_scalars)
