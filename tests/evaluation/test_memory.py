"""Evaluation keeps a few counts of each image: memory does not grow with images and predictions."""
import uuid
import weakref
from pathlib import Path

import pytest
from helpers.small_sets import write_label_maps
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner as MMEngineRunner
from mmseg.evaluation import IoUMetric

from mae_backbone.engine.runner import Runner
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root

CONFIG = Path(__file__).parents[2] / 'configs' / 'demo' / 'upernet_vit-micro_camvid.py'
TIMES, IMAGES, CLASSES = 8, 3, 3  # how often the set is gone through, of how many images and classes


class Alive(Hook):
    """Counts the images and predictions that are in memory after each image."""

    def __init__(self) -> None:
        self.seen, self.most = [], 0

    def after_test_iter(self, runner: MMEngineRunner, batch_idx: int, data_batch: dict, outputs: list) -> None:
        self.seen += [weakref.ref(tensor) for tensor in (outputs[0].pred_sem_seg.data, data_batch['inputs'][0])]
        self.most = max(self.most, sum(one() is not None for one in self.seen))


@pytest.fixture
def kept(monkeypatch) -> list[int]:
    """Numbers that the metric holds after each image."""
    counts, process = [], IoUMetric.process

    def watched(self, data_batch: dict, data_samples: list) -> None:
        process(self, data_batch, data_samples)
        counts.append(sum(tensor.numel() for result in self.results for tensor in result))
    monkeypatch.setattr(IoUMetric, 'process', watched)
    return counts


def test_images_and_predictions_of_a_segmenter_are_not_kept(tmp_path, kept):
    for split in ('training', 'validation'):
        write_label_maps(tmp_path, split=split, labels=(0, 1, 2))
    cfg = Config.fromfile(CONFIG)
    replace_data_root(cfg, str(tmp_path))
    adapt_classes(cfg)
    cfg.merge_from_dict({
        'model.backbone': dict(arch=dict(width=16, depth=1, heads=2), global_blocks=(0,)), 'work_dir': str(tmp_path),
        'model.neck.in_channels': 16, 'test_dataloader': dict(num_workers=0, persistent_workers=False),
        'visualizer.name': uuid.uuid4().hex, 'experiment_name': uuid.uuid4().hex})
    del cfg.default_hooks['visualization']  # which warns that it draws nothing
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', times=TIMES, dataset=cfg.test_dataloader.dataset)
    runner = Runner.quietly_from_cfg(cfg)
    runner.register_hook(alive := Alive())
    assert 'mIoU' in runner.test()
    assert len(alive.seen) == 2 * TIMES * IMAGES
    assert alive.most <= 4, 'those of this image and of the one before'
    assert kept == [4 * CLASSES * (number + 1) for number in range(TIMES * IMAGES)], 'four counts of each class'
