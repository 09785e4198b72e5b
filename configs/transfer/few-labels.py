"""1, 10 and 100 % of the labels, three seeds: frozen features and trainings of small models on three small sets.

Run     python tools/transfer.py few-labels --checkpoint MAE.pth --against random --data cifar10 --data-root data
        as the MAE of a set (docs/benchmarks.md) fits the models for that set: --data cifar10|nuclei|camvid
Data    data/cifar10, data/nuclei, data/camvid, laid out as the heads of the configs say
Expect  docs/benchmarks.md

Trainings have as many iterations with few labels as with all, so that what differs is what the labels say. The
attentive probe of all labels, hours on a CPU, is left out: set its `labels` to have it.
"""
title = 'Transfer with few labels'
data = dict(cifar10='cifar10', nuclei='nuclei', camvid='camvid')
labels = [0.01, 0.1, 1.0]
seeds = [0, 1, 2]
new_random_weights = True

tasks = {
    'knn': dict(probe='knn', data=['cifar10']),
    'linear': dict(probe='linear', data=['cifar10']),
    'attentive': dict(probe='attentive', data=['cifar10'], labels=[0.01, 0.1]),
    'fine-tuning': dict(config='demo/vit-micro_finetune-iters_cifar10.py', data=['cifar10']),
    'detection': dict(
        config='demo/mask-rcnn_vit-micro_nuclei.py', data=['nuclei'], scale=100.0,
        metrics={'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}),
    'dense-linear': dict(config='demo/dense-linear_vit-micro_camvid.py', data=['camvid'], metrics={'mIoU': 'mIoU'}),
    'segmentation': dict(config='demo/upernet_vit-micro_camvid.py', data=['camvid'], metrics={'mIoU': 'mIoU'}),
}
