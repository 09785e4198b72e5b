"""Validates the last checkpoint of a training: `python -m mae_backbone.transfer.validation CONFIG RUN --work-dir DIR`.

A training that is killed in its last validation has nothing to train when it goes on, and does not validate again.
"""
import json
from pathlib import Path

from mmengine.dist import is_main_process

from mae_backbone.cli import common as cli
from mae_backbone.engine.runner import Runner, resume_path
from mae_backbone.utils.atomic_write import write_text

METRICS = 'metrics.json'  # in the work directory


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('run', help='work directory of the training')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    cli.data_lines(cfg, ['val'])
    cfg.load_from = resume_path('auto', args.run)
    if cfg.load_from is None:
        raise ValueError(f'{args.run} has no checkpoint to validate: the config must save one at the end')
    cfg.merge_from_dict({'default_hooks.checkpoint': None})  # which would save the best one
    found = Runner.quietly_from_cfg(cfg).val()
    if is_main_process():
        write_text(Path(cfg.work_dir, METRICS), json.dumps(found, default=lambda value: value.tolist()))


if __name__ == '__main__':
    cli.tool(main)
