"""Effect of pretraining on three small data sets: fewer labels, training time, frozen features, length, model size.

Run     mae-backbone transfer evidence --data-root data
        one data set: --data camvid
        quick preview with trainings of a tenth of the length: --length 0.1
        only the comparison of MAE with random weights: --checkpoint mae --against random
Data    data/cifar10, data/nuclei, data/camvid, with the folders that the docstrings of the configs describe
Expect  results as in docs/benchmarks.md. The whole suite takes days on one CPU core.

The suite trains its encoders itself:
- `mae` is pretrained on the images of the data set.
- `continued` starts from the MAE of another data set and is pretrained on this one for a quarter of the length.
- `supervised` is trained on all labels of CIFAR-10 for about the same CPU time as the MAE.
- `mae-half`, `mae-quarter` and `mae-eighth` are pretrained for a half, a quarter and about an eighth of the length.
- `fast` is pretrained with a config that needs less computation per image, and `fast-quarter` for a quarter of its
  length.
- `small` has a sixth of the weights. `random-small` is its baseline: the same architecture with random weights.

Trainings use bfloat16 on GPUs and on CPUs that are faster in it (`--amp`), where it halves the time. Mask R-CNN uses
float32, because bfloat16 makes a model of this size hardly faster (docs/speed.md).
"""
title = 'Effect of pretraining'
data = dict(cifar10='cifar10', nuclei='nuclei', camvid='camvid')
labels = [0.05, 0.1, 0.3, 1.0]
seeds = [0, 1, 2]
new_random_weights = True
against = ['random', 'supervised']

tasks = {
    'knn': dict(probe='knn', data=['cifar10'], labels=[1.0], seeds=[0]),
    'knn-whitened': dict(probe='knn', data=['cifar10'], labels=[1.0], seeds=[0], options=dict(whiten=True)),
    'linear': dict(probe='linear', data=['cifar10'], labels=[0.01, 0.1, 1.0], options=dict(epochs=30)),
    'attentive': dict(probe='attentive', data=['cifar10'], labels=[0.01, 0.1]),
    'dense-linear': dict(config='demo/dense-linear_vit-micro_camvid.py', data=['camvid'], metrics={'mIoU': 'mIoU'},
                         amp=True, labels=[0.1, 1.0]),
    'segmentation': dict(config='demo/upernet_vit-micro_2000i_camvid.py', data=['camvid'], metrics={'mIoU': 'mIoU'},
                         amp=True),
    'detection': dict(
        config='demo/mask-rcnn_vit-micro_900i_nuclei.py', data=['nuclei'], scale=100.0,
        metrics={'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}),
    'fine-tuning': dict(config='demo/vit-micro_finetune-900i_cifar10.py', data=['cifar10'], amp=True,
                        labels=[0.01, 0.05, 0.1, 0.3, 1.0]),
    # Peers: common models, trained from scratch for about the CPU time of the task that `compare_to` names.
    'resnet18': dict(peer='resnet18', compare_to='fine-tuning', minutes=18, amp=True, data=['cifar10'],
                     labels=[0.1, 1.0]),
    'unet': dict(peer='unet', compare_to='segmentation', minutes=18, amp=True, data=['camvid'], labels=[0.1, 1.0]),
    'mask-rcnn': dict(peer='mask-rcnn', compare_to='detection', minutes=15, amp=True, data=['nuclei'],
                      labels=[0.1, 1.0]),
}

cifar10 = dict(pretrain='demo/mae_vit-micro_cifar10.py', data='cifar10', folder='train', amp=True)
nuclei = dict(pretrain='demo/mae_vit-micro_nuclei.py', data='nuclei', folder='train', amp=True)
camvid = dict(pretrain='demo/mae_vit-micro_camvid.py', data='camvid', folder='images/training', amp=True)
supervised = dict(data='cifar10', amp=True)
some = dict(labels=[0.1, 1.0])
frozen_and_tenth = dict(tasks=['linear', 'segmentation', 'detection', 'fine-tuning'], labels=[0.1])
small = dict(on=dict(data=['cifar10'], **frozen_and_tenth),
             training={'model.backbone.arch.width': 64, 'model.backbone.arch.depth': 4})
encoders = {
    'mae': dict(
        cifar10=dict(**cifar10, length=28, line='mae'), nuclei=dict(**nuclei, length=14000, line='mae'),
        camvid=dict(**camvid, length=14000, line='mae')),
    'continued': dict(
        nuclei=dict(**nuclei, length=3500, start='mae/camvid', on=some),
        camvid=dict(**camvid, length=3500, start='mae/nuclei', on=some)),
    # An epoch of supervised training takes about four times as long as an epoch of MAE pretraining, because the encoder
    # of a MAE processes only a quarter of the patches. Images of 64 pixels are used for nuclei and CamVid because the
    # MAEs of these data sets use this size.
    'supervised': dict(
        cifar10=dict(supervised, train='demo/vit-micro_supervised_cifar10.py', length=12, on=some),
        nuclei=dict(supervised, train='demo/vit-micro_supervised-64px_cifar10.py', length=8, on=some),
        camvid=dict(supervised, train='demo/vit-micro_supervised-64px_cifar10.py', length=8, on=some)),
    'fast': dict(
        cifar10=dict(cifar10, pretrain='demo/mae_vit-micro_fast_cifar10.py', length=28, line='fast', against=['mae'],
                     on=frozen_and_tenth),
        camvid=dict(camvid, pretrain='demo/mae_vit-micro_fast_camvid.py', length=14000, line='fast', against=['mae'],
                    on=frozen_and_tenth)),
    'fast-quarter': dict(
        cifar10=dict(cifar10, pretrain='demo/mae_vit-micro_fast_cifar10.py', length=7, line='fast',
                     on=frozen_and_tenth),
        camvid=dict(camvid, pretrain='demo/mae_vit-micro_fast_camvid.py', length=3500, line='fast',
                    on=frozen_and_tenth)),
    'mae-half': dict(
        cifar10=dict(**cifar10, length=14, line='mae', on=frozen_and_tenth),
        nuclei=dict(**nuclei, length=7000, line='mae', on=frozen_and_tenth),
        camvid=dict(**camvid, length=7000, line='mae', on=frozen_and_tenth)),
    'mae-quarter': dict(
        cifar10=dict(**cifar10, length=7, line='mae', on=frozen_and_tenth),
        nuclei=dict(**nuclei, length=3500, line='mae', on=frozen_and_tenth),
        camvid=dict(**camvid, length=3500, line='mae', on=frozen_and_tenth)),
    'mae-eighth': dict(
        cifar10=dict(**cifar10, length=3, line='mae', on=frozen_and_tenth),
        nuclei=dict(**nuclei, length=1750, line='mae', on=frozen_and_tenth),
        camvid=dict(**camvid, length=1750, line='mae', on=frozen_and_tenth)),
    'small': dict(**cifar10, **small, length=28, against=['random-small'],
                  options={'model.encoder.arch.width': 64, 'model.encoder.arch.depth': 4}),
    'random-small': dict(**small, like='small', against=[]),
}
del cifar10, nuclei, camvid, supervised, some, frozen_and_tenth, small  # unknown keys are refused
