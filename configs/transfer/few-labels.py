"""1, 10 and 100 % of the labels, three seeds: frozen features and trainings of small models on three small sets.

Run     python tools/transfer.py few-labels --checkpoint MAE.pth --against random --data cifar10 --data-root data
        with the MAE of each set (docs/benchmarks.md) and --data cifar10, nuclei or camvid: its models fit that MAE
Data    data/cifar10, data/nuclei, data/camvid, laid out as the heads of the configs say
Expect  docs/benchmarks.md

Trainings have as many iterations with few labels as with all, so that only the labels differ. The attentive probe with
all labels takes hours on a CPU and is left out: add 1.0 to its `labels` to run it.
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
