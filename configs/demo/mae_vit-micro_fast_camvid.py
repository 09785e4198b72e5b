"""MAE pretraining of a 1.2 M parameter ViT on street scenes with less arithmetic per image.

Run     mae-backbone pretrain mae_vit-micro_fast_camvid --data-root camvid/images/training
Data    camvid/images/training/*.jpg (367 frames of 480x360), or any folder of images
Costs   0.64 of the FLOPs of mae_vit-micro_camvid: `mae-backbone benchmark flops mae_vit-micro_fast_camvid --against
        mae_vit-micro_camvid`
Expect  after half of the time, a transfer that is worse than from mae_vit-micro_camvid with each of three seeds:
        docs/pretraining.md
"""
_base_ = ['./mae_vit-micro_camvid.py']

# Sources: configs/_base_/models/mae-fast_vit-b.py and configs/_base_/schedules/mae-fast_800e.py. The sizes are
# 5/7, 6/7 and all of the crop, rounded to patches of 8. The decoder has one block already.
model = dict(predict_ratio=0.5)
default_hooks = dict(
    image_sizes=dict(type='mae_backbone.ImageSizeHook', stages=[(0, 48), (1 / 3, 56), (2 / 3, 64)]))
