"""Evaluates a checkpoint with the metrics of its config.

    python tools/test.py CONFIG CHECKPOINT --data-root DIR

CHECKPOINT may be `random` for the weights that a training starts from.
"""
from mae_backbone import cli
from mae_backbone.runner import Runner, is_encoder_only


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of tools/train.py (for nearest neighbours: any with a ViT)')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    lines = cli.data_lines(cfg, ['test'])
    cli.make_folder(cfg.work_dir, '--work-dir')
    cfg.load_from = None if args.checkpoint == 'random' else args.checkpoint
    runner = Runner.quietly_from_cfg(cfg)
    cli.print_plan(runner, [*lines, f'weights: {args.checkpoint}'])
    metrics = runner.test()
    for name, value in metrics.items():
        cli.say(f'{name}: {value:.4g}')
    root = f' --data-root {args.data_root}' if args.data_root else ''
    if is_encoder_only(runner.model):
        cli.say(f'\nnext: python tools/train.py CONFIG --pretrained {args.checkpoint}{root}')
    else:
        cli.say(f'\nnext: python tools/predict.py {args.config} {args.checkpoint} IMAGE|FOLDER -o predictions{root}')


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
