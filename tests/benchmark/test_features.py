"""The benchmark of frozen features counts the same images on both sides, and says what it found."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.class_folders import write_classes

from mae_backbone.benchmark import features

ROOT = Path(__file__).parents[2]
OPTIONS = dict(images=10, arch='tiny', patch_size=8, image_size=16, batch=4, device='cpu')


def test_both_sides_take_every_image_once(tmp_path, monkeypatch):
    seen = []
    real = features.ViTClassifier

    def counted(*args: object, **options: object) -> features.ViTClassifier:
        model = real(*args, **options)
        model.backbone.patch_embed.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
        return model
    monkeypatch.setattr(features, 'ViTClassifier', counted)
    data = str(write_classes(tmp_path))
    for side in (features.extraction, features.forward):
        work = side(data, **OPTIONS)
        seen.clear()
        work()
        assert seen == [4, 4, 2], side


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match='holds 24 images, wanted --images 2,000: choose fewer'):
        features.forward(str(write_classes(tmp_path)), **OPTIONS | {'images': 2000})


@pytest.mark.slow
def test_the_tool_prints_a_table_and_writes_what_was_agreed_on(tmp_path):
    said = subprocess.run(
        [sys.executable, ROOT / 'tools/benchmark.py', 'features', '--images', '8', '--batch', '4', '--patch-size', '16',
         '--rounds', '1', '--warmup', '0', '--json', tmp_path / 'found.json'],
        check=True, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT)}).stdout
    assert 'images/s' in said
    found = json.loads((tmp_path / 'found.json').read_text())
    for side in ('ours', 'baseline'):
        assert found[side]['throughput'] > 0
        assert 10**5 < found[side]['peak_memory'] < 10**9
    assert found['ratio']['throughput'] == found['ours']['throughput'] / found['baseline']['throughput']
