"""Benchmark of feature extraction: the same images on both sides, a table and a JSON file."""
import json

import pytest
from helpers.class_folders import write_classes

from mae_backbone.benchmark import features
from mae_backbone.cli.main import main

OPTIONS = dict(images=10, arch='tiny', patch_size=8, image_size=16, batch=4, device='cpu')


def test_both_sides_process_every_image_once(tmp_path, monkeypatch):
    seen = []
    real = features.ViTClassifier

    def counted(*args: object, **options: object) -> features.ViTClassifier:
        model = real(*args, **options)
        model.backbone.patch_embed.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        return model
    monkeypatch.setattr(features, 'ViTClassifier', counted)
    data = str(write_classes(tmp_path))
    for side in (features.extraction, features.forward):
        work = side(data, **OPTIONS)
        seen.clear()
        work()
        assert seen == [4, 4, 2], side


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match='holds 24 images, fewer than --images 2,000'):
        features.forward(str(write_classes(tmp_path)), **OPTIONS | {'images': 2000})


def test_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, 'peak_memory', lambda *_, **__: 2**20)  # a process that imports all again
    assert main(['benchmark', 'features', '--images', '8', '--batch', '4', '--patch-size', '16', '--rounds', '1',
                 '--warmup', '0', '--json', tmp_path / 'result.json']) == 0
    assert 'images/s' in capsys.readouterr().out
    result = json.loads((tmp_path / 'result.json').read_text())
    for side in ('ours', 'baseline'):
        assert result[side]['throughput'] > 0
        assert result[side]['peak_memory'] == 2**20
    assert [result['ratio']['throughput']] == result['ratios']  # of one round
