"""The tasks of the MAE and ViTDet papers for ViT-B, L and H, next to their published results.

Run     mae-backbone transfer paper --checkpoint MAE.pth --against random --gpus 0,1,2,3,4,5,6,7
        each training needs 8 GPUs and takes days: see the docstrings of the configs
Data    data/imagenet/{train,val}/CLASS/*.JPEG, data/coco, data/ade/ADEChallengeData2016
Expect  the rows "reported" of the table. Not measured by us yet.
"""
title = 'The tasks of the papers'
data = dict(imagenet='imagenet', coco='coco', ade20k='ade/ADEChallengeData2016')
seeds = [0]

ap = {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}
tasks = {
    'knn': dict(probe='knn', data=['imagenet']),
    'linear': dict(
        data=['imagenet'], gpus=8, amp=True, config=dict(
            base='classification/vit-b_linear_90e_in1k.py', large='classification/vit-l_linear_50e_in1k.py',
            huge='classification/vit-h_linear_50e_in1k.py')),
    'fine-tuning': dict(
        data=['imagenet'], gpus=8, amp=True, config=dict(
            base='classification/vit-b_100e_in1k.py', large='classification/vit-l_50e_in1k.py',
            huge='classification/vit-h_50e_in1k.py')),
    'detection': dict(
        data=['coco'], gpus=8, amp=True, scale=100.0, metrics=ap, config=dict(
            base='detection/mask-rcnn_vitdet-b_100e_coco.py', large='detection/mask-rcnn_vitdet-l_100e_coco.py',
            huge='detection/mask-rcnn_vitdet-h_75e_coco.py')),
    'dense-linear': dict(
        data=['ade20k'], gpus=8, amp=True, metrics={'mIoU': 'mIoU'},
        config=dict(
            base='segmentation/linear_vit-b_40k_ade20k-512x512.py',
            large='segmentation/linear_vit-l_40k_ade20k-512x512.py',
            huge='segmentation/linear_vit-h_40k_ade20k-512x512.py')),
    'segmentation': dict(
        data=['ade20k'], gpus=8, amp=True, metrics={'mIoU': 'mIoU'},
        config=dict(
            base='segmentation/upernet_vit-b_160k_ade20k-512x512.py',
            large='segmentation/upernet_vit-l_160k_ade20k-512x512.py',
            huge='segmentation/upernet_vit-h_160k_ade20k-512x512.py')),
}

code, paper, vitdet = 'public MAE code, FINETUNE.md', 'MAE paper', 'detectron2, projects/ViTDet'
in1k = dict(data='imagenet', metric='top-1')
coco = dict(task='detection', data='coco')
ade = dict(task='segmentation', data='ade20k', metric='mIoU')
reported = [
    dict(task='linear', arch='base', value=67.8, name='MAE ViT-B, 1600 epochs', source=code, **in1k),
    dict(task='linear', arch='large', value=76.0, name='MAE ViT-L, 1600 epochs', source=code, **in1k),
    dict(task='linear', arch='huge', value=77.2, name='MAE ViT-H, 1600 epochs', source=code, **in1k),
    dict(task='fine-tuning', arch='base', value=83.6, name='MAE ViT-B, 1600 epochs', source=code, **in1k),
    dict(task='fine-tuning', arch='large', value=85.9, name='MAE ViT-L, 1600 epochs', source=code, **in1k),
    dict(task='fine-tuning', arch='huge', value=86.9, name='MAE ViT-H, 1600 epochs', source=code, **in1k),
    dict(task='fine-tuning', arch='base', value=82.3, name='ViT-B from scratch, 300 epochs', source=paper, **in1k),
    dict(task='fine-tuning', arch='large', value=82.6, name='ViT-L from scratch, 200 epochs', source=paper, **in1k),
    dict(task='fine-tuning', arch='huge', value=83.1, name='ViT-H from scratch, 200 epochs', source=paper, **in1k),
    dict(metric='box AP', arch='base', value=51.6, name='MAE ViT-B, ViTDet', source=vitdet, **coco),
    dict(metric='box AP', arch='large', value=55.5, name='MAE ViT-L, ViTDet', source=vitdet, **coco),
    dict(metric='box AP', arch='huge', value=56.7, name='MAE ViT-H, ViTDet', source=vitdet, **coco),
    dict(metric='mask AP', arch='base', value=45.9, name='MAE ViT-B, ViTDet', source=vitdet, **coco),
    dict(metric='mask AP', arch='large', value=49.2, name='MAE ViT-L, ViTDet', source=vitdet, **coco),
    dict(metric='mask AP', arch='huge', value=50.2, name='MAE ViT-H, ViTDet', source=vitdet, **coco),
    dict(arch='base', value=48.1, name='MAE ViT-B, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='base', value=47.4, name='supervised ViT-B, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='base', value=47.3, name='MoCo v3 ViT-B, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='base', value=47.1, name='BEiT ViT-B, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='large', value=53.6, name='MAE ViT-L, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='large', value=49.9, name='supervised ViT-L, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='large', value=49.1, name='MoCo v3 ViT-L, UPerNet', source='MAE paper, table 5', **ade),
    dict(arch='large', value=53.3, name='BEiT ViT-L, UPerNet', source='MAE paper, table 5', **ade),
]
del ap, code, paper, vitdet, in1k, coco, ade  # unknown keys are refused
