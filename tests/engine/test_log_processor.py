"""Log lines are readable; the files have MMEngine's numbers."""
import json
import re
from pathlib import Path

from helpers.pretraining_runs import log_of, runner

from mae_backbone.engine.log_processor import describe
from mae_backbone.utils.run_logs import progress


def test_numbers_have_readable_digits():
    line = '  '.join(describe(dict(loss=0.73125, lr=1.5e-4, base_lr=1.0, grad_norm=1.2345, time=0.41234, data_time=0.1,
                                   images_per_s=6123.44, waiting=0.031, memory=41234.7, skipped=0.0, iter=3, own=2.0)))
    assert line == ('loss: 0.7312  lr: 1.500e-04  grad_norm: 1.23  time: 0.412 s  images_per_s: 6,123.4  waiting: 3%  '
                    'memory: 41,235 MB  own: 2')


def test_skipped_steps_are_shown_if_any():
    assert describe(dict(skipped=0.04)) == ['skipped: 4.0% of the steps']


def test_line_has_position_eta_and_numbers(tmp_path: Path):
    for by_epoch, length in ((True, 'max_epochs'), (False, 'max_iters')):
        folder = tmp_path / length
        runner(folder, [], {'by_epoch': by_epoch, length: 2}, interval=2).train()
        lines = re.findall(r'INFO - (\w+\(train\).*)', log_of(folder))
        where = r'Epoch\(train\) +\[1\]\[2/2\]' if by_epoch else r'Iter\(train\) \[2/2\]'
        assert re.match(where + r'  eta: 0:00:0\d  loss: \d\.\d{4}  lr: 1\.000e-03  time: \S+ s', lines[0])
        assert by_epoch or progress(lines[0]).startswith('train 2/2, 0:00:0')
        kept = json.loads(next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()[0])
        assert {'loss', 'lr', 'time', 'data_time', 'iter'} <= kept.keys()
