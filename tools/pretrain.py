"""Pretrains a Masked Autoencoder on a folder of unlabeled images.

    python tools/pretrain.py configs/pretrain/mae_vit-b_800e_in1k.py --data-root YOUR/IMAGES
"""
from mae_backbone.cli import common as cli
from mae_backbone.engine.runner import Runner


def main() -> None:
    args = cli.training_parser(__doc__).parse_args()
    cfg = cli.load_config(args)
    if args.pretrained:
        raise ValueError('--pretrained is for tools/train.py; to go on with a pretraining pass --resume CHECKPOINT')
    lines = cli.data_lines(cfg, ['train']) + cli.prepare_training(cfg, args)
    runner = Runner.quietly_from_cfg(cfg)
    cli.print_plan(runner, [*lines, runner.tune_loader()])
    runner.train()
    checkpoint = cli.last_checkpoint(cfg.work_dir)
    cli.say(f'\nnext: python tools/visualize.py {args.config} {checkpoint} IMAGE -o reconstruction.png\n'
            f'then: python tools/train.py CONFIG --pretrained {checkpoint}')


if __name__ == '__main__':
    cli.tool(main)
