"""10, 30 and 100 % of the labels of three small data sets, three seeds, in short trainings for two CPU cores.

Run     mae-backbone transfer small-sets --data nuclei --checkpoint MAE.pth --against random SUPERVISED.pth
        --data-root data
        Run it once for each data set, with --data cifar10, nuclei or camvid and the MAE that was pretrained on it
        (docs/benchmarks.md).
Data    data/cifar10, data/nuclei, data/camvid, with the folders that the docstrings of the configs describe
Expect  results as in docs/benchmarks.md for nuclei and camvid. Fine-tuning on cifar10: not measured yet

Trainings with few labels have the same number of iterations as trainings with all labels, so that only the labels
differ.
"""
title = 'Three small sets'
data = dict(cifar10='cifar10', nuclei='nuclei', camvid='camvid')
labels = [0.1, 0.3, 1.0]
seeds = [0, 1, 2]
new_random_weights = True

tasks = {
    'knn': dict(probe='knn', data=['cifar10']),
    'linear': dict(probe='linear', data=['cifar10'], options=dict(epochs=30)),
    'fine-tuning': dict(
        config='demo/vit-micro_finetune-iters_cifar10.py', data=['cifar10'], labels=[0.1, 1.0],
        options={'train_cfg.max_iters': 200, 'train_cfg.val_interval': 200,
                 'param_scheduler.1.end': 200, 'param_scheduler.1.T_max': 140}),
    'detection': dict(
        config='demo/mask-rcnn_vit-micro_nuclei.py', data=['nuclei'], scale=100.0,
        metrics={'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'},
        options={'train_cfg.max_iters': 200, 'train_cfg.val_interval': 200,
                 'param_scheduler.1.end': 200, 'param_scheduler.1.T_max': 150}),
    'segmentation': dict(
        config='demo/upernet_vit-micro_camvid.py', data=['camvid'], metrics={'mIoU': 'mIoU'},
        options={'train_cfg.max_iters': 200, 'train_cfg.val_interval': 200, 'param_scheduler.1.end': 200}),
}
