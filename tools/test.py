"""Evaluates a checkpoint with the metrics of its config, or measures how fast it is.

    python tools/test.py CONFIG CHECKPOINT --data-root DIR

CHECKPOINT may be `random` for the weights that a training starts from: as the config initializes them, its
`init_cfg` included.
"""
from pathlib import Path

from mmengine.registry import MODELS

from mae_backbone.benchmark import inference
from mae_backbone.benchmark.report import write_json
from mae_backbone.cli import common as cli
from mae_backbone.engine.runner import Runner, is_encoder_only
from mae_backbone.prediction.tta import use_tta


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of tools/train.py (for nearest neighbors: any with a ViT)')
    parser.add_argument('--tta', action='store_true',
                        help='test-time augmentation: mirrored, and at the sizes of the config (tta.ratios)')
    parser.add_argument('--speed', type=int, nargs='?', const=50, metavar='IMAGES',
                        help='measure the time of so many images (50) in the place of the metrics')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    if args.speed is not None and (args.speed < 1 or args.launcher != 'none'):
        raise ValueError(f'--speed {args.speed} --launcher {args.launcher}: wanted one image or more, in one process')
    lines = cli.data_lines(cfg, ['test'])
    if args.tta:
        lines.append(use_tta(cfg))
    cli.make_folder(cfg.work_dir, '--work-dir')
    untrained = args.checkpoint == 'random'
    cfg.load_from = None if untrained else args.checkpoint
    runner = Runner.quietly_from_cfg(cfg)
    cli.print_plan(runner, [*lines, f'weights: {args.checkpoint}'])
    if untrained:
        runner._init_model_weights()  # MMEngine has it in train() alone
    runner.load_or_resume()
    encoder_only = is_encoder_only(runner.model)
    if args.tta:
        runner.model = MODELS.build({**cfg.tta_model, 'module': runner.model})
    if args.speed is not None:
        say_speed(runner, args.speed)
        return
    for name, value in runner.test().items():
        cli.say(f'{name}: {value:.4g}')
    if untrained:
        return
    root = f' --data-root {args.data_root}' if args.data_root else ''
    if encoder_only:
        cli.say(f'\nnext: python tools/train.py CONFIG --pretrained {args.checkpoint}{root}')
    else:
        cli.say(f'\nnext: python tools/predict.py {args.config} {args.checkpoint} IMAGE|FOLDER -o predictions{root}')


def say_speed(runner: Runner, images: int) -> None:
    """Measures, says what was found, and writes it to inference.json of the work directory."""
    found = inference.measure(runner.model, runner.build_dataloader(runner.cfg.test_dataloader).dataset, images=images)
    for line in inference.lines(found):
        cli.say(line)
    path = Path(runner.work_dir, 'speed.json')
    write_json(found, path)
    cli.say(f'written: {path}')


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
