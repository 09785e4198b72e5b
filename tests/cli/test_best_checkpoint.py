"""The best checkpoint is kept if there are several validations, and `--patience` fits them."""
import pytest
from mmengine.config import Config

from mae_backbone.cli.best_checkpoint import keep_best, main_metric, num_validations


def config(evaluator: object = None, *, save_best: str | None = None, **train_cfg: int) -> Config:
    checkpoint = dict(type='CheckpointHook', interval=1) | ({} if save_best is None else dict(save_best=save_best))
    return Config(dict(
        train_cfg=train_cfg, val_dataloader=dict(batch_size=1), default_hooks=dict(checkpoint=checkpoint),
        val_evaluator=evaluator or dict(type='CocoMetric', metric=['bbox', 'segm'])))


@pytest.mark.parametrize(('evaluator', 'name'), [
    (dict(type='CocoMetric', metric=['bbox', 'segm']), 'coco/bbox_mAP'), (dict(type='CocoMetric'), 'coco/bbox_mAP'),
    (dict(type='mmdet.CocoMetric', metric='segm', prefix='cells'), 'cells/segm_mAP'),
    (dict(type='mae_backbone.LVISMetric'), 'lvis/bbox_AP'), (dict(type='IoUMetric', iou_metrics=['mIoU']), 'mIoU'),
    ([dict(type='mae_backbone.CrossEntropy'), dict(type='mae_backbone.TopKAccuracy', topk=(1, 5))], 'accuracy/top1'),
    (dict(type='mae_backbone.TopKAccuracy', topk=5), 'accuracy/top5'),  # which the metric refuses
    (dict(type='IoUMetric', iou_metrics=['mDice', 'mFscore']), 'mDice'),
    (dict(type='CocoMetric', metric='proposal'), None),
    (dict(type='CocoMetric', metric_items=['mAP_50', 'mAP_s']), 'coco/bbox_mAP_50'),
    (dict(type='IoUMetric', iou_metrics=['mDice', 'mIoU']), 'mIoU'), (dict(type='VOCMetric', metric='recall'), None),
    (dict(type='VOCMetric'), 'pascal_voc/mAP'), (dict(type='MyMetric'), None)])
def test_metric_that_counts_is_known(evaluator: object, name: str | None):
    assert main_metric(config(evaluator, max_iters=10)) == name


@pytest.mark.parametrize(('train_cfg', 'number'), [
    (dict(max_iters=100, val_interval=100), 1), (dict(max_iters=100, val_interval=30), 4),
    (dict(max_iters=100, val_interval=50), 2), (dict(max_epochs=5), 5), (dict(max_epochs=10, val_begin=8), 3)])
def test_validations_are_counted(train_cfg: dict, number: int):
    assert num_validations(config(**train_cfg)) == number


def test_best_checkpoint_is_kept_of_several_validations():
    cfg = config(max_iters=100, val_interval=20)
    assert keep_best(cfg) == ['best checkpoint: by coco/bbox_mAP of 5 validations']
    assert cfg.default_hooks.checkpoint.save_best == 'coco/bbox_mAP'
    single = config(max_iters=100, val_interval=100)
    assert keep_best(single) == []
    assert 'save_best' not in single.default_hooks.checkpoint
    chosen = config(save_best='coco/segm_mAP', max_iters=100, val_interval=20)
    assert keep_best(chosen) == ['best checkpoint: by coco/segm_mAP of 5 validations']


def test_patience_adds_the_hook():
    cfg = config(max_iters=100, val_interval=20)
    line, = keep_best(cfg, 2)
    assert line.startswith('early stopping: after 2 of 5 validations without a better coco/bbox_mAP')
    assert cfg.default_hooks.early_stopping == dict(type='mae_backbone.EarlyStopHook', monitor='coco/bbox_mAP',
                                                    patience=2, rule='greater')


def test_patience_without_enough_validations_or_metric_is_refused():
    with pytest.raises(ValueError, match=r'validates 1 times, every 600 of 600 iters.*val_interval=50'):
        keep_best(config(max_iters=600, val_interval=600), 3)
    with pytest.raises(ValueError, match=r'validates 2 times, every 1 of 2 iters\. Train for more than 3 iters'):
        keep_best(config(max_iters=2, val_interval=1), 3)
    with pytest.raises(ValueError, match='the metric of the validation is unknown'):
        keep_best(config(dict(type='MyMetric'), max_iters=600, val_interval=6), 3)
