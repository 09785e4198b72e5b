"""COCO-Stuff, 164,000 images, 171 classes, crops of 512 (mmseg, configs/_base_/datasets/coco-stuff164k.py)."""
_base_ = ['./segmentation-512x512.py']

data_root = 'data/coco_stuff164k'
dataset = dict(type='COCOStuffDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(
    **dataset, data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017')))
val_dataloader = dict(dataset=dict(
    **dataset, data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017')))
test_dataloader = val_dataloader
