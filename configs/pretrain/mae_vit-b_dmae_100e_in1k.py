"""MAE pretraining of ViT-B/16 with a ViT-L teacher on ImageNet-1K, 100 epochs: DMAE (Bai et al., CVPR 2023).

Run     mae-backbone pretrain mae_vit-b_dmae_100e_in1k --amp
        on your own images: --data-root DIR
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images
        mae_pretrain_vit_large.pth of the public MAE code; another teacher: --cfg-options model.teacher.checkpoint=FILE
Costs   the teacher's first 18 blocks run forward on a quarter of the patches
Expect  84.0 top-1 after fine-tuning for 100 epochs (paper, table 1). Ours: not measured yet.

Constants of the public code (UCSC-VLAA/DMAE, pretrain.sh): as for MAE with 100 epochs, 40 of them warm-up, and the
defaults of FeatureDistillation.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

model = dict(teacher=dict(
    type='mae_backbone.FeatureDistillation', checkpoint='mae_pretrain_vit_large.pth', encoder=dict(arch='large')))
train_cfg = dict(max_epochs=100)
