"""1, 10 and 100 % of the labels, three seeds: frozen features and trainings of small models on three small sets.

Run     mae-backbone transfer few-labels --checkpoint MAE.pth --against random --data cifar10 --data-root data
        Run it once for each data set, with --data cifar10, nuclei or camvid and the MAE that was pretrained on it
        (docs/benchmarks.md). The models have the size of this MAE.
Data    data/cifar10, data/nuclei, data/camvid, with the folders that the docstrings of the configs describe
Expect  results as in docs/benchmarks.md

Trainings with few labels have the same number of iterations as trainings with all labels, so that only the labels
differ. The attentive probe with all labels is not included, because it takes hours on a CPU. Add 1.0 to its `labels` to
run it.
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
