"""The preparation of images in a file is the test pipeline of the training, or a reason why there is none."""
from pathlib import Path
from typing import Any

import pytest
from helpers.small_sets import coco_config

from mae_backbone.prediction.onnx.prepare import pipeline_settings


def settings(tmp_path: Path, **options: Any) -> dict[str, Any]:
    cfg = coco_config(tmp_path)
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale=(64, 48), keep_ratio=True, **options))
    return pipeline_settings(cfg, None)


def test_a_resize_is_a_step(tmp_path: Path):
    assert settings(tmp_path, backend='cv2')['steps'] == [{'scale': [64, 48], 'keep_ratio': True}]


@pytest.mark.parametrize(('key', 'value'), [('backend', 'pillow'), ('interpolation', 'area'),
                                            ('clip_object_border', False)])
def test_a_resize_with_another_result_is_named(tmp_path: Path, key: str, value: Any):
    found = settings(tmp_path, **{key: value})
    assert found == {'kind': 'unknown', 'reason': f'the test pipeline has a Resize with {key}={value!r}'}
