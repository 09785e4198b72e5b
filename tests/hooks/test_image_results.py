"""Results of single images: those of the last validation, in its order, equal to the accuracy."""
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mae_backbone.evaluation.metrics import TopKAccuracy
from mae_backbone.hooks import image_results
from mae_backbone.hooks.image_results import ImageResultsHook
from mae_backbone.utils.run_logs import IMAGE_RESULTS


def batches(seed: int) -> list[list[dict]]:
    chance = torch.Generator().manual_seed(seed)
    # Whole numbers have ties, which the accuracy breaks by the class index.
    return [[dict(scores=torch.randint(3, (4,), generator=chance).float(),
                  label=int(torch.randint(4, (1,), generator=chance))) for _ in range(5)] for _ in range(6)]


def validate(hook: ImageResultsHook, folder: Path, outputs: list[list[dict]]) -> None:
    run = SimpleNamespace(work_dir=str(folder))
    hook.before_val_epoch(run)
    for index, batch in enumerate(outputs):
        hook.after_val_iter(run, index, None, batch)
    hook.after_val_epoch(run, {})


def test_the_mean_is_the_accuracy_of_the_last_validation(tmp_path):
    hook = ImageResultsHook()
    for seed in (0, 1):
        validate(hook, tmp_path, batches(seed))
    written = json.loads((tmp_path / IMAGE_RESULTS).read_text())
    metric = TopKAccuracy(topk=(1,))
    for batch in batches(1):
        metric.process(None, batch)
    assert len(written) == 30
    assert 100 * np.mean(written) == pytest.approx(metric.evaluate(30)['accuracy/top1'])


def test_processes_that_share_a_validation_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(image_results, 'get_world_size', lambda: 2)
    validate(ImageResultsHook(), tmp_path, batches(0))
    assert not (tmp_path / IMAGE_RESULTS).exists()
