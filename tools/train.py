"""Trains a detector, a segmenter or a classifier; `--pretrained` starts it from a MAE.

    python tools/train.py configs/detection/mask-rcnn_vitdet-b_100e_coco.py --data-root coco --pretrained MAE.pth
"""
from mae_backbone.cli import common as cli
from mae_backbone.engine.runner import Runner


def main() -> None:
    args = cli.training_parser(__doc__).parse_args()
    cfg = cli.load_config(args)
    lines = cli.data_lines(cfg, ['train', 'val']) + cli.prepare_training(cfg, args)
    runner = Runner.quietly_from_cfg(cfg)
    cli.print_plan(runner, lines)
    runner.train()
    root = f' --data-root {args.data_root}' if args.data_root else ''
    checkpoint = cli.last_checkpoint(cfg.work_dir)
    cli.say(f'\nnext: python tools/test.py {args.config} {checkpoint}{root}\n'
            f'then: python tools/predict.py {args.config} {checkpoint} IMAGE|FOLDER -o predictions{root}')


if __name__ == '__main__':
    cli.tool(main)
