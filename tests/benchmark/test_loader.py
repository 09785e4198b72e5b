"""Benchmark of data loading: the same crops on both sides, a table and a JSON file."""
import json
import statistics

import cv2
import numpy as np
import pytest
import torch
from helpers.image_files import save

from mae_backbone.benchmark import loader
from mae_backbone.benchmark.loader import measure
from mae_backbone.benchmark.reference_loader import MEAN, STD, ReferenceImages
from mae_backbone.benchmark.synthetic_images import photograph, write_photographs
from mae_backbone.cli.main import main
from mae_backbone.data.sampler import Draw
from mae_backbone.data.sources import open_source
from mae_backbone.data.unlabeled import UnlabeledImages


def test_both_sides_load_the_same_crops(tmp_path):
    for i in range(3):
        save(tmp_path / f'{i}.png', cv2.GaussianBlur(photograph(90, 120, seed=i), (0, 0), 1))
    draws = [Draw(i % 3, 100 + i) for i in range(9)]
    ours = UnlabeledImages(tmp_path, image_size=32).__getitems__(draws)
    plain = ReferenceImages(open_source(tmp_path), (32, 32))
    for image, flip, draw in zip(ours['inputs'], ours['flips'], draws, strict=True):
        expected = plain[draw].permute(1, 2, 0) * torch.tensor(STD) + torch.tensor(MEAN)
        assert ((image.flip(1) if flip else image) / 255 - expected).abs().max() < 2.5 / 255
    assert 0 < ours['flips'].sum() < 9


def test_synthetic_images_are_as_large_as_imagenet(tmp_path):
    write_photographs(tmp_path, 3)
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert 95_000 < np.mean(sizes) < 130_000  # 138 GB of 1,281,167 images, of 400x350 pixels on average
    assert cv2.imread(str(tmp_path / '000002.jpg')).shape == (375, 500, 3)


def test_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loader, 'peak_memory', lambda *_, **__: 2**20)  # a process that imports all again
    write_photographs(tmp_path / 'images', 8)
    assert main(['benchmark', 'loader', '--data-root', tmp_path / 'images', '--image-size', '64', '--batch', '4',
                 '--images', '8', '--rounds', '1', '--json', tmp_path / 'result.json']) == 0
    assert 'images/s' in capsys.readouterr().out
    result = json.loads((tmp_path / 'result.json').read_text())
    for side in ('ours', 'baseline'):
        assert result[side]['throughput'] > 0
        assert result[side]['images_per_second_of_a_worker'] > 0
        assert result[side]['peak_memory'] == 2**20
        assert result[side]['settings']['images'] == 8
        assert all(seconds >= 0 for seconds in result[side]['parts'].values())
    assert result['ratio'] == {
        'throughput': statistics.median(result['ratios']),
        'memory': result['ours']['peak_memory'] / result['baseline']['peak_memory']}


def test_sets_of_different_size_are_refused(tmp_path):
    for i in range(3):
        save(tmp_path / f'packed/{i}.png')
        save(tmp_path / f'files/{i // 2}.png')
    with pytest.raises(ValueError, match=r'holds 3 images and .* 2 for plain form: they must be the same images'):
        measure(tmp_path / 'packed', baseline_root=tmp_path / 'files')
