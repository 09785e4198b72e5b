"""tools/benchmark.py step on a tiny model."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = {'pixels to the device', 'embed + encode', 'decode + loss', 'backward', 'optimizer'}


@pytest.mark.slow
def test_a_table_and_a_file_with_both_sides(tmp_path: Path):
    options = ['--arch', 'tiny', '--batch', '2', '--image-size', '32', '48', '--decoder', '32', '1', '2',
               '--rounds', '2', '--threads', '1', '--device', 'cpu']
    said = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'benchmark.py', 'step', *options, '--dtype', 'bfloat16', '--json',
         tmp_path / 'step.json'], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert all(text in said for text in ('images/s', 'peak memory', 'torch.compile: off'))
    found = json.loads((tmp_path / 'step.json').read_text())
    for side in ('ours', 'baseline'):
        assert set(found[side]['parts']) == PARTS
        assert found[side]['throughput'] > 0
        assert found[side]['peak_memory'] > 5e6 * 4 * 3  # parameters, gradients and moments
        assert 0 < found[side]['share_of_matmul_peak'] < 1.5
    assert found['ours']['settings']['dtype'] == 'bfloat16'
    assert found['baseline']['settings']['dtype'] == 'float32'
    assert found['ratio']['throughput'] == pytest.approx(found['ours']['throughput'] / found['baseline']['throughput'])
    assert 0.5 < found['ours']['flops_per_image'] / found['baseline']['flops_per_image'] < 1
