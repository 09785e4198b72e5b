"""k-nearest-neighbor classification with the features of a pretrained ViT-B/16, ImageNet-1K, without training.

Run     mae-backbone test vit-b_knn_in1k work_dirs/mae_vit-b_800e_in1k/epoch_800.pth
Weights the encoder of any checkpoint (the public MAE files too)
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   1,331,167 forward passes, and 2.0 GB of device memory for the features: 1,281,167 x 768 in float16
Expect  no published figure for 800 epochs, 11.2 top-1 after 100 (lightly). MAE features need fine-tuning: use neighbors
        to compare checkpoints of one run, not methods. Ours: not measured yet.
"""
_base_ = ['../_base_/models/vit-b_classifier.py', '../_base_/datasets/in1k.py', '../_base_/runtime.py']

model = dict(num_classes=0, pool='mean')

# The training images, cropped as in testing.
bank = dict(
    batch_size=128, num_workers=8, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=_base_.data_root, split='train', train=False,
                 image_size=224))
# k and temperature as in DINO (Caron et al., ICCV 2021, section 4.1), where k = 20 is best.
test_cfg = dict(_delete_=True, type='mae_backbone.KNNLoop', bank=bank, k=(10, 20, 100, 200), temperature=0.07)
test_evaluator = dict(_delete_=True, type='mae_backbone.TopKAccuracy', topk=(1, 5))
train_dataloader = None
val_dataloader = None
val_evaluator = None
val_cfg = None
