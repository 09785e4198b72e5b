"""Validate the last checkpoint of a training: `python -m mae_backbone.cli.validate_run CONFIG RUN --work-dir DIR`.

Used by `mae-backbone transfer`: a training that was killed in its last validation has nothing left to train when it is
resumed, and does not validate again.
"""
import argparse
import json
import sys
from pathlib import Path

from mae_backbone.cli.errors import exit_process, run_cli
from mae_backbone.cli.options import add_config_options, add_launcher, add_reader, add_work_dir
from mae_backbone.transfer.worker import METRICS


def run(arguments: list[str]) -> None:
    """Writes the metrics to `METRICS` in the work directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_reader(add_config_options(parser))
    parser.add_argument('run', metavar='RUN', help='work directory of the training')
    add_work_dir(parser)
    add_launcher(parser)
    args = parser.parse_args(arguments)
    from mmengine.dist import is_main_process

    from mae_backbone.checkpoints.run_files import resume_path
    from mae_backbone.cli.config import data_lines, load_config, reader_lines
    from mae_backbone.engine.runner import Runner
    from mae_backbone.utils.atomic_write import write_text

    cfg = load_config(args)
    reader_lines(cfg, args)
    data_lines(cfg, ['val'])
    cfg.load_from = resume_path('auto', args.run)
    if cfg.load_from is None:
        raise ValueError(f'{args.run} has no checkpoint to validate: the config must save one at the end')
    cfg.merge_from_dict({'default_hooks.checkpoint': None})  # it would save the best checkpoint
    metrics = Runner.quietly_from_cfg(cfg).val()
    if is_main_process():
        write_text(Path(cfg.work_dir, METRICS), json.dumps(metrics, default=lambda value: value.tolist()))


if __name__ == '__main__':
    exit_process(run_cli(lambda: run(sys.argv[1:])))
