"""MAE pretraining of ViT-Ti/16 with a ViT-B teacher on ImageNet-1K, 400 epochs: MAE-Lite (Wang et al., ICML 2023).

Run     mae-backbone pretrain mae_vit-ti_mae-lite_400e_in1k --amp
        on your own images: --data-root DIR
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images
        mae_pretrain_vit_base.pth of the public MAE code; another teacher: --cfg-options model.teacher.checkpoint=FILE
Costs   the teacher's first 11 blocks run forward on a quarter of the patches
Expect  78.4 top-1 after fine-tuning for 300 epochs, 78.0 without a teacher (wangsr126/MAE-Lite). Ours: not measured
        yet.

Constants of the public code (mae_lite_distill_exp.py, models_mae.py): as for MAE, but 12 heads instead of the 3 of
ViT-Ti, a decoder of 1 block, crops from 0.08 of the image, and the defaults of AttentionDistillation. Fine-tuning needs
the 12 heads too: model.backbone.arch=dict(width=192, depth=12, heads=12).
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

model = dict(
    encoder=dict(_delete_=True, arch=dict(width=192, depth=12, heads=12), image_size=224, patch_size=16),
    decoder_width=96, decoder_depth=1, decoder_heads=3,
    teacher=dict(
        type='mae_backbone.AttentionDistillation', checkpoint='mae_pretrain_vit_base.pth', encoder=dict(arch='base')))
train_dataloader = dict(dataset=dict(scale=(0.08, 1.0)))
train_cfg = dict(max_epochs=400)
