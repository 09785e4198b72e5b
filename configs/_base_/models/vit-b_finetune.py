"""ViT-B/16 to fine-tune from MAE weights, with the regularization of the public MAE code (main_finetune.py)."""
_base_ = ['./vit-b_classifier.py']

model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    pool='mean', label_smoothing=0.1, random_erasing=0.25,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
