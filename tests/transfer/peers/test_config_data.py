"""A peer sees the images that a training by the config sees."""
import argparse
from pathlib import Path

import pytest
from helpers.peer_data import DETECTION, SEGMENTATION, peer_spec, write_readable_boxes, write_readable_maps
from mmengine.registry import DefaultScope

from mae_backbone.cli import train
from mae_backbone.cli.config import data_lines, load_config
from mae_backbone.cli.training import prepare_training
from mae_backbone.engine.runner import Runner
from mae_backbone.transfer.peers.config_data import ConfigData


def files(loader) -> list[str]:
    return [Path(loader.dataset.get_data_info(index)['img_path']).name for index in range(len(loader.dataset))]


@pytest.mark.parametrize(('task', 'write'), [(SEGMENTATION, write_readable_maps), (DETECTION, write_readable_boxes)])
def test_labels_and_validation_images_are_those_of_the_training(tmp_path, task: dict, write):
    root = write(tmp_path / 'data', train=12)
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    chosen = set()
    for seed in (0, 1, 2):
        data = ConfigData(peer_spec(task, root, labels=0.3, seed=seed), batch_size=2)
        args = parser.parse_args([data.cfg.filename, '--data-root', str(root), '--labels', '0.3', '--seed', str(seed),
                                  '--work-dir', str(tmp_path / 'out')])
        cfg = load_config(args)
        data_lines(cfg, ['train', 'val'])
        prepare_training(cfg, args)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            ours = [Runner.build_dataloader(dict(loader, num_workers=0)) for loader in (
                cfg.train_dataloader, cfg.val_dataloader)]
        assert [files(data.train), files(data.val)] == [files(loader) for loader in ours]
        assert data.train.batch_size == 2
        chosen.add(tuple(files(data.train)))
    assert len(chosen) > 1, 'the seed selects the labels'


def test_a_metric_that_the_evaluator_does_not_compute_is_named(tmp_path):
    root = write_readable_maps(tmp_path / 'data', train=1, val=1)
    data = ConfigData(peer_spec(dict(SEGMENTATION, metrics={'mDice': 'Dice'}), root))
    [batch] = data.val
    for sample in batch['data_samples']:
        sample.pred_sem_seg = sample.gt_sem_seg
    data.add_predictions(batch, batch['data_samples'])
    with pytest.raises(ValueError, match='the validation has no mDice, it has aAcc, mIoU, mAcc: correct `metrics`'):
        data.metrics()
