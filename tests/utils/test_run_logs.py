"""Logs of started tools: progress, curves and last lines."""
import json

import pytest

from mae_backbone.utils.run_logs import curve, progress, tail


def test_progress_comes_from_the_last_matching_line():
    log = ('mmengine - INFO - Iter(train) [ 10/200]  lr: 1e-3  eta: 0:01:40  time: 0.5\n'
           'mmengine - INFO - Iter(train) [ 20/200]  lr: 1e-3  eta: 0:01:30  time: 0.5\nSaving checkpoint')
    assert progress(log) == 'train 20/200, 0:01:30 left'
    assert progress('importing') == 'starting'


def test_curve_covers_all_attempts_in_order(tmp_path):
    for attempt, lines in (('1', [{'mIoU': 1.0, 'step': 10}, {'loss': 3.0, 'step': 11}]),
                           ('2', [{'mIoU': 2.0, 'step': 20}])):
        logs = tmp_path / attempt / 'vis_data'
        logs.mkdir(parents=True)
        (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n{"mIoU": 3')  # killed while it wrote
    assert curve(tmp_path, 'mIoU') == [(10, 1.0), (20, 2.0)]
    with pytest.raises(ValueError, match='no logged nothing'):
        curve(tmp_path, 'nothing')


def test_tail_is_the_end_or_empty_without_a_file(tmp_path):
    (tmp_path / 'log').write_bytes(b'begin ' + b'x' * 50 + b'\xff end')
    assert tail(tmp_path / 'log', 6).endswith('\ufffd end')
    assert tail(tmp_path / 'none') == ''
