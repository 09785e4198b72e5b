"""Benchmark of a pretraining step, on a tiny model."""
import json
import statistics
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from mae_backbone.benchmark import step
from mae_backbone.benchmark.peers.registry import find_peer
from mae_backbone.cli.main import main

PARTS = {'pixels to the device', 'embed + encode', 'decode + loss', 'backward', 'optimizer'}


@pytest.mark.slow
def test_command_prints_a_table_and_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture):
    monkeypatch.setattr(step, 'peak_memory', lambda *_, **__: 2**20)  # a process that imports all again
    options = ['--arch', 'tiny', '--batch', '2', '--image-size', '32', '48', '--decoder', '32', '1', '2',
               '--rounds', '2', '--threads', '1', '--device', 'cpu']
    threads = torch.get_num_threads()
    try:
        assert main(['benchmark', 'step', *options, '--dtype', 'bfloat16', '--json', tmp_path / 'step.json']) == 0
    finally:
        torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert all(text in output for text in ('images/s', 'peak memory'))
    result = json.loads((tmp_path / 'step.json').read_text())
    for side in ('ours', 'baseline'):
        assert set(result[side]['parts']) == PARTS
        assert result[side]['throughput'] > 0
        assert result[side]['peak_memory'] == 2**20
        assert 0 < result[side]['share_of_matmul_peak'] < 1.5
    assert result['ours']['settings']['dtype'] == 'bfloat16'
    assert result['baseline']['settings']['dtype'] == 'float32'
    assert result['ratio']['throughput'] == statistics.median(result['ratios'])
    assert 0.5 < result['ours']['flops_per_image'] / result['baseline']['flops_per_image'] < 1


def test_losses_that_are_not_numbers_are_not_equal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step, 'loss_difference', lambda *_: float('nan'))
    options = Namespace(device='cpu', dtype='float32', baseline_dtype='float32')
    with pytest.raises(ValueError, match='differ by nan'):
        step.measure(options, find_peer('step', 'plain'))
